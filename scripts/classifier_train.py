"""Train classifier-guided DDIM, the classifier and the diffusion network together, by the seed's command and flags.

    python scripts/classifier_train.py --dataset chexpert --data_dir data/chexpert/example --result_dir runs/seed-classifier \
        --image_size 32 --channel_mult 1,2 --num_channels 32 --attention_resolutions 16 --classifier_width 32 \
        --classifier_depth 1 --iterations 20 --timestep_respacing ddim20

Without the second and third line it trains the preset ``cxr256-cgddim``, for a GPU, the classifier's attention in heads of 64
channels. The seed trains the two networks by two commands into two files; here one command trains both, a step of each on the same
batch, into RESULT_DIR/model.safetensors, so it takes the flags of the diffusion network too, and there is no need of image_train.py.
The same command continues an interrupted run. ``--help`` lists all flags; what has no counterpart here is refused with the reason,
among it three of the seed's values: --classifier_pool attention, --classifier_resblock_updown True and
--classifier_use_scale_shift_norm True. The same as `medanomaly train cxr256-cgddim`, whose options are finer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from seed_flags import CLASSIFIER, CLASSIFIER_SAMPLING, CLASSIFIER_TRAINING, DATA, UNCONDITIONAL, command, folder_of, read_flags

PROG = "classifier_train.py"


def main(words: Sequence[str]) -> int:
    """Train both networks, and say where the checkpoint is."""
    flags, _ = read_flags(words, [UNCONDITIONAL, CLASSIFIER, CLASSIFIER_TRAINING, CLASSIFIER_SAMPLING, DATA], PROG)
    data_dir, result_dir = folder_of(flags, "data_dir"), folder_of(flags, "result_dir")

    # Here, because `command` chooses how threads wait before torch is imported.
    from seed_classifier import classifier_experiment_of
    from seed_experiment import manifest_of

    from medanomaly.cli.device import choose_device
    from medanomaly.cli.live import live_view
    from medanomaly.cli.output import make_folder
    from medanomaly.cli.train import train

    experiment = classifier_experiment_of(flags)
    device = choose_device(flags["device"])
    make_folder(result_dir)
    manifest = manifest_of(flags, data_dir, result_dir)
    with live_view(flags["visdom"] or None) as view:
        path = train(experiment, manifest, result_dir, device=device, allow_outside=True, view=view)
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(command(main, PROG))
