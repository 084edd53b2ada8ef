"""medanomaly data: phantom, folder, table and the names of published sets make a manifest; check says whether it can be trusted."""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from medanomaly.cli.output import refuse_existing
from medanomaly.cli.parsing import parsed, parser, run_function
from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.folder import folder_manifest
from medanomaly.datasets.hashes import hash_findings
from medanomaly.datasets.hashes import write_hashes as write_sums
from medanomaly.datasets.manifest import Record, read_manifest, write_manifest
from medanomaly.datasets.phantom import PhantomConfig, phantom_set
from medanomaly.datasets.public import PUBLIC_SETS
from medanomaly.datasets.table import TableColumns, table_records
from medanomaly.errors import ConfigError, InputError
from medanomaly.files import write_json
from medanomaly.io.options import ReadOptions

T = TypeVar("T")


def phantom(
    out: Path,
    num_patients: int = 120,
    images_per_patient: int = 2,
    image_size: int = 64,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    overwrite: bool = False,
) -> int:
    """Draw a labelled chest-phantom set with exact effusion masks; nothing is downloaded.

    Args:
        out: folder for images, masks, healthy twins and manifest.csv
        num_patients: every second one has an effusion
        images_per_patient: films of one patient
        image_size: rows and columns, px
        seed: two sets with different seeds share no patient
        fractions: of patients in train, val and test
        overwrite: replace an earlier set
    """
    refuse_existing(out / "manifest.csv", overwrite=overwrite)
    config = PhantomConfig(num_patients=num_patients, images_per_patient=images_per_patient, image_size=image_size, seed=seed)
    return say(phantom_set(config, out, fractions), out / "manifest.csv")


