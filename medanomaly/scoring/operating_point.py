"""Thresholds that remember how and on what they were chosen. Anomalous means value > threshold, for pixels and for images.

Maps are lists of (H, W) float32 arrays of any size with (H, W) bool masks, as in ``metrics``. Thresholds are placed on or between
values of the set they are fitted on, in those values' own precision, so comparing in float32 changes nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from skimage.filters import threshold_otsu

from medanomaly.errors import ConfigError, InputError, MedanomalyError
from medanomaly.metrics.inputs import Mask, Scores, check_count, check_image_scores, check_scores
from medanomaly.metrics.pixel import best_dice_threshold

DICE = "mean per-image Dice"
HEALTHY_FPR = "healthy pixel false-positive rate"
YOUDEN = "image Youden index"
ORACLE = "oracle (uses test labels)"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """A threshold with its origin; made by the ``for_...`` constructors, stored with a checkpoint."""

    value: float
    """Anomalous where map (or image score) > value."""
    criterion: str
    chosen_on: str
    """Name of the split."""
    target: float | None
    """What the criterion was asked for, e.g. a false-positive rate; None where it maximizes."""
    num_images: int
    image_fingerprint: tuple[str, ...]
    """Sorted hashes of the ids of the images it was chosen on, so that ids are not stored in clear."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError(f"a threshold must be finite, got {self.value}", code="E_NONFINITE", fix="choose it again")
        if self.criterion != ORACLE:
            _refuse_test(self.chosen_on)

    @classmethod
    def for_dice(cls, maps: Sequence[Scores], masks: Sequence[Mask], ids: Sequence[str], split: str) -> OperatingPoint:
        """Highest mean per-image Dice over the images with a lesion (``metrics.pixel.best_dice_threshold``).

        Raises:
            ConfigError: E_TEST_THRESHOLD on a test split.
            InputError: E_NO_LESION where no mask has a lesion; and what the metric refuses.
        """
        _refuse_test(split)
        return cls._fitted(_best_dice(maps, masks), DICE, ids, split, len(maps))

    @classmethod
    def for_healthy_fpr(cls, maps: Sequence[Scores], ids: Sequence[str], split: str, target_fpr: float = 0.005) -> OperatingPoint:
        """Lowest map value with at most ``target_fpr`` of the pooled pixels of healthy images above it; needs no anomaly.

        The rate realised on other healthy images differs and belongs beside the result.

        Raises:
            ConfigError: E_TEST_THRESHOLD on a test split; E_RANGE for a target outside [0, 1).
            InputError: E_EMPTY without a pixel; and what ``check_scores`` refuses.
        """
        _refuse_test(split)
        if not 0 <= target_fpr < 1:
            raise ConfigError(f"target_fpr must be in [0, 1), got {target_fpr}", code="E_RANGE", fix="use 0.005")
        for index, anomaly_map in enumerate(maps):
            check_scores(anomaly_map, f"map {index}", ndim=2)
        pixels = np.concatenate([np.empty(0, np.float32), *(anomaly_map.ravel() for anomaly_map in maps)])
        if pixels.size == 0:
            raise InputError("there are no healthy pixels", code="E_EMPTY", fix="add healthy validation images")
        # 0.29 * 100 is 28.999999999999996: without the tolerance one allowed pixel would be lost.
        num_allowed = int(target_fpr * pixels.size + 1e-9)
        place = pixels.size - 1 - num_allowed
        value = float(np.partition(pixels, place)[place])
        return cls._fitted(value, HEALTHY_FPR, ids, split, len(maps), target_fpr)

    @classmethod
    def for_image_accuracy(cls, scores: Scores, labels: Mask, ids: Sequence[str], split: str) -> OperatingPoint:
        """Image threshold of highest sensitivity + specificity - 1 (Youden 1950), which prevalence does not move.

        Args:
            scores: (n,) float32 or float64.
            labels: (n,) bool, True = anomalous.
            ids: (n,) image ids.
            split: name of the split.

        Raises:
            ConfigError: E_TEST_THRESHOLD on a test split.
            InputError: E_SINGLE_CLASS where a class is absent; and what ``check_image_scores`` refuses.
        """
        _refuse_test(split)
        check_image_scores(scores, labels)
        if labels.all() or not labels.any():
            raise InputError(
                "all images have one label", code="E_SINGLE_CLASS", fix="use for_healthy_fpr, which needs no anomaly"
            )
        levels = np.unique(scores)
        cuts = np.concatenate([[np.nextafter(levels[0], -np.inf, dtype=levels.dtype)], levels])
        missed = np.searchsorted(np.sort(scores[labels]), cuts, side="right") / labels.sum()
        spared = np.searchsorted(np.sort(scores[~labels]), cuts, side="right") / (~labels).sum()
        best = int(np.argmax(spared - missed))
        value = cuts[best]
        if 0 < best < len(levels):
            # Midway to the next score, unless the precision has no number there.
            midway = levels.dtype.type((float(value) + float(levels[best])) / 2)
            value = midway if midway < levels[best] else value
        return cls._fitted(float(value), YOUDEN, ids, split, len(scores))

    @classmethod
    def oracle_dice(cls, maps: Sequence[Scores], masks: Sequence[Mask]) -> OperatingPoint:
        """Best Dice on the very images that are reported: an upper bound, never a result; its criterion says so."""
        value = _best_dice(maps, masks)
        return cls(value=value, criterion=ORACLE, chosen_on="test", target=None, num_images=len(maps), image_fingerprint=())

    @classmethod
    def _fitted(
        cls, value: float, criterion: str, ids: Sequence[str], split: str, num_images: int, target: float | None = None
    ) -> OperatingPoint:
        check_count("ids", len(ids), num_images)
        return cls(
            value=value,
            criterion=criterion,
            chosen_on=split,
            target=target,
            num_images=num_images,
            image_fingerprint=fingerprint(ids),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for JSON and checkpoint headers."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**content, "image_fingerprint": list(self.image_fingerprint)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> OperatingPoint:
        """Undo of :meth:`to_dict`.

        Raises:
            ConfigError: E_OPERATING_POINT for a missing or unknown key, or a value of the wrong type.
        """
        expected = {field.name for field in fields(cls)}
        if set(content) != expected:
            odd = ", ".join(sorted(map(str, set(content) ^ expected)))
            raise ConfigError(f"missing or unknown keys: {odd}", code="E_OPERATING_POINT", fix="choose the operating point again")
        if not isinstance(content["image_fingerprint"], list | tuple):
            raise ConfigError("image_fingerprint is not a list", code="E_OPERATING_POINT", fix="choose the operating point again")
        try:
            return cls(
                value=float(content["value"]),
                criterion=str(content["criterion"]),
                chosen_on=str(content["chosen_on"]),
                target=None if content["target"] is None else float(content["target"]),
                num_images=int(content["num_images"]),
                image_fingerprint=tuple(str(digest) for digest in content["image_fingerprint"]),
            )
        except MedanomalyError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error), code="E_OPERATING_POINT", fix="choose the operating point again") from error


