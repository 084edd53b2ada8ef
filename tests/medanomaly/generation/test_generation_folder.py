from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from toys import images

from medanomaly.datasets.dataset import read_sample
from medanomaly.datasets.manifest import read_manifest
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.evaluation.sample_sets import read_samples
from medanomaly.generation.drawing import Drawn
from medanomaly.generation.folder import file_name, remove_earlier, write_batch, write_collection
from medanomaly.generation.labels import Label
from medanomaly.io.options import ReadOptions


def written(out: Path, channels: int, labels: tuple[Label, Label]) -> torch.Tensor:
    """A folder of four images, drawn label by label; the images in their order."""
    x = images(4, channels=channels)
    batches = [
        Drawn(indices=(0, 2), label=labels[0], x=x[[0, 2]]),
        Drawn(indices=(1, 3), label=labels[1], x=x[[1, 3]]),
    ]
    records = [record for drawn in batches for record in write_batch(out, drawn)]
    write_collection(out, batches, records, title="toys")
    return x


def test_the_arrays_are_in_the_images_order_and_are_what_evaluate_samples_reads(tmp_path: Path) -> None:
    x = written(tmp_path, 1, (("T-shirt/top",), ("Bag",)))
    torch.testing.assert_close(read_samples(tmp_path / "samples.npz", channels=1, image_size=None).x, x)
    with np.load(tmp_path / "samples.npz") as stored:
        assert stored["labels"].tolist() == ["T-shirt/top", "Bag", "T-shirt/top", "Bag"]
    pictures = read_samples(tmp_path / "images", channels=1, image_size=None)
    assert pictures.ids == ("00000-T_shirt_top.png", "00001-Bag.png", "00002-T_shirt_top.png", "00003-Bag.png")
    torch.testing.assert_close(pictures.x, x, atol=1 / 255 + 1e-6, rtol=0)
    assert (tmp_path / "grid.png").read_bytes()[:4] == b"\x89PNG"


def test_the_manifest_names_the_class_or_the_findings_and_images_come_back_from_it(tmp_path: Path) -> None:
    for channels, tolerance in ((3, 1 / 255 + 1e-6), (4, 0)):
        out = tmp_path / str(channels)
        x = written(out, channels, (("Edema",), ("Edema", "Cardiomegaly")))
        records = read_manifest(out / "manifest.csv")
        assert [record.label for record in records] == ["Edema", None, "Edema", None]
        assert [record.observations for record in records[:2]] == [(), (("Edema", 1), ("Cardiomegaly", 1))]
        assert {(record.split, record.source) for record in records} == {("test", "generated")}
        read = [
            read_sample(record, PreprocessConfig(image_size=16, channels=channels), ReadOptions(channels=channels)).x
            for record in records
        ]
        torch.testing.assert_close(torch.stack(read), x, atol=tolerance, rtol=0)


def test_a_file_is_named_after_its_position_and_the_letters_of_its_label() -> None:
    assert file_name(7, ("Pleural Effusion", "Edema"), 1) == "00007-Pleural_Effusion_Edema.png"
    assert file_name(7, ("../x",), 3) == "00007-x.png"
    assert file_name(7, ("浮腫",), 3) == file_name(7, (), 3) == "00007.png"
    assert len(file_name(7, ("x" * 500,), 4)) < 80


def test_earlier_images_are_removed_and_nothing_else_is(tmp_path: Path) -> None:
    written(tmp_path, 1, (("a",), ()))
    for name in ("mine.png", "123.png", "00001-a.txt"):
        (tmp_path / "images" / name).write_text("")
    remove_earlier(tmp_path)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["00001-a.txt", "123.png", "mine.png"]
