"""Cells of an ablation: one setting, trained, measured by its bound, sampled from, and its samples measured, by ordinary commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medanomaly.evaluation.ablation_config import AblationConfig, plain, words_of
from medanomaly.evaluation.command_cells import Step, path_name

SAMPLES_TITLE = "samples"
"""Column of the samples in samples.json, whatever the cell."""
CHANNELS = "preprocess.channels"


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationCell:
    """One setting of the grid."""

    values: Mapping[str, str]
    """Axis -> value, by their names in tables."""
    steps: Sequence[Step]
    manifest: str
    allow_outside: bool
    folder: Path
    """cell.json, the logs, and the folders below."""
    out: Path

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join(f"{axis} {value}" for axis, value in self.values.items())

    @property
    def facts(self) -> Mapping[str, Any]:
        """What cell.json says of the cell itself."""
        return {"values": dict(self.values)}

    @property
    def likelihood(self) -> Path:
        """Folder of ``medanomaly likelihood``."""
        return self.folder / "likelihood"

    @property
    def samples(self) -> Path:
        """Folder of ``medanomaly generate``."""
        return self.folder / "samples"

    @property
    def measured(self) -> Path:
        """Folder of ``medanomaly evaluate-samples``."""
        return self.folder / "measured"


def cells_of(
    config: AblationConfig, out: Path, *, channels: int, resolve: Callable[[Path], Path] = lambda path: path
) -> list[AblationCell]:
    """The cells in the order of the grid.

    Args:
        config: the ablation.
        out: its folder.
        channels: of the preset's images, where the plan says nothing of them.
        resolve: from the name of shipped weights to their file, of ``features``.
    """
    made = []
    axes = config.axes
    for names, chosen in config.settings():
        values = {axis.name: name for axis, name in zip(axes, names, strict=True)}
        place = path_name("-".join(f"{axis}_{value}" for axis, value in values.items()))
        options = {plain(key): value for key, value in config.options.items()} | chosen
        made.append(
            AblationCell(
                values=values,
                steps=steps_of(
                    config,
                    options,
                    out / "runs" / place,
                    out / "evaluations" / place,
                    channels=int(options.get(CHANNELS, channels)),
                    features=None if config.features == "pixels" else resolve(Path(config.features)),
                ),
                manifest=config.manifest,
                allow_outside=config.allow_outside,
                folder=out / "evaluations" / place,
                out=out,
            )
        )
    return made


def steps_of(
    config: AblationConfig, options: Mapping[str, Any], run: Path, folder: Path, *, channels: int, features: Path | None
) -> list[Step]:
    """train, likelihood, generate and evaluate-samples of a cell.

    Args:
        config: the ablation.
        options: of ``train``, those of the cell among them.
        run: folder of the training.
        folder: of the other three.
        channels: of the images.
        features: the file behind ``config.features``; None = pixels.
    """
    outside = ("--allow_outside", "true") if config.allow_outside else ()
    device = () if config.device == "auto" else ("--device", config.device)
    likelihood, samples, measured = (folder / name for name in ("likelihood", "samples", "measured"))
    again, quiet = ("--overwrite", "true"), ("--quiet", "true")
    return [
        Step(
            name="train",
            words=("train", config.preset, "--data", config.manifest, "--out", str(run), *outside, *device, *words_of(options)),
            trains=run,
        ),
        Step(
            name="likelihood",
            words=(
                *("likelihood", str(run), config.manifest, str(likelihood), *outside, *device, *again, *quiet),
                *words_of(config.likelihood),
            ),
            reads=(run,),
            makes=(likelihood / "likelihood.json",),
        ),
        Step(
            name="generate",
            words=("generate", str(run), str(samples), *device, *again, *quiet, *words_of(config.generate)),
            reads=(run,),
            makes=(samples / "samples.npz", samples / "grid.png"),
        ),
        Step(
            name="evaluate-samples",
            words=(
                *(
                    "evaluate-samples",
                    str(samples / "samples.npz"),
                    config.manifest,
                    str(measured),
                    "--features",
                    config.features,
                ),
                *("--channels", str(channels), "--title", SAMPLES_TITLE, *outside, *device, *again),
                *words_of(config.evaluate_samples),
            ),
            reads=(samples / "samples.npz", *(() if features is None else (features,))),
            makes=(measured / "samples.json",),
        ),
    ]
