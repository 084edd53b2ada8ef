"""Heatmaps of DICOM images, as DICOM: of one file, a folder, a study tree or a manifest, or of whatever arrives in a folder.

    python scripts/heatmap.py cxr64-cfg data/cxr/manifest.csv runs/heatmaps --to png

writes maps and overlays of the shipped chest films. Of DICOM sources the default is sc, seg and pm: OUT/sc gets the overlay as
Secondary Capture, OUT/seg the mask as Segmentation and OUT/pm the map as Parametric Map, without the patient's identity unless
``--keep_patient true``, which also allows ``pr``, the contour as Presentation State over the source. Pictures of films with text in
their pixels are left out unless ``--burned_in keep``. OUT/report.jsonl says what happened to each image. With ``--watch 5`` the folder
is asked every 5 seconds: a file is taken when it has not changed between two looks, until SIGINT or SIGTERM (exit code 0). The same
command again does what is missing. Not for diagnosis. The same as `medanomaly localize`, which has more options.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seed_flags import command

PROG = "heatmap.py"


def heatmap(
    checkpoint: Path,
    source: Path,
    out: Path,
    to: str = "sc,seg,pm",
    watch: float = 0.0,
    keep_patient: bool = False,
    burned_in: str = "skip",
    threshold: float | None = None,
    allow_outside: bool = False,
    device: str = "auto",
) -> int:
    """Options as those of `medanomaly localize`; watch: seconds between two looks into a folder, 0 = once."""
    from medanomaly.cli.localize import localize
    from medanomaly.datasets.arrivals import arrivals
    from medanomaly.datasets.manifest import Record, write_manifest
    from medanomaly.errors import ConfigError, Preempted

    options: dict[str, Any] = {
        "to": to,
        "keep_patient": keep_patient,
        "burned_in": burned_in,
        "threshold": threshold,
        "device": device,
    }
    if watch <= 0:
        return localize(checkpoint, source, out, allow_outside=allow_outside, **options)
    if not source.is_dir() or out.resolve().is_relative_to(source.resolve()):
        raise ConfigError("--watch needs a folder, and OUT outside of it", code="E_CONFIG", path=source)
    # The list of what has arrived names places of this machine: it is kept out of OUT, and removed.
    with tempfile.TemporaryDirectory() as folder:
        for paths in arrivals(source, watch, signalled()):
            records = [Record(id=str(path), patient_id=str(path).strip(), image=source / path) for path in paths]
            write_manifest(records, Path(folder, "arrived.csv"), allow_outside=True)
            try:
                localize(checkpoint, Path(folder, "arrived.csv"), out, allow_outside=True, quiet=True, **options)
            except Preempted:
                break
    return 0


def signalled() -> Callable[[], bool]:
    """Whether SIGTERM or SIGINT ever came, also one that a running job took for its own."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda asked, _frame: signal.signal(asked, signal.SIG_DFL))  # a second one ends the process
    return lambda: bool(select.select([heard], [], [], 0)[0])


def main(words: Sequence[str]) -> int:
    """``heatmap.py CHECKPOINT SOURCE OUT``."""
    from medanomaly.cli.parsing import run_function

    return run_function(heatmap, PROG, "CHECKPOINT SOURCE OUT [options]", words)


if __name__ == "__main__":
    sys.exit(command(main, PROG))