def folder(
    root: Path,
    out: Path | None = None,
    classes: tuple[str, ...] = ("healthy", "diseased"),
    val_fraction: float = 0.1,
    patient_pattern: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Manifest of a tree training/{healthy,diseased}, testing/{healthy,diseased}; masks in testing/masks or beside the images.

    Args:
        root: the folder that holds training/ and testing/
        out: the manifest to write; default ROOT/manifest.csv
        classes: class names, matched to folder names
        val_fraction: share of the training patients that becomes val
        patient_pattern: regular expression with one group that finds the patient in a path; default: the file's stem
        seed: of the choice of val patients
        overwrite: replace an earlier manifest
    """
    target = root / "manifest.csv" if out is None else out
    refuse_existing(target, overwrite=overwrite)
    records = folder_manifest(root, classes, val_fraction=val_fraction, seed=seed, patient_pattern=patient_pattern)
    write_manifest(records, target, allow_outside=True)
    return say(records, target)


def table(
    csv: Path,
    out: Path,
    columns: TableColumns = TableColumns(),
    labels: dict[str, str] | None = None,
    splits: dict[str, str] | None = None,
    where: dict[str, str | int | float] | None = None,
    val_fraction: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Manifest of any CSV whose columns are named here.

    Args:
        csv: the table; paths in it are relative to its folder
        out: the manifest to write
        columns: which column means what
        labels: cell to class name, e.g. '{"0": healthy, "1": diseased}'
        splits: cell to split, e.g. '{train: train, holdout: test}'
        where: keep only rows with these cells, e.g. '{use: "1"}'
        val_fraction: share of the train patients that becomes val
        seed: of that choice
        overwrite: replace an earlier manifest
    """
    refuse_existing(out, overwrite=overwrite)
    records = table_records(
        csv,
        columns,
        labels=cells_of("labels", labels),
        splits=cells_of("splits", splits),
        where=cells_of("where", where),
        val_fraction=val_fraction,
        seed=seed,
    )
    write_manifest(records, out, allow_outside=True)
    return say(records, out)


def cells_of(option: str, meaning: Mapping[str, str | int | float] | None) -> dict[str, str]:
    """What the user mapped cells to, with keys and values as they stand in a CSV; YAML reads 0 as a number and yes as true.

    Raises:
        ConfigError: E_CONFIG, a bare yes, no, true or false, whose spelling YAML does not keep.
    """
    for value in (word for pair in (meaning or {}).items() for word in pair):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ConfigError(
                f"--{option}: {value!r} is not text",
                code="E_CONFIG",
                fix="quote yes, no, true, false and null: '{\"yes\": diseased}'",
            )
    return {str(key): str(value) for key, value in (meaning or {}).items()}


def check(
    manifest: Path,
    deep: bool = False,
    healthy: str = "healthy",
    channels: int | None = None,
    allow_outside: bool = False,
    hashes: Path | None = None,
    write_hashes: Path | None = None,
    json_out: Path | None = None,
) -> int:
    """Refuse leakage, missing files, label and mask mismatches; exit code 4 if the manifest must not be used.

    Args:
        manifest: the CSV
        deep: also decode every image and mask
        healthy: name of the class without disease
        channels: with deep: how many channels the model takes, 1 gray, 3 colour; default: whatever each file holds
        allow_outside: the manifest may name files outside of its own folder
        hashes: compare every file with these SHA-256 sums
        write_hashes: write the SHA-256 sums of manifest, images and masks here, if the check passes
        json_out: write the findings as JSON here
    """
    if channels is not None and channels < 1:
        raise ConfigError(f"channels must be at least 1, got {channels}", code="E_CONFIG")
    options = ReadOptions(channels=channels)
    if write_hashes is not None:
        refuse_existing(write_hashes, overwrite=False)
    records = read_manifest(manifest, allow_outside=allow_outside)
    report = check_manifest(records, deep, healthy_class=healthy, options=options)
    if hashes is not None:
        report = replace(report, findings=(*report.findings, *hash_findings(records, manifest, hashes)))
    print(report)
    if json_out is not None:
        write_json(json_out, report.as_json())
    if not report.ok:
        raise InputError("must not be used as it is", code="E_CHECK", path=manifest, fix="mend the errors above")
    if write_hashes is not None:
        print(f"wrote {write_hashes}: {write_sums(records, manifest, write_hashes)} files")
    print("ok")
    return 0


def public(name: str, arguments: Sequence[str]) -> int:
    """``medanomaly data NAME ROOT``: the manifest of a published data set; its options are those of its reader."""
    reader = PUBLIC_SETS[name]
    made = parser(f"medanomaly data {name}", "", "ROOT [options]")
    made.add_function_arguments(reader, as_positional=True, fail_untyped=True, skip={"folder", "progress"})
    made.add_argument("--out", type=Path | None, default=None, help="the manifest to write; default ROOT/manifest.csv")
    made.add_argument("--overwrite", type=bool, default=False, help="replace an earlier manifest")
    values = parsed(made, arguments).as_dict()
    values.pop("config", None)
    out, overwrite = values.pop("out") or values["root"] / "manifest.csv", values.pop("overwrite")
    refuse_existing(out, overwrite=overwrite)
    listing = reader(folder=out.parent, progress=bar, **values)
    write_manifest(listing.records, out, allow_outside=True)
    for finding in listing.findings:
        print(f"warning: {finding}", file=sys.stderr)
    return say(listing.records, out)


def bar(items: Sequence[T], text: str) -> Iterator[T]:
    """The items under a progress bar on stderr."""
    yield from tqdm(items, desc=text, unit="file", file=sys.stderr)


def say(records: Sequence[Record], path: Path) -> int:
    """Print what a manifest holds."""
    counts = Counter((record.split or "no split", record.label or "no label") for record in records)
    for (split, label), count in sorted(counts.items()):
        print(f"{split:9s} {label:10s} {count:6d} images")
    print(f"wrote {path}")
    return 0


ACTIONS: dict[str, tuple[Callable[..., int], str]] = {
    "phantom": (phantom, "OUT [options]"),
    "folder": (folder, "ROOT [options]"),
    "table": (table, "CSV OUT [options]"),
    "check": (check, "MANIFEST [--deep true]"),
}


def main(arguments: Sequence[str]) -> int:
    """``medanomaly data ACTION ...``."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: medanomaly data ACTION ...\n\nactions:")
        for name, (function, usage) in ACTIONS.items():
            print(f"  {name:12s} {usage:24s} {(function.__doc__ or '').splitlines()[0]}")
        for name, reader in PUBLIC_SETS.items():
            print(f"  {name:12s} {'ROOT [options]':24s} {(reader.__doc__ or '').splitlines()[0]}")
        return 0
    if arguments[0] in PUBLIC_SETS:
        return public(arguments[0], arguments[1:])
    if arguments[0] not in ACTIONS:
        known = [*ACTIONS, *PUBLIC_SETS]
        near = difflib.get_close_matches(arguments[0], known, n=1)
        advice = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
        raise ConfigError(f"unknown action {arguments[0]!r}", code="E_USAGE", fix=advice)
    function, usage = ACTIONS[arguments[0]]
    return run_function(function, f"medanomaly data {arguments[0]}", usage, arguments[1:])
