"""Deblur a data set before training, by the seed's setting: motion blur, a kernel of size 10, a noise level of 0.5 gray levels.

    python scripts/deblur_dataset.py --data_dir data/cxr/manifest.csv --out_dir runs/cxr-deblurred --prior tv --kernel estimated

OUT_DIR gets the new images, a manifest.csv with the same ids, labels and splits, deblur.csv with kernel and verdict of each, and
report.html. The seed does not say which kernel its images were deblurred with: DiffPIR's published script blurs its input with a random
one, and knows it. A random kernel has nothing to do with a real image, so with the gate, which is on, such images stay as they are bit
for bit; --kernel estimated finds each image's own motion, and --gate false shows what the literal setting does. CheXpert as published
becomes a manifest by `medanomaly data chexpert`. The same as `medanomaly deblur`, which has more options.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from seed_flags import Flag, command, folder_of, read_flags

PROG = "deblur_dataset.py"
FLAGS = {
    "data_dir": Flag(default="", means="a manifest CSV, or a folder of images"),
    "out_dir": Flag(default="", means="output folder"),
    "prior": Flag(default="", means="checkpoint of an unconditional diffusion model, for DiffPIR; or tv, wiener, rl"),
    "blur_type": Flag(default="motion", only=("motion",), why="other blurs are given as --kernel 'gaussian 2' or 'given FILE'"),
    "kernel_size": Flag(default=10, means="side of the random kernel, px"),
    "kernel": Flag(default="", means="instead of the random one: estimated, 'linear 10@30', 'linear 1.8mm@30', 'given FILE'"),
    "noise_level": Flag(default=0.5, means="standard deviation of the noise on the 0..255 scale"),
    "steps": Flag(default=100, means="network evaluations an image"),
    "seed": Flag(default=0, means="of the random kernels, and of the noise that DiffPIR draws"),
    "gate": Flag(default=True, means="keep images as they are where the kernel does not fit or the result cannot be trusted"),
    "batch_size": Flag(default=4, means="images a forward pass"),
    "device": Flag(default="auto", means="auto, cpu, cuda, cuda:1, ..."),
}


def main(words: Sequence[str]) -> int:
    """Deblur the data set."""
    flags, _ = read_flags(words, [FLAGS], PROG)
    source, out = folder_of(flags, "data_dir"), folder_of(flags, "out_dir")
    prior = folder_of(flags, "prior")

    # Here, because `command` chooses how threads wait before torch is imported.
    from medanomaly.cli.deblur import deblur

    return deblur(
        str(prior),
        source,
        out,
        kernel=flags["kernel"] or f"random {flags['kernel_size']}",
        **{name: flags[name] for name in ("noise_level", "steps", "seed", "gate", "batch_size", "device")},
    )


if __name__ == "__main__":
    sys.exit(command(main, PROG))
