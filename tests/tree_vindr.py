"""A tiny VinDr-CXR as PhysioNet publishes it: folders, columns and quirks, with generated films and made-up readers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import find_objects, label

from medanomaly.datasets.phantom import Phantom, draw_phantom

OPTIONS: list[str] = []
CHANNELS = 1

SIDE, COLUMNS = 48, 42
LOCAL = (
    *("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema"),
    *("Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift"),
    *(
        "Nodule/Mass",
        "Pleural effusion",
        "Pleural thickening",
        "Pneumothorax",
        "Pulmonary fibrosis",
        "Rib fracture",
        "Other lesion",
    ),
)
DIAGNOSES = ("COPD", "Lung tumor", "Pneumonia", "Tuberculosis")
FLUID, HEART, CLEAR = "Pleural effusion", "Cardiomegaly", "No finding"

# number of the film -> what each of three readers says; odd films have an effusion.
TRAIN: dict[int, dict[str, tuple[str, ...]]] = {
    0: {"R1": (CLEAR,), "R2": (CLEAR,), "R3": (CLEAR,)},
    1: {"R1": (FLUID,), "R2": (FLUID,), "R3": (FLUID,)},
    2: {"R4": (CLEAR,), "R5": (CLEAR,), "R6": (HEART,)},
    3: {"R1": (FLUID,), "R2": (FLUID, HEART), "R3": (CLEAR,)},
    4: {"R8": (CLEAR,), "R9": (CLEAR,), "R10": (CLEAR,)},
    5: {"R8": (FLUID,), "R9": (FLUID, "Pneumonia"), "R10": (FLUID, "Pneumonia")},
    6: {"R11": (CLEAR,), "R12": (CLEAR,), "R13": (CLEAR,)},
    7: {"R14": (FLUID,), "R15": (FLUID,), "R16": (HEART,)},
    # One reader of three sees the effusion; all see something else.
    9: {"R1": (FLUID,), "R2": (CLEAR,), "R3": (CLEAR,)},
    10: {"R5": (HEART,), "R6": (HEART,), "R7": (HEART,)},
}
TEST: dict[int, tuple[str, ...]] = {
    20: (CLEAR,),
    21: (FLUID,),
    22: (CLEAR,),
    23: (FLUID, HEART, "Other diseases"),
    24: (HEART,),
}
MONOCHROME1 = 3
"""The film that is stored with black and white exchanged, as some of the set are."""


def image_id(number: int) -> str:
    """32 hexadecimal digits, as the set names its images."""
    return hashlib.blake2b(f"example {number}".encode(), digest_size=16).hexdigest()


def film(number: int) -> Phantom:
    return draw_phantom(7, number, 0, diseased=number % 2 == 1, image_size=SIDE)


def edges(number: int, reader: int = 0) -> list[tuple[float, float, float, float]]:
    """Rectangles around the fluid, a little different for each reader."""
    left = (SIDE - COLUMNS) // 2
    parts, _ = label(film(number).mask[:, left : left + COLUMNS])
    shift = reader / 4
    return [(x.start + shift, y.start - shift, x.stop + shift, y.stop - shift) for y, x in find_objects(parts)]


def build(root: Path) -> None:
    """Write ``train/``, ``test/`` and ``annotations/`` below ``root``."""
    for part, numbers in (("train", TRAIN), ("test", TEST)):
        for number in numbers:
            write_film(root / part / f"{image_id(number)}.dicom", number)
    write_labels(root / "annotations")
    write_boxes(root / "annotations")


def write_labels(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = [*LOCAL, *DIAGNOSES, "Other diseases", CLEAR]
    lines = [",".join(["image_id", "rad_id", *names])]
    for number, readers in TRAIN.items():
        for reader, said in readers.items():
            lines.append(",".join([image_id(number), reader, *(str(int(name in said)) for name in names)]))
    (folder / "image_labels_train.csv").write_text("\n".join(lines) + "\n")
    # The test table has no reader, and spells one column without its s.
    lines = [",".join(["image_id", *("Other disease" if name == "Other diseases" else name for name in names)])]
    lines += [",".join([image_id(number), *(str(int(name in said)) for name in names)]) for number, said in TEST.items()]
    (folder / "image_labels_test.csv").write_text("\n".join(lines) + "\n")


def write_boxes(folder: Path) -> None:
    lines = ["image_id,rad_id,class_name,x_min,y_min,x_max,y_max"]
    for number, readers in TRAIN.items():
        for place, (reader, said) in enumerate(readers.items()):
            lines += [f"{image_id(number)},{reader},{row}" for row in box_rows(number, said, place)]
    (folder / "annotations_train.csv").write_text("\n".join(lines) + "\n")
    lines = ["image_id,class_name,x_min,y_min,x_max,y_max"]
    lines += [f"{image_id(number)},{row}" for number, said in TEST.items() for row in box_rows(number, said, 0)]
    (folder / "annotations_test.csv").write_text("\n".join(lines) + "\n")


def box_rows(number: int, said: tuple[str, ...], reader: int) -> list[str]:
    """Class and edges; blank edges for "No finding", and no row for a diagnosis."""
    rows = []
    for name in said:
        if name == CLEAR:
            rows.append(f"{CLEAR},,,,")
        elif name == FLUID:
            rows += [",".join([FLUID, *map(str, box)]) for box in edges(number, reader)]
        elif name == HEART:
            rows.append(f"{HEART},15.0,18.0,{28 + reader}.0,34.0")
    return rows


def write_film(path: Path, number: int) -> None:
    """12 bits in 16, as the detectors of the set store them."""
    left = (SIDE - COLUMNS) // 2
    stored = film(number).pixels[:, left : left + COLUMNS].astype(np.uint16) * 16
    is_inverted = number == MONOCHROME1
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    uid = generate_uid(entropy_srcs=["medanomaly example", str(number)])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if is_inverted else "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelSpacing = [7.0, 7.0]
    dataset.PixelData = (4095 - stored if is_inverted else stored).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
