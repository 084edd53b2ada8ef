"""Pseudo-healthy images and anomaly maps of diseased test images, by the seed's command and flags.

    python scripts/cfg_image_sample.py --model_path runs/seed --dataset chexpert --data_dir data/chexpert/example \
        --result_dir runs/seed-samples --guidance_scale 4.0 --noise_level 500 --timestep_respacing ddim20 --num_samples 4

(after the command of scripts/cfg_image_train.py.) RESULT_DIR/samples gets input/, pseudo_healthy/, maps/ (float) and heatmaps/ (one
colour scale for all), and where the checkpoint has a threshold for this sampler also overlays/, masks/ and figures/; report.jsonl
says what happened to each image. ``--guidance_scale`` is the seed's w: g = w + 1 everywhere else in this repository. The flags of
the model may be left out, as the checkpoint knows them; one that contradicts it is refused. The same as `medanomaly localize` on a
manifest.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from seed_flags import BATCH, DATA, MODEL, MODEL_PATH, SAMPLING, command, folder_of, read_flags

PROG = "cfg_image_sample.py"


def main(words: Sequence[str]) -> int:
    """Localize the first diseased test images, and draw them."""
    flags, typed = read_flags(words, [MODEL, SAMPLING, BATCH, DATA, MODEL_PATH], PROG)
    model_path, data_dir, result_dir = (folder_of(flags, name) for name in ("model_path", "data_dir", "result_dir"))

    # Here, because `command` chooses how threads wait before torch is imported.
    from seed_experiment import first_diseased, manifest_of, refuse_other_model, sampler_of
    from seed_pictures import draw_samples

    from medanomaly.cli.device import choose_device
    from medanomaly.cli.localize import localize
    from medanomaly.cli.methods import ALL_METHODS
    from medanomaly.cli.output import make_folder
    from medanomaly.config import to_dict
    from medanomaly.datasets.manifest import write_manifest
    from medanomaly.methods.experiment import load_trained

    experiment = load_trained(model_path, ALL_METHODS, choose_device("cpu")).experiment
    refuse_other_model(flags, typed, experiment)
    method = to_dict(experiment.method)
    wanted = sampler_of(flags, num_levels=method["schedule"]["num_levels"])
    # Only what differs: the checkpoint's thresholds hold for its own sampler.
    changed = {name: value for name, value in wanted.items() if method["sampler"][name] != value}
    out = result_dir / "samples"  # RESULT_DIR may be the training's, whose config.json must stay
    make_folder(out)
    manifest = manifest_of({**flags, "in_channels": experiment.preprocess.channels}, data_dir, result_dir)
    records = first_diseased(manifest, flags["num_samples"], experiment.method.target)
    chosen = out / "samples.csv"
    write_manifest(records, chosen, allow_outside=True)
    options = {"batch_size": flags["batch_size"], "allow_outside": True, "overwrite": True, "device": flags["device"]}
    options["visdom"] = flags["visdom"] or None
    code = localize(model_path, chosen, out, **options, **changed)
    draw_samples(out, records, experiment.preprocess)
    return code


if __name__ == "__main__":
    sys.exit(command(main, PROG))
