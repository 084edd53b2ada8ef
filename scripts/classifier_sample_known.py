"""Pseudo-healthy images and anomaly maps by classifier-guided DDIM, by the seed's command and flags.

    python scripts/classifier_sample_known.py --model_path runs/seed-classifier --dataset chexpert \
        --data_dir data/chexpert/example --result_dir runs/seed-classifier-samples --classifier_scale 100 --noise_level 500 \
        --timestep_respacing ddim20 --num_samples 4

(after the command of scripts/classifier_train.py, which trains both networks into the one file that --model_path names; a
--classifier_path elsewhere is refused.) RESULT_DIR/samples gets what scripts/cfg_image_sample.py writes: input/, pseudo_healthy/,
maps/ and heatmaps/ of the first diseased test images, report.jsonl, and where the checkpoint has a threshold for this sampler also
overlays/, masks/ and figures/. The flags of the networks may be left out; one that contradicts the checkpoint is refused. The same as
`medanomaly localize` on a manifest.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from seed_flags import (
    BATCH,
    CLASSIFIER,
    CLASSIFIER_PATH,
    CLASSIFIER_SAMPLING,
    DATA,
    MODEL_PATH,
    UNCONDITIONAL,
    command,
    folder_of,
    read_flags,
)

PROG = "classifier_sample_known.py"
TABLES = (UNCONDITIONAL, CLASSIFIER, CLASSIFIER_SAMPLING, BATCH, DATA, MODEL_PATH, CLASSIFIER_PATH)


def main(words: Sequence[str]) -> int:
    """Localize the first diseased test images, and draw them."""
    flags, typed = read_flags(words, TABLES, PROG)
    model_path, data_dir, result_dir = (folder_of(flags, name) for name in ("model_path", "data_dir", "result_dir"))

    # Here, because `command` chooses how threads wait before torch is imported.
    from seed_classifier import gradient_sampler_of, refuse_other_networks
    from seed_experiment import first_diseased, manifest_of
    from seed_pictures import draw_samples

    from medanomaly.cli.device import choose_device
    from medanomaly.cli.localize import localize
    from medanomaly.cli.methods import ALL_METHODS
    from medanomaly.cli.output import make_folder
    from medanomaly.config import to_dict
    from medanomaly.datasets.manifest import write_manifest
    from medanomaly.methods.experiment import load_trained

    experiment = load_trained(model_path, ALL_METHODS, choose_device("cpu")).experiment
    refuse_other_networks(flags, typed, experiment)
    method = to_dict(experiment.method)
    wanted = gradient_sampler_of(flags, num_levels=method["schedule"]["num_levels"])
    # Only what differs: the checkpoint's thresholds hold for its own sampler.
    changed = {name: value for name, value in wanted.items() if method["sampler"][name] != value}
    out = result_dir / "samples"  # RESULT_DIR may be the training's, whose config.json must stay
    make_folder(out)
    manifest = manifest_of({**flags, "in_channels": experiment.preprocess.channels}, data_dir, result_dir)
    records = first_diseased(manifest, flags["num_samples"], experiment.method.target)
    write_manifest(records, out / "samples.csv", allow_outside=True)
    options = {"batch_size": flags["batch_size"], "allow_outside": True, "overwrite": True, "device": flags["device"]}
    options["visdom"] = flags["visdom"] or None
    code = localize(model_path, out / "samples.csv", out, **options, **changed)
    draw_samples(out, records, experiment.preprocess)
    return code


if __name__ == "__main__":
    sys.exit(command(main, PROG))
