"""Images per second of `medanomaly preprocess`, in one process and in two, on drawn films.

    python benchmarks/preprocess.py --num_images 120

Draws 1024 x 1024 8-bit JPEG and PNG films (CheXpert's full size is two to three times that a side, NIH's is just that) and
2000 x 2500 DICOM films (uncompressed, 12 bits stored, MONOCHROME1, a window), smooth blobs with detector noise, in a temporary folder;
resizes each set to 256 x 256; prints JSON, and a table on stderr. Each number is the best of ``--repeats`` runs: what else the machine
does only makes it worse. Not in the rate is the time to import the package and to start the first processes. The CPU time of one image
in one process hardly depends on what else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import zoom

from medanomaly.datasets.preprocess import ResizeConfig, Work
from medanomaly.datasets.preprocess_plan import work_of_tree
from medanomaly.evaluation.bulk_preprocess import preprocess_all


def film(index: int, rows: int, columns: int, white: int) -> np.ndarray:
    """(rows, columns) uint16 in 0..white: smooth blobs and noise of 1 %, so that codecs work as on a film."""
    random = np.random.default_rng(index)
    coarse = random.random((12, 12))
    smooth = zoom(coarse, (rows / 12, columns / 12), order=1)[:rows, :columns]
    noisy = smooth + random.normal(0, 0.01, smooth.shape)
    return np.asarray(np.rint(np.clip(noisy, 0, 1) * white), dtype=np.uint16)


def write_raster(path: Path, index: int) -> None:
    """A 1024 x 1024 8-bit film, as its suffix says."""
    Image.fromarray(film(index, 1024, 1024, 255).astype(np.uint8)).save(path, quality=90)


def write_dicom(path: Path, index: int) -> None:
    """A 2500 x 2000 12-bit film as DICOM."""
    stored = film(index, 2500, 2000, 4095)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(index)])
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)


SETS: dict[str, tuple[str, Callable[[Path, int], None], int]] = {
    "JPEG 1024 x 1024": (".jpg", write_raster, 1),
    "PNG 1024 x 1024": (".png", write_raster, 1),
    "DICOM 2000 x 2500": (".dcm", write_dicom, 4),
}
"""Name -> (suffix, who draws one, how many fewer are drawn)."""


def rate(works: list[Work], workers: int, equalise: str, folder: Path) -> tuple[float, float]:
    """(images per second, CPU milliseconds of this process an image) of one run into a new folder."""
    config = ResizeConfig(size=256, equalise=equalise)  # type: ignore[arg-type]
    # Imports, and starts the server that workers are forked from.
    preprocess_all(works[:2], folder / "warm", config, workers=workers)
    started, cpu = time.perf_counter(), time.process_time()
    summary, _ = preprocess_all(works, folder / "all", config, workers=workers)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    if summary.ok != len(works):
        raise RuntimeError(f"{summary.failed} images failed: {summary.reasons}")
    return len(works) / seconds, 1000 * cpu_seconds / len(works)


def main() -> int:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num_images", type=int, default=120, help="JPEG and PNG films; a quarter as many DICOM films")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        for title, (suffix, draw, fewer) in SETS.items():
            folder = Path(name, suffix[1:])
            folder.mkdir()
            for index in range(max(4, arguments.num_images // fewer)):
                draw(folder / f"{index}{suffix}", index)
            works = work_of_tree(folder)
            megabytes = sum(work.record.image.stat().st_size for work in works) / len(works) / 1e6
            for equalise in ("none", "clahe"):
                best: dict[int, tuple[float, float]] = {}
                for repeat in range(arguments.repeats):
                    for workers in arguments.workers:
                        made = rate(works, workers, equalise, Path(name, f"out{suffix}-{equalise}-{workers}-{repeat}"))
                        before = best.get(workers, made)
                        best[workers] = (max(before[0], made[0]), min(before[1], made[1]))
                results += [
                    {
                        "set": title,
                        "equalise": equalise,
                        "workers": workers,
                        "images": len(works),
                        "mb_per_image": round(megabytes, 2),
                    }
                    | {"images_per_s": round(per_second, 1)}
                    | ({"cpu_ms_per_image": round(cpu_ms, 1)} if workers == 1 else {})
                    for workers, (per_second, cpu_ms) in best.items()
                ]
    print(json.dumps({"cpu_count": os.cpu_count(), "load": os.getloadavg(), "results": results}, indent=1))
    print(
        "\n| films | equalise | workers | images/s | times one worker | CPU ms an image |\n|---|---|---|---|---|---|",
        file=sys.stderr,
    )
    for row in results:
        one = next(r for r in results if (r["set"], r["equalise"]) == (row["set"], row["equalise"]))
        ratio = float(str(row["images_per_s"])) / float(str(one["images_per_s"]))
        cells = [
            row["set"],
            row["equalise"],
            row["workers"],
            row["images_per_s"],
            f"{ratio:.2f}",
            row.get("cpu_ms_per_image", ""),
        ]
        print(f"| {' | '.join(map(str, cells))} |", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
