"""Which files of a BraTS folder belong together: the names of the challenges of 2017 to 2024, and volumes sliced beforehand."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medanomaly.datasets.findings import Finding
from medanomaly.datasets.walk_files import image_files
from medanomaly.errors import InputError

MODALITIES = ("flair", "t1", "t1ce", "t2")
"""T2-FLAIR, T1, T1 with contrast agent, T2."""
SEG = "seg"
SPOKEN = {"t2f": "flair", "t1n": "t1", "t1c": "t1ce", "t1gd": "t1ce", "t2w": "t2"}
"""Names of the challenges since 2023, and the Gd of some copies, in the words of those before."""
KINDS = "flair|t1ce|t1gd|t1n|t1c|t1|t2f|t2w|t2|seg"

VOLUME = re.compile(rf"(?P<case>brats[A-Za-z0-9_-]*?)[_-](?P<kind>{KINDS})\.nii(?:\.gz)?", re.IGNORECASE)
"""``BraTS20_Training_001_flair.nii``, ``BraTS-GLI-00000-000-t2f.nii.gz``."""
SLICE = re.compile(
    rf"(?P<case>brats_(?:train|val|test)[a-z]*_[A-Za-z0-9-]+)_(?P<kind>{KINDS})_(?P<number>\d{{1,4}})(?:_w)?\.nii(?:\.gz)?",
    re.IGNORECASE,
)
"""``brats_train_006_flair_081_w.nii.gz``, as prepared for Wolleb et al. 2022 (arXiv:2203.04306)."""
SLICE_LABEL = re.compile(r"(?P<folder>.+)-label\.nii(?:\.gz)?", re.IGNORECASE)
"""``test_labels/000247-label.nii.gz``: the segmentation of the one slice in the folder ``000247``."""
OTHER_SEG = re.compile(r".+_segm?\.nii(?:\.gz)?", re.IGNORECASE)
"""BraTS20_Training_355 has its segmentation under the name ``W39_1998.09.19_Segm.nii``."""

EXPECTED = (
    "give the folder that holds subjects such as BraTS20_Training_001/BraTS20_Training_001_{flair,t1,t1ce,t2,seg}.nii.gz, "
    "BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz, or slices such as "
    "000247/brats_train_006_{flair,t1,t1ce,t2,seg}_081_w.nii.gz"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One examination: a volume of each kind, or slices of them."""

    id: str
    """The name its files begin with."""
    patient: str
    """Without the number of the time point where the release has one."""
    slices: tuple[tuple[int | None, dict[str, Path]], ...]
    """(slice number, kind -> file) in rising order; one entry with the number None where the files are volumes."""

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """Of its slices; None = its files are volumes."""
        numbers = tuple(number for number, _ in self.slices if number is not None)
        return numbers or None

    @property
    def files(self) -> list[Path]:
        """All of its files."""
        return [path for _, parts in self.slices for path in parts.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a folder holds."""

    cases: tuple[Case, ...]
    """With all that was asked for, by id."""
    findings: tuple[Finding, ...]
    """What was left out, and why."""


def find_cases(root: Path, modalities: Sequence[str]) -> Layout:
    """The annotated cases below ``root`` that have every modality asked for.

    Folders may be nested in any way; a case is the files of one folder with one name in front. Hidden files and links out of
    ``root`` are not looked at.

    Raises:
        InputError: E_MISSING, E_NOT_REGULAR (root); E_LAYOUT (no file has a name of BraTS, or volumes and slices are mixed);
            E_EMPTY (no case is complete).
    """
    names = [root / path for path in image_files(root)]
    parts, is_sliced = grouped(root, names)
    renamed = add_other_segs(parts, names, is_sliced=is_sliced)
    wanted = (*modalities, SEG)
    twins = keep_first_folder(parts, wanted)
    lacking = {key: [kind for kind in wanted if kind not in files] for key, (files, _) in parts.items()}
    unlabelled = [spoken(key) for key, kinds in lacking.items() if kinds == [SEG]]
    incomplete = [f"{spoken(key)} ({', '.join(kinds)})" for key, kinds in lacking.items() if kinds not in ([], [SEG])]
    cases: dict[str, list[tuple[int | None, dict[str, Path]]]] = defaultdict(list)
    for key, (files, _) in parts.items():
        if not lacking[key]:
            cases[key[1]].append((key[2], {kind: files[kind] for kind in wanted}))
    if not cases:
        raise InputError(
            f"holds no annotated subject with {', '.join(modalities)}: {len(unlabelled)} have no segmentation, "
            f"{len(incomplete)} lack a modality, the first: {(unlabelled + incomplete)[0]}",
            code="E_EMPTY",
            fix="give the training data, validation subjects have no published segmentation",
            path=root,
        )
    unit = "slices" if is_sliced else "subjects"
    doubled = [spoken(key) for key, (_, extra) in parts.items() if extra]
    return Layout(
        cases=tuple(
            Case(id=case, patient=patient_of(case), slices=tuple(sorted(found, key=lambda part: part[0] or 0)))
            for case, found in sorted(cases.items())
        ),
        findings=(
            *some("W_MISSING", f"{unit} left out, files are missing", incomplete, "fetch the files, or ask for fewer modalities"),
            *some("W_NO_SEG", f"{unit} left out, they have no segmentation", unlabelled),
            *some("W_DUPLICATE", f"{unit} found in a second folder, which is not read", twins, "keep one of each"),
            *some("W_DUPLICATE", f"{unit} with two files of one kind, the first by name is read", doubled, "keep one of each"),
            *some("W_SEG_NAME", "segmentations are read from a file of another name", renamed),
            *several_releases(cases),
        ),
    )


Key = tuple[Path, str, int | None]
"""(folder, case, slice number)."""
Parts = dict[Key, tuple[dict[str, Path], list[Path]]]
"""key -> (kind -> file, files of a kind that is there already)."""


def grouped(root: Path, names: Sequence[Path]) -> tuple[Parts, bool]:
    """The files by folder, case and slice, and whether they are slices; in the order of the names."""
    slices = [(path, SLICE.fullmatch(path.name)) for path in names]
    volumes = [volume_name(path) for path in names]
    is_sliced = any(match for _, match in slices)
    if is_sliced == any(match for _, match in volumes):
        raise InputError(
            "holds both volumes and slices of BraTS"
            if is_sliced
            else f"holds no file with a name of BraTS ({len(names)} images)",
            code="E_LAYOUT",
            fix="give the folder of one of them" if is_sliced else EXPECTED,
            path=root,
        )
    parts: Parts = defaultdict(lambda: ({}, []))
    for path, (place, match) in zip(names, slices if is_sliced else volumes, strict=True):
        if match is None:
            continue
        kind = match["kind"].lower()
        files, extra = parts[place.parent, match["case"], int(match["number"]) if is_sliced else None]
        if files.setdefault(SPOKEN.get(kind, kind), path) != path:
            extra.append(path)
    return parts, is_sliced


def volume_name(path: Path) -> tuple[Path, re.Match[str] | None]:
    """What is named like a volume: the file, or the folder of that name which some unpacking puts around a file of another."""
    folder = VOLUME.fullmatch(path.parent.name)
    return (path.parent, folder) if folder else (path, VOLUME.fullmatch(path.name))


def add_other_segs(parts: Parts, names: Sequence[Path], *, is_sliced: bool) -> list[str]:
    """Adds segmentations under another name, where the usual one is not there and it is clear whose they are.

    Returns:
        The unusual names, not those of separate label files, which belong to the layout of slices.
    """
    found = []
    in_folder: dict[Path, list[Key]] = defaultdict(list)
    for key in parts:
        in_folder[key[0]].append(key)
    of_name: dict[str, list[Key]] = defaultdict(list)
    for folder, keys in in_folder.items():
        of_name[folder.name] += keys
    for path in names:
        if is_sliced:
            match = SLICE_LABEL.fullmatch(path.name)
            owners = of_name.get(match["folder"], []) if match else []
        else:
            owners = in_folder.get(path.parent, []) if OTHER_SEG.fullmatch(path.name) else []
        owners = [key for key in owners if SEG not in parts[key][0]]
        if len(owners) == 1:
            parts[owners[0]][0][SEG] = path
            found += [] if is_sliced else [f"{spoken(owners[0])} ({path.name})"]
    return found


def keep_first_folder(parts: Parts, wanted: Sequence[str]) -> list[str]:
    """Takes away what is in another folder too, keeps the most complete and of those the first by path; says what it was."""
    seen: set[tuple[str, int | None]] = set()
    twins = []
    num_lacking = {key: sum(kind not in files for kind in wanted) for key, (files, _) in parts.items()}
    for key in sorted(parts, key=lambda key: (num_lacking[key], key[0].as_posix(), key[1], key[2] or 0)):
        if key[1:] in seen:
            twins.append(spoken(key))
            del parts[key]
        seen.add(key[1:])
    return twins


def patient_of(case: str) -> str:
    """The patient of a case: ``Brats17..19_X_1`` and ``BraTS-GLI-00000-001`` end with the number of the examination."""
    if re.match(r"brats1[0-9]_", case, re.IGNORECASE):
        return re.sub(r"_\d+$", "", case)
    return re.sub(r"^(brats-[a-z-]+-\d+)-\d+$", r"\1", case, flags=re.IGNORECASE)


def several_releases(cases: Iterable[str]) -> list[Finding]:
    """The warning that one patient may be there under two names."""
    releases = sorted({re.match(r"[A-Za-z]+(?:\d+|(?:-[A-Za-z]+)*)", case)[0] for case in cases})  # type: ignore[index]
    if len(releases) < 2:
        return []
    message = f"{len(releases)} releases of BraTS in one folder; a patient may be in several under different names"
    return [Finding(code="W_RELEASES", message=message, ids=tuple(releases), fix="give one release")]


def spoken(key: Key) -> str:
    """A case or slice in words."""
    _, case, number = key
    return case if number is None else f"{case} slice {number}"


def some(code: str, what: str, ids: Sequence[str], fix: str = "") -> list[Finding]:
    """A finding that counts its ids; none where there are no ids."""
    return [Finding(code=code, message=f"{len(ids)} {what}", ids=tuple(ids), fix=fix)] if ids else []
