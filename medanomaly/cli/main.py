"""The ``medanomaly`` command: one word chooses the file that does the work; every error is one line with its exit code."""

from __future__ import annotations

import difflib
import importlib
import os
import select
import sys
import traceback
from collections.abc import Sequence

from medanomaly.errors import EXIT_INTERNAL, EXIT_OK, EXIT_READER_LEFT, MedanomalyError, ResourceError

COMMANDS = {
    "demo": "make phantoms, train for a minute, localize phantoms and chest X-rays, write a report",
    "data": "phantom | folder | table | check: make or inspect a manifest",
    "preprocess": "resize a data set once, before training: a folder tree or a manifest in, PNGs and annotations out",
    "deblur": "take motion blur out of a file, a folder or a manifest; images without it stay as they are",
    "train": "train a preset on a manifest",
    "localize": "heatmaps, masks and pseudo-healthy images of a file, a folder or a manifest",
    "merge": "one report from the shards of a localize job",
    "choose": "noise level, guidance scale and checkpoint from val labels, without masks",
    "calibrate": "trained weights with other map or sampler settings; thresholds chosen anew on val labels",
    "evaluate": "numbers with intervals on a manifest's test split, beside the floors",
    "benchmark": "several methods, data sets and seeds under one protocol, in one table",
    "ablate": "a grid of settings of a diffusion model: bits/dim, FID, KID, diversity and samples of each, in one table",
    "report": "one HTML page from folders of evaluate, localize or train",
    "generate": "images from a diffusion model: of no class, by class name, or guided by a classifier",
    "evaluate-classifier": "a classifier's accuracy, F1 and AUROC by class and noise level, with intervals",
    "evaluate-samples": "generated images against real ones: FID, KID, precision, recall, diversity, copies",
    "likelihood": "bits/dim of a diffusion model on a manifest's test split, with the bound's terms",
    "animate": "a GIF of one image on its way up and down, with the map forming",
    "verify-run": "does a run folder hold what its run.json says",
    "doctor": "is this machine fit: versions, device, codecs, fonts, weights, disk",
    "live": "serve the live view, a page that shows running trainings and localizations (--visdom)",
    "export": "a release file from a run: float16 weights and a model card",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        code = answered(list(sys.argv[1:] if arguments is None else arguments))
        # Here: when the interpreter does it at its end, it is too late to be quiet about a reader that left.
        sys.stdout.flush()
    except BrokenPipeError:
        if not reader_left():
            raise
        return EXIT_READER_LEFT
    return code


def answered(words: list[str]) -> int:
    """Exit code of the command; what it has to say is said."""
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print("usage: medanomaly COMMAND [options]\n\ncommands:")
        print("\n".join(f"  {name:10s} {text}" for name, text in COMMANDS.items()))
        print("\n`medanomaly COMMAND --help` says more; `--debug` shows tracebacks. Not for diagnosis.")
        return 0
    if words[0] == "--version":
        from medanomaly import __version__

        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        advice = f"did you mean {near[0]}?" if near else "see medanomaly --help"
        print(f"medanomaly: unknown command {words[0]!a} [E_USAGE]; {advice}", file=sys.stderr)
        return 2
    os.environ.setdefault("MPLBACKEND", "Agg")
    # Before torch is imported. Waiting threads that spin cost a factor of twenty where another process has the second core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code: int = importlib.import_module(f"medanomaly.cli.{words[0].replace('-', '_')}").main(words[1:])
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_OK if stop.code is None else EXIT_INTERNAL
    except MedanomalyError as error:
        if debug:
            print_traceback()
        print(f"medanomaly {words[0]}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"medanomaly {words[0]}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_left():
            return EXIT_READER_LEFT
        if debug:
            print_traceback()
        from medanomaly.evaluation.bulk import out_of_memory
        from medanomaly.files import DISK_FULL

        if isinstance(error, OSError) and error.errno in DISK_FULL:
            print(f"medanomaly {words[0]}: the disk is full [E_DISK_FULL]; free space and run again", file=sys.stderr)
            return ResourceError.exit_code
        if out_of_memory(error):
            print(f"medanomaly {words[0]}: out of memory [E_MEMORY]; use a smaller batch size or image size", file=sys.stderr)
            return ResourceError.exit_code
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"medanomaly {words[0]}: internal error: {text}; run again with --debug", file=sys.stderr)
        return EXIT_INTERNAL


def reader_left() -> bool:
    """Whether nobody reads standard output any more, as after ``| head``; what is still to be written there then goes nowhere."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    asked = select.poll()
    asked.register(output, 0)
    if not any(event & select.POLLERR for _, event in asked.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def print_traceback() -> None:
    """The traceback, and what to mind: unlike the one-line errors it repeats whatever a library quotes from a file."""
    traceback.print_exc()
    print(
        "note: the traceback above may quote names, folders and header values of images; read it before sending it",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
