"""A tiny CheXpert with CheXlocalize's masks: the published folders, columns and quirks, with generated films and made-up people."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medanomaly.datasets.phantom import draw_phantom
from medanomaly.types import BoolArray

OPTIONS = ["--masks", "gt_segmentations_val.json"]
CHANNELS = 1

NAME = "CheXpert-v1.0"
OBSERVATIONS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation"),
    *("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
HEADER = ",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS])
SEGMENTED = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Airspace Opacity", "Edema", "Consolidation"),
    *("Atelectasis", "Pneumothorax", "Pleural Effusion", "Support Devices"),
)

# (film, sex, age, AP/PA, observations) as in the published tables; patients are numbered, and odd ones have an effusion.
Row = tuple[str, str, int, str, dict[str, str]]
CLEAR = {"No Finding": "1.0"}
FLUID = {"Pleural Effusion": "1.0", "Lung Opacity": "1.0"}
TRAIN: tuple[Row, ...] = (
    ("patient00001/study1/view1_frontal", "Female", 68, "AP", FLUID | {"Support Devices": "1.0"}),
    ("patient00002/study1/view1_frontal", "Male", 0, "PA", CLEAR),
    ("patient00002/study1/view2_lateral", "Male", 0, "", CLEAR),
    ("patient00003/study1/view1_frontal", "Unknown", 41, "AP", FLUID | {"Edema": "-1.0"}),
    ("patient00003/study2/view1_frontal", "Unknown", 41, "PA", FLUID | {"Edema": "0.0"}),
    ("patient00004/study1/view1_frontal", "Male", 55, "PA", CLEAR | {"Pleural Effusion": "0.0"}),
    ("patient00005/study1/view1_frontal", "Female", 90, "AP", FLUID),
    ("patient00006/study1/view1_frontal", "Female", 22, "PA", CLEAR),
    ("patient00006/study2/view1_frontal", "Female", 23, "AP", CLEAR | {"Support Devices": "1.0"}),
    ("patient00007/study1/view1_frontal", "Male", 63, "AP", FLUID),
    ("patient00007/study1/view2_lateral", "Male", 63, "", FLUID),
    ("patient00008/study1/view1_frontal", "Male", 37, "AP", CLEAR),
    # Neither class; uncertain; both at once; a projection that is neither AP nor PA.
    ("patient00010/study1/view1_frontal", "Male", 71, "AP", {"Cardiomegaly": "1.0"}),
    ("patient00011/study1/view1_frontal", "Female", 80, "AP", {"Pleural Effusion": "-1.0", "Atelectasis": "-1.0"}),
    ("patient00012/study1/view1_frontal", "Male", 33, "PA", CLEAR | {"Pleural Effusion": "-1.0"}),
    ("patient00013/study1/view1_frontal", "Male", 48, "AP", CLEAR | FLUID),
    ("patient00014/study1/view1_frontal", "Female", 52, "LL", CLEAR),
    # Listed twice, with equal and with different labels.
    ("patient00016/study1/view1_frontal", "Female", 29, "PA", CLEAR),
    ("patient00016/study1/view1_frontal", "Female", 29, "PA", CLEAR),
    ("patient00017/study1/view1_frontal", "Male", 66, "AP", FLUID),
    ("patient00017/study1/view1_frontal", "Male", 66, "AP", CLEAR),
)
NOTHING = dict.fromkeys(OBSERVATIONS, "0.0")
VALID: tuple[Row, ...] = (
    ("patient64541/study1/view1_frontal", "Male", 73, "AP", NOTHING | FLUID),
    ("patient64542/study1/view1_frontal", "Male", 70, "PA", NOTHING | CLEAR),
    ("patient64542/study1/view2_lateral", "Male", 70, "", NOTHING | CLEAR),
    ("patient64543/study1/view1_frontal", "Female", 85, "AP", NOTHING | FLUID),
    ("patient64544/study1/view1_frontal", "Female", 42, "PA", NOTHING | CLEAR),
    ("patient64545/study1/view1_frontal", "Male", 55, "AP", NOTHING | FLUID),
    ("patient64546/study1/view1_frontal", "Female", 61, "AP", NOTHING | CLEAR),
    # The films of one study; the effusion is drawn on neither, although the study has it.
    ("patient64547/study1/view1_frontal", "Male", 88, "AP", NOTHING | FLUID),
    ("patient64547/study1/view2_frontal", "Male", 88, "AP", NOTHING | FLUID),
    ("patient64548/study1/view1_frontal", "Female", 59, "AP", NOTHING | {"Cardiomegaly": "1.0"}),
)
UNDRAWN = "patient64547"


def build(root: Path) -> None:
    """Write ``CheXpert-v1.0/`` and ``gt_segmentations_val.json`` below ``root``."""
    segmentations = {}
    for part, rows in (("train", TRAIN), ("valid", VALID)):
        write_table(root / NAME / f"{part}.csv", part, rows)
        for film, *_ in rows:
            pixels, mask = picture(film)
            write_jpeg(root / NAME / part / f"{film}.jpg", pixels)
            drawn = {"Pleural Effusion": mask & (UNDRAWN not in film), "Airspace Opacity": mask}
            entry = {name: encoded(drawn.get(name, np.zeros_like(mask))) for name in SEGMENTED}
            if part == "valid":
                segmentations[film.replace("/", "_")] = entry
    text = json.dumps(segmentations, indent=1)
    (root / "gt_segmentations_val.json").write_text(f"{text}\n", encoding="utf-8")


def write_table(path: Path, part: str, rows: Sequence[Row], name: str = NAME) -> None:
    """A table with the published columns."""
    lines = [HEADER]
    for film, sex, age, projection, observations in rows:
        side = "Frontal" if "frontal" in film else "Lateral"
        cells = [f"{name}/{part}/{film}.jpg", sex, str(age), side, projection, *(observations.get(o, "") for o in OBSERVATIONS)]
        lines.append(",".join(cells))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@functools.cache
def picture(film: str) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], BoolArray]:
    """(64, 56) pixels of a film and its effusion; like the published films, it is no square."""
    patient, study, view = film.split("/")
    number = int(patient.removeprefix("patient"))
    phantom = draw_phantom(0, number, 10 * int(study[-1]) + int(view[4]), diseased=number % 2 == 1)
    return phantom.pixels[:, 4:60], phantom.mask[:, 4:60]


def write_jpeg(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """An 8-bit gray JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=90)


def encoded(mask: BoolArray) -> dict[str, list[int] | str]:
    """A mask as CheXlocalize writes it."""
    return {"size": list(mask.shape), "counts": packed(runs(mask))}


def runs(mask: BoolArray) -> list[int]:
    """Lengths of the runs of equal values down the columns, zeros first."""
    values = mask.T.ravel()
    ends = np.flatnonzero(np.diff(values)) + 1
    lengths = np.diff([0, *ends, values.size]).tolist()
    return [0, *lengths] if values[0] else lengths


def packed(lengths: Sequence[int]) -> str:
    """COCO's text of run lengths: signed differences in groups of five bits, lowest first."""
    text = ""
    for index, length in enumerate(lengths):
        value = length - (lengths[index - 2] if index > 2 else 0)
        while True:
            group, value = value & 31, value >> 5
            is_last = value == (-1 if group & 16 else 0)
            text += chr(48 + (group if is_last else group | 32))
            if is_last:
                break
    return text


if __name__ == "__main__":
    build(Path(__file__).resolve().parents[1] / "data" / "chexpert" / "example")
