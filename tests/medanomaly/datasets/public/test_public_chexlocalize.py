import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tree_chexpert import NAME, VALID, build, encoded, picture

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.public.chexpert import chexpert
from medanomaly.datasets.public.listing import Listing
from medanomaly.errors import InputError
from medanomaly.io.reader import read_mask
from medanomaly.io.writers import write_png

FILMS = [row[0] for row in VALID if "frontal" in row[0]]
DRAWN = [film for film in FILMS if int(film[7:12]) in (64541, 64543, 64545)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chexlocalize")
    build(root)
    return root


@pytest.fixture
def tree(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "set"))


def listed(tree: Path, masks: str | Path = "gt_segmentations_val.json", **options: Any) -> Listing:
    return chexpert(tree, tree.parent / "out", masks=tree / masks, **options)


def of_test(listing: Listing) -> dict[str, Record]:
    return {record.id.split("/", 1)[1].removesuffix(".jpg"): record for record in listing.records if record.split == "test"}


def refused(tree: Path, masks: str | Path = "gt_segmentations_val.json", **options: Any) -> InputError:
    with pytest.raises(InputError) as error:
        listed(tree, masks, **options)
    return error.value


def edit(tree: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = tree / "gt_segmentations_val.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def key(film: str) -> str:
    return film.replace("/", "_")


def test_masks_are_written_as_drawn_and_empty_entries_are_told_apart(tree: Path) -> None:
    found = listed(tree)
    records = of_test(found)
    assert {film for film, record in records.items() if record.mask is not None} == set(DRAWN)
    for film in DRAWN:
        mask = records[film].mask
        assert mask is not None
        assert mask == tree.parent / "out" / "masks" / "Pleural_Effusion" / f"{key(film)}.png"
        assert (read_mask(mask) == picture(film)[1]).all()
        assert picture(film)[1].any()
    healthy = {film for film, record in records.items() if record.label == "healthy"}
    assert {film for film, record in records.items() if record.annotated_empty} == healthy
    assert len(healthy) == 3
    # Nobody drew the effusion of these films: that is not "no lesion".
    undrawn = {f"valid/{film}.jpg" for film in FILMS if "patient64547" in film}
    assert {finding.ids for finding in found.findings if finding.code == "W_MASK_EMPTY"} == {tuple(sorted(undrawn))}
    training = [record for record in found.records if record.split != "test"]
    assert all(record.mask is None and not record.annotated_empty for record in training)


def test_a_film_that_is_not_listed_is_not_annotated_and_a_missing_entry_is_an_empty_one(tree: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        del content["patient64542_study1_view1_frontal"]
        del content["patient64544_study1_view1_frontal"]["Pleural Effusion"]

    edit(tree, change)
    records = of_test(listed(tree))
    assert not records["patient64542/study1/view1_frontal"].annotated_empty
    assert records["patient64544/study1/view1_frontal"].annotated_empty


def test_the_published_name_of_lung_opacity_is_understood(tree: Path) -> None:
    assert of_test(listed(tree, observation="Lung Opacity"))[DRAWN[0]].mask is not None


def test_an_observation_nobody_segmented_gives_no_mask_to_the_diseased(tree: Path) -> None:
    records = of_test(listed(tree, observation="Fracture", keep_unlabelled=True))
    assert {record.mask for record in records.values()} == {None}
    assert {record.annotated_empty for record in records.values()} == {True}


def test_a_healthy_film_with_a_mask_is_left_out_and_told(tree: Path) -> None:
    film = "patient64542/study1/view1_frontal"
    edit(tree, lambda content: content[key(film)].update({"Pleural Effusion": encoded(np.ones((64, 56), bool))}))
    found = listed(tree)
    assert film not in of_test(found)
    assert (f"valid/{film}.jpg",) in [finding.ids for finding in found.findings if finding.code == "W_LABEL_CONFLICT"]


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"size": [64, 56]}, "E_MALFORMED"),
        ({"size": 64, "counts": "0"}, "E_MALFORMED"),
        ({"size": [64], "counts": "0"}, "E_MALFORMED"),
        ({"size": [64.0, 56], "counts": [3584]}, "E_MALFORMED"),
        ({"size": [True, 3584], "counts": [3584]}, "E_MALFORMED"),
        ({"size": [64, 56], "counts": 5}, "E_MALFORMED"),
        ("text", "E_MALFORMED"),
        ({"size": [64, 56], "counts": "5"}, "E_MALFORMED"),
        ({"size": [64, 56], "counts": "\u00e9"}, "E_MALFORMED"),
        ({"size": [0, 56], "counts": ""}, "E_HEADER"),
        ({"size": [1_000_000, 1_000_000], "counts": [10**12]}, "E_LIMIT"),
    ],
)
def test_an_entry_that_is_no_mask_is_refused_with_its_name(tree: Path, entry: Any, code: str) -> None:
    edit(tree, lambda content: content[key(DRAWN[0])].update({"Pleural Effusion": entry}))
    error = refused(tree)
    assert error.code == code
    assert str(error.path).endswith("gt_segmentations_val.json")
    assert code != "E_MALFORMED" or f"{key(DRAWN[0])}, Pleural Effusion" in error.message


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1]", '{"a": 1}', "\xff"])
def test_a_file_that_is_no_table_of_segmentations_is_refused(tree: Path, text: str) -> None:
    (tree / "gt_segmentations_val.json").write_bytes(text.encode("latin-1"))
    assert refused(tree).code == ("E_EMPTY" if text == "" else "E_MALFORMED")


