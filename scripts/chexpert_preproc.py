"""Resize a CheXpert tree once before training, by the seed's command and flags.

    python scripts/chexpert_preproc.py --data_dir data/chexpert/example --out_dir runs/chexpert-256 --image_size 256 --equalize clahe

OUT_DIR gets the same tree with a gray .png for each .jpg, padded to a square, and train.csv, valid.csv and test.csv with their paths
changed likewise, so that `medanomaly data chexpert OUT_DIR` reads it as it reads the original. The same command again does what is
missing or has changed. CheXlocalize's masks are on the original grid: with them, make the manifest first and preprocess that. The same as
`medanomaly preprocess`, which has more options.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from seed_flags import Flag, command, folder_of, read_flags

PROG = "chexpert_preproc.py"
EQUALISE = {"none": "none", "clahe": "clahe", "hist": "histogram"}
FLAGS = {
    "data_dir": Flag(default="", means="folder that holds CheXpert-v1.0 or CheXpert-v1.0-small, or one of them itself"),
    "out_dir": Flag(default="", means="output folder"),
    "image_size": Flag(default=256, means="rows and columns of the result, px"),
    "equalize": Flag(default="none", means="clahe, hist or none", only=tuple(EQUALISE), why="there are clahe, hist and none"),
    "workers": Flag(default=0, means="processes; 0 = as many as there are cores"),
}


def main(words: Sequence[str]) -> int:
    """Preprocess the tree."""
    flags, _ = read_flags(words, [FLAGS], PROG)
    source, out = folder_of(flags, "data_dir"), folder_of(flags, "out_dir")

    # Here, because `command` chooses how threads wait before torch is imported.
    from medanomaly.cli.preprocess import preprocess

    equalise = EQUALISE[flags["equalize"]]
    return preprocess(source, out, size=flags["image_size"], equalise=equalise, gray=True, workers=flags["workers"] or None)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(command(main, PROG))
