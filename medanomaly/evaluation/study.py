"""One method on one data set: predict, choose thresholds on val, measure on test; several of them side by side in a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medanomaly.evaluation.measure import MeasureConfig, Measured, measure, origin
from medanomaly.evaluation.measure_boxes import measure_boxes
from medanomaly.evaluation.measure_calibration import reliability_curve
from medanomaly.evaluation.measure_uncertainty import measure_uncertainty
from medanomaly.evaluation.operating_points import choose_operating_points
from medanomaly.evaluation.predict import Prediction, predict, with_truth
from medanomaly.metrics.fidelity import psnr
from medanomaly.scoring.operating_point import DICE, HEALTHY_FPR, OperatingPoint
from medanomaly.types import AnomalyMethod, Sample

Watch = Callable[[str, Sequence[Sample]], Iterable[Sample]]
"""(what is being done, samples) -> the same samples, e.g. under a progress bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodStudy:
    """What one method made of one test set."""

    name: str
    predictions: tuple[Prediction, ...]
    points: tuple[OperatingPoint, ...]
    rows: tuple[Measured, ...]
    seconds_per_image: float
    round_trip: Mapping[str, float] | None
    """Null round trip on up to 16 images: mean PSNR in dB and the largest absolute error in model units."""
    reliability: Mapping[str, Sequence[float]] | None = None
    """Reliability curve of the image score as a probability; None where it could not be calibrated on validation images."""

    def pixel_threshold(self) -> OperatingPoint | None:
        """The threshold masks are drawn with: validation Dice where there were masks, else the healthy-calibrated one."""
        by_criterion = {point.criterion: point for point in self.points}
        return by_criterion.get(DICE, by_criterion.get(HEALTHY_FPR))

    def scale_max(self) -> float:
        """Top of the colour scale of all pictures of this method: twice its threshold, or the 99.9 % map value where larger."""
        top = float(np.quantile(np.concatenate([p.anomaly_map.ravel() for p in self.predictions]), 0.999))
        point = self.pixel_threshold()
        return max(top, 2 * point.value if point else 0.0, 1e-6)

    def to_dict(self) -> dict[str, Any]:
        """JSON content: every number with its interval, the thresholds with their origin."""
        return {
            "name": self.name,
            "seconds_per_image": self.seconds_per_image,
            "round_trip": dict(self.round_trip) if self.round_trip else None,
            "operating_points": [point.to_dict() | {"origin": origin(point)} for point in self.points],
            "measured": [
                {
                    "group": row.group,
                    "name": row.name,
                    "value": row.interval.value,
                    "low": row.interval.low,
                    "high": row.interval.high,
                    "confidence": row.interval.confidence,
                    "num_images": row.interval.num_images,
                    "num_patients": row.interval.num_patients,
                    "note": "; ".join(part for part in (row.note, row.interval.caution) if part),
                }
                for row in self.rows
            ],
        }


def study(
    name: str,
    method: AnomalyMethod,
    *,
    test: Sequence[Sample],
    validation: Sequence[Sample],
    healthy: str,
    points: Sequence[OperatingPoint] = (),
    config: MeasureConfig = MeasureConfig(),
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    watch: Watch = lambda _text, samples: samples,
) -> MethodStudy:
    """Localize validation and test images, choose thresholds on the former, measure on the latter.

    Args:
        name: of the method, for tables.
        method: anything that localizes.
        test: samples to measure on.
        validation: samples to choose thresholds on; where there are none, ``points`` are used as they are.
        healthy: name of the class without disease.
        points: thresholds that came with the method.
        config: of the measuring.
        batch_size: images a forward pass.
        device: where the method computes.
        watch: wraps the samples to show progress.
    """
    checked = list(predict(method, watch(f"{name}: val", validation), batch_size=batch_size, device=device))
    chosen = choose_operating_points(checked, healthy=healthy) if checked else tuple(points)
    start = time.perf_counter()
    found = list(predict(method, watch(f"{name}: test", test), batch_size=batch_size, device=device))
    elapsed = time.perf_counter() - start
    rows = measure(found, chosen, healthy=healthy, validation=checked, config=config)
    rows += measure_boxes(found, chosen, config=config)
    rows += measure_uncertainty(found, chosen, healthy=healthy, config=config)
    return MethodStudy(
        name=name,
        predictions=tuple(found),
        points=chosen,
        rows=tuple(rows),
        seconds_per_image=elapsed / max(len(found), 1),
        round_trip=round_trip(method, [test[index] for index in range(min(16, len(test)))], device),
        reliability=reliability_curve(found, checked, healthy=healthy),
    )


def round_trip(method: AnomalyMethod, samples: Sequence[Sample], device: torch.device | str) -> dict[str, float] | None:
    """How well encode and decode without guidance return the image; None for a method that does not invert."""
    walk = getattr(method, "round_trip", None)
    if walk is None or not samples:
        return None
    x = torch.stack([sample.x for sample in samples])
    back = walk(x.to(device)).cpu()
    nowhere = np.zeros(x.shape[2:], dtype=np.bool_)
    quality = [psnr(one.numpy(), other.numpy(), nowhere) for one, other in zip(x, back, strict=True)]
    # An image that comes back exactly has no finite quality; the others' mean is the floor.
    finite = [value for value in quality if np.isfinite(value)]
    return {
        "psnr_db": float(np.mean(finite)) if finite else float("inf"),
        "max_error": float((x - back).abs().max()),
        "num_images": float(len(samples)),
    }


def refuse_different_images(studies: Sequence[MethodStudy]) -> None:
    """Methods are compared on the same images only.

    Raises:
        ValueError: two studies saw different ids.
    """
    ids = [sorted(prediction.id for prediction in one.predictions) for one in studies]
    if any(other != ids[0] for other in ids[1:]):
        raise ValueError("methods saw different images; run them on one manifest")


def counts(study_: MethodStudy, healthy: str) -> dict[str, int]:
    """What the test set held and what of it could be used for pixels."""
    found = study_.predictions
    known = with_truth(found, healthy)
    num_with_boxes = sum(bool(p.boxes) for p in found)
    return {
        "num_images": len(found),
        "num_patients": len({p.patient_id for p in found}),
        "num_healthy": sum(p.label == healthy for p in found),
        "num_diseased": sum(p.label not in (None, healthy) for p in found),
        "num_annotated": len(known),
        "num_with_lesion": sum(bool(truth.any()) for _, truth in known),
        "num_diseased_without_mask": sum(p.label not in (None, healthy) and p.mask is None for p in found),
        # Said only where it is so: sets without boxes keep the file they had.
        **({"num_with_boxes": num_with_boxes} if num_with_boxes else {}),
    }
