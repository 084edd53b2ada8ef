"""A tiny ChestX-ray14: the published files, columns and quirks, with generated films and made-up people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import find_objects, label

from medanomaly.datasets.phantom import Phantom, draw_phantom

SIDE = 48
OPTIONS = ["--image_size", str(SIDE)]
CHANNELS = 1

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
CLEAR = "No Finding"

# (patient, follow-up, labels, view); patients with odd numbers have an effusion.
TRAIN = (
    (1, 0, "Effusion", "PA"),
    (1, 1, "Atelectasis|Effusion", "AP"),
    (2, 0, CLEAR, "PA"),
    (2, 1, CLEAR, "AP"),
    (3, 0, "Effusion|Infiltration", "AP"),
    (4, 0, CLEAR, "PA"),
    (5, 0, "Effusion", "PA"),
    (6, 0, CLEAR, "AP"),
    (7, 0, "Cardiomegaly|Effusion", "AP"),
    (8, 0, CLEAR, "PA"),
    # Neither healthy nor diseased.
    (10, 0, "Cardiomegaly", "PA"),
)
TEST = (
    (21, 0, "Effusion", "PA"),
    (21, 1, "Effusion|Mass", "AP"),
    (22, 0, CLEAR, "PA"),
    (23, 0, "Effusion", "PA"),
    (24, 0, CLEAR, "AP"),
)
BOXED = ((21, 0), (23, 0))
OTHER_BOX = (21, 1, "Infiltrate")
"""Boxes of other findings, under a name that the table of labels does not have."""
RGBA = (4, 0)
"""A film stored with four channels, as a few hundred of the set are."""


def name_of(patient: int, follow_up: int) -> str:
    return f"{patient:08d}_{follow_up:03d}.png"


def film(patient: int, follow_up: int) -> Phantom:
    return draw_phantom(14, patient, follow_up, diseased=patient % 2 == 1, image_size=SIDE)


def boxes(patient: int, follow_up: int) -> list[tuple[float, float, float, float]]:
    """x, y, w, h around the fluid in px of a PNG of 1024 x 1024."""
    parts, _ = label(film(patient, follow_up).mask)
    scale = 1024 / SIDE
    return [
        (x.start * scale, y.start * scale, (x.stop - x.start) * scale, (y.stop - y.start) * scale) for y, x in find_objects(parts)
    ]


def build(root: Path) -> None:
    """Write the tables, the lists and ``images_001/images``, ``images_002/images`` below ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    rows, drawn = [HEADER], [BOX_HEADER]
    for patient, follow_up, labels, view in (*TRAIN, *TEST):
        # Higher than wide for AP: stretched to a square, such a film has pixels that are no squares.
        size = "2500,2048,0.168,0.168" if view == "PA" else "2048,2500,0.171,0.171"
        rows.append(f"{name_of(patient, follow_up)},{labels},{follow_up},{patient},{40 + patient},M,{view},{size},")
        write_film(root / f"images_{1 + patient // 20:03d}" / "images", patient, follow_up)
    for patient, follow_up in BOXED:
        drawn += [f"{name_of(patient, follow_up)},Effusion,{x},{y},{w},{h},,," for x, y, w, h in boxes(patient, follow_up)]
    drawn.append(f"{name_of(*OTHER_BOX[:2])},{OTHER_BOX[2]},100.5,200.25,300,150,,,")
    (root / "Data_Entry_2017.csv").write_text("\n".join(rows) + "\n")
    (root / "BBox_List_2017.csv").write_text("\n".join(drawn) + "\n")
    for list_name, part in (("train_val_list.txt", TRAIN), ("test_list.txt", TEST)):
        # The published lists have no line break at their end.
        (root / list_name).write_text("\n".join(name_of(patient, follow_up) for patient, follow_up, _, _ in part))


def write_film(folder: Path, patient: int, follow_up: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    gray = film(patient, follow_up).pixels
    opaque = np.full_like(gray, 255)
    pixels = np.stack([gray, gray, gray, opaque], axis=-1) if (patient, follow_up) == RGBA else gray
    Image.fromarray(pixels).save(folder / name_of(patient, follow_up))
