"""A CheXpert tree small enough to train on in seconds, and the seed's commands run as a person runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
OBSERVATIONS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation"),
    *("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
TINY_MODEL = (
    *("--image_size", "32", "--channel_mult", "1,2", "--num_channels", "16", "--attention_resolutions", "16"),
    *("--num_res_blocks", "1", "--timestep_respacing", "ddim6", "--noise_level", "500"),
)


def chexpert_tree(root: Path, num_train: int = 24, num_valid: int = 4, side: int = 40) -> Path:
    """``root/CheXpert-v1.0-small`` with every second patient diseased (Pleural Effusion); films of side x (side + 8) px."""
    rng = np.random.default_rng(0)
    for part, count, first in (("train", num_train, 1), ("valid", num_valid, 64541)):
        lines = [",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS])]
        for index in range(count):
            name = f"CheXpert-v1.0-small/{part}/patient{first + index:05d}/study1/view1_frontal.jpg"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            film = rng.integers(0, 255, (side, side + 8), dtype=np.uint8)
            Image.fromarray(film).save(root / name, quality=90)
            healthy = index % 2 == 0
            found = {"No Finding": "1.0" if healthy else "", "Pleural Effusion": "" if healthy else "1.0"}
            lines.append(",".join([name, "Female", "60", "Frontal", "AP", *(found.get(one, "") for one in OBSERVATIONS)]))
        (root / f"CheXpert-v1.0-small/{part}.csv").write_text("\n".join(lines) + "\n")
    return root


def run(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """``python scripts/SCRIPT WORDS`` from the root of the repository."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, f"scripts/{script}", *map(str, words)]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