def test_all_films_of_another_size_are_named_and_reduced_ones_can_have_their_masks_resized(tree: Path) -> None:
    for path in (tree / NAME / "valid").rglob("*.jpg"):
        with Image.open(path) as image:
            image.resize((28, 32)).save(path)
    error = refused(tree)
    assert error.code == "E_MASK_SIZE"
    assert all(film in error.message for film in DRAWN)
    assert "64 x 56 for 32 x 28" in error.message
    records = of_test(listed(tree, resize_masks=True))
    for film in DRAWN:
        mask = picture(film)[1]
        covered = mask.reshape(32, 2, 28, 2).sum(axis=(1, 3)) >= 2
        assert (read_mask(records[film].mask or Path()) == covered).all()


def test_a_mask_of_another_frame_is_refused_even_if_it_may_be_resized(tree: Path) -> None:
    mask = np.zeros((56, 64), bool)
    mask[3:9, 3:9] = True
    edit(tree, lambda content: content[key(DRAWN[0])].update({"Pleural Effusion": encoded(mask)}))
    assert refused(tree, resize_masks=True).code == "E_MASK_SIZE"


def test_masks_are_written_again_only_when_the_source_or_the_settings_change(tree: Path) -> None:
    listed(tree)
    target = tree.parent / "out" / "masks" / "Pleural_Effusion"
    first = target / f"{key(DRAWN[0])}.png"
    write_png(first, np.zeros((64, 56), bool))
    (target / f"{key(DRAWN[1])}.png").unlink()
    listed(tree)
    assert not read_mask(first).any()
    assert (read_mask(target / f"{key(DRAWN[1])}.png") == picture(DRAWN[1])[1]).all()
    edit(tree, lambda content: content.pop("patient64542_study1_view1_frontal"))
    listed(tree)
    assert read_mask(first).any()
    write_png(first, np.zeros((64, 56), bool))
    listed(tree, resize_masks=True)
    assert read_mask(first).any()


def test_the_progress_bar_goes_over_the_listed_films(tree: Path) -> None:
    seen: list[tuple[int, str]] = []

    def progress(items: Any, text: str) -> Any:
        seen.append((len(items), text))
        return items

    listed(tree, progress=progress)
    assert seen == [(8, "masks")]


@pytest.mark.parametrize(
    "pattern",
    [
        "{key}/Pleural Effusion.png",
        "{key}/Pleural_Effusion.png",
        "{key}_Pleural Effusion.png",
        "{key}_Pleural_Effusion.png",
        "{film}/Pleural Effusion.png",
    ],
)
def test_a_folder_of_png_masks_is_read_where_it_is(tree: Path, pattern: str) -> None:
    masks = tree / "drawn"
    for film in DRAWN:
        write_png(masks / pattern.format(key=key(film), film=film), picture(film)[1])
        write_png(masks / pattern.format(key=key(film), film=film).replace("Effusion", "Other"), np.ones((64, 56), bool))
    write_png(masks / pattern.format(key=key(FILMS[1]), film=FILMS[1]).replace("Effusion", "Other"), np.ones((64, 56), bool))
    write_png(masks / "overview.png", np.ones((64, 56), bool))
    records = of_test(listed(tree, "drawn"))
    assert {film: record.mask for film, record in records.items() if record.mask is not None} == {
        film: masks.resolve() / pattern.format(key=key(film), film=film) for film in DRAWN
    }
    # Somebody drew something else on this film, so it was looked at; on the others nobody drew anything.
    assert [film for film, record in records.items() if record.annotated_empty] == [FILMS[1]]
    assert not (tree.parent / "out").exists()


def test_the_folder_of_the_download_brings_both_files(tree: Path) -> None:
    folder = tree / "CheXlocalize"
    folder.mkdir()
    content = json.loads((tree / "gt_segmentations_val.json").read_text())
    first = {name: entry for name, entry in content.items() if "64541" in name}
    (folder / "gt_segmentations_val.json").write_text(json.dumps(first))
    (folder / "gt_segmentations_test.json").write_text(json.dumps({k: v for k, v in content.items() if k not in first}))
    records = of_test(listed(tree, "CheXlocalize"))
    assert {film for film, record in records.items() if record.mask is not None} == set(DRAWN)


def test_masks_that_are_not_there_or_of_other_films_are_refused(tree: Path) -> None:
    assert refused(tree, "absent.json").code == "E_MISSING"
    (tree / "empty").mkdir()
    assert refused(tree, "empty").code == "E_LAYOUT"
    write_png(tree / "empty" / "overview.png", np.ones((64, 56), bool))
    assert refused(tree, "empty").code == "E_LAYOUT"
    (tree / "gt_segmentations_val.json").write_text('{"patient64741_study1_view1_frontal": {}}')
    assert refused(tree).code == "E_EMPTY"


def test_a_relative_path_may_start_at_the_root(tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = chexpert(tree, tmp_path / "out", masks=Path("gt_segmentations_val.json"))
    assert found == chexpert(tree, tmp_path / "out", masks=tree / "gt_segmentations_val.json")
    shutil.copy(tree / "gt_segmentations_val.json", tmp_path / "mine.json")
    assert chexpert(tree, tmp_path / "out", masks=Path("mine.json")).records == found.records