def fingerprint(ids: Sequence[str]) -> tuple[str, ...]:
    """Sorted 64-bit hashes of image ids.

    Raises:
        InputError: E_DUPLICATE_ID where an id comes twice.
    """
    if len(set(ids)) != len(ids):
        raise InputError("an image id comes twice", code="E_DUPLICATE_ID", fix="keep one row an image")
    return tuple(sorted(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest() for name in ids))


def refuse_if_seen(operating_point: OperatingPoint, test_ids: Sequence[str]) -> None:
    """Raises where the operating point was chosen on any of these images, or is an oracle.

    Raises:
        ConfigError: E_TEST_THRESHOLD.
    """
    if operating_point.criterion == ORACLE:
        raise ConfigError("an oracle threshold is not a result", code="E_TEST_THRESHOLD", fix=f"report it apart as {ORACLE!r}")
    num_seen = len(set(fingerprint(test_ids)) & set(operating_point.image_fingerprint))
    if num_seen:
        raise ConfigError(
            f"the threshold was chosen on {num_seen} of these {len(test_ids)} test images",
            code="E_TEST_THRESHOLD",
            fix="choose it on validation images",
        )


def otsu_threshold(anomaly_map: Scores) -> float:
    """Otsu's threshold (1979) of one (H, W) map of raw values, 256 bins; a constant map gives its value, so nothing is above.

    It splits every map in two, healthy ones too: a per-image rule without a set, hence no OperatingPoint. Colour-mapped
    pictures of a map are refused: their gray value is not monotone in the anomaly.
    """
    check_scores(anomaly_map, "map", ndim=2)
    return float(threshold_otsu(anomaly_map))


def _best_dice(maps: Sequence[Scores], masks: Sequence[Mask]) -> float:
    value = best_dice_threshold(maps, masks)
    if math.isnan(value):
        raise InputError("no mask has a lesion", code="E_NO_LESION", fix="use for_healthy_fpr, which needs no anomaly")
    return value


def _refuse_test(split: str) -> None:
    if split.strip().casefold().startswith("test"):
        raise ConfigError(
            f"a threshold must not be chosen on split {split!r}", code="E_TEST_THRESHOLD", fix="choose it on the validation split"
        )
