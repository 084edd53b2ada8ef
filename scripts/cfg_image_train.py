"""Train the classifier-free-guided diffusion of the seed, by the seed's command and flags.

    python scripts/cfg_image_train.py --dataset chexpert --data_dir data/chexpert/example --result_dir runs/seed \
        --image_size 32 --channel_mult 1,2 --num_channels 32 --attention_resolutions 16 --lr_anneal_steps 20 \
        --timestep_respacing ddim20

Without the second and third line it trains the seed's own setting, the preset ``cxr256-cfg``: 256 x 256, 114 M parameters, for a GPU.
RESULT_DIR gets manifest.csv (unless DATA_DIR has one), config.json, log.jsonl and model.safetensors; the same command continues an
interrupted run. The flags of sampling decide on which maps the checkpoint's thresholds are chosen. ``--help`` lists all flags, and
scripts/seed_flags.py says which have no effect and which values are refused. The same as `medanomaly data chexpert` and
`medanomaly train cxr256-cfg`, whose options are finer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from seed_flags import DATA, MODEL, SAMPLING, TRAINING, command, folder_of, read_flags

PROG = "cfg_image_train.py"


def main(words: Sequence[str]) -> int:
    """Train, and say where the checkpoint is."""
    flags, _ = read_flags(words, [MODEL, TRAINING, SAMPLING, DATA], PROG)
    data_dir, result_dir = folder_of(flags, "data_dir"), folder_of(flags, "result_dir")

    # Here, because `command` chooses how threads wait before torch is imported.
    from seed_experiment import experiment_of, manifest_of

    from medanomaly.cli.device import choose_device
    from medanomaly.cli.live import live_view
    from medanomaly.cli.output import make_folder
    from medanomaly.cli.train import train

    experiment = experiment_of(flags)
    device = choose_device(flags["device"])
    make_folder(result_dir)
    manifest = manifest_of(flags, data_dir, result_dir)
    with live_view(flags["visdom"] or None) as view:
        path = train(experiment, manifest, result_dir, device=device, allow_outside=True, view=view)
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(command(main, PROG))
