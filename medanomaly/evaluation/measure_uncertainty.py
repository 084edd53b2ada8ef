"""Does a method's own spread say where it is wrong? Only for methods whose map is made of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medanomaly.evaluation.measure import AT, MeasureConfig, Measured, origin
from medanomaly.evaluation.predict import Prediction, with_truth
from medanomaly.metrics.bootstrap import patient_bootstrap, pooled_pixel_bootstrap
from medanomaly.metrics.correlation import spearman
from medanomaly.metrics.pixel import dice_per_image
from medanomaly.scoring.operating_point import DICE, HEALTHY_FPR, OperatingPoint, refuse_if_seen


def measure_uncertainty(
    predictions: Sequence[Prediction],
    points: Sequence[OperatingPoint],
    *,
    healthy: str,
    config: MeasureConfig = MeasureConfig(),
) -> list[Measured]:
    """Whether ``map_std`` predicts error, by image and by pixel; no rows where there is no deviation, no lesion or no threshold.

    By image: rank correlation, over images with a lesion, of the mean deviation with 1 - Dice; +1 = the least sure are the worst.
    By pixel: AUROC of the deviation for pixels wrongly flagged or missed, on all images whose truth is known. A deviation grows
    with the map it belongs to, so the same AUROC of the map itself stands beside it: what it adds is the difference.

    Args:
        predictions: of the test split.
        points: chosen on validation images; refused if any of them is here. Errors are those at the validation-Dice threshold, else
            at the healthy one.
        healthy: name of the class without disease.
        config: resamples and seed.
    """
    for point in points:
        refuse_if_seen(point, [prediction.id for prediction in predictions])
    known = [(p, p.map_std, truth) for p, truth in with_truth(predictions, healthy) if p.map_std is not None]
    by_criterion = {point.criterion: point for point in points}
    chosen = next((by_criterion[key] for key in (DICE, HEALTHY_FPR) if key in by_criterion), None)
    if chosen is None or not any(truth.any() for _, _, truth in known):
        return []
    title, note = f"@ {AT[chosen.criterion]}", origin(chosen)
    lesioned = [(p, spread, truth) for p, spread, truth in known if truth.any()]
    misses = 1 - dice_per_image([p.anomaly_map for p, _, _ in lesioned], [truth for _, _, truth in lesioned], chosen.value)
    doubts = np.array([spread.mean(dtype=np.float64) for _, spread, _ in lesioned])

    def correlation(index: npt.NDArray[np.int64]) -> float:
        return spearman(doubts[index], misses[index])

    owners = [p.patient_id for p, _, _ in lesioned]
    interval = patient_bootstrap(correlation, owners, num_resamples=config.num_resamples, seed=config.seed)
    name = f"rank correlation of deviation and 1 - Dice {title}"
    rows = [Measured(group="uncertainty", name=name, interval=interval, note=f"images with a lesion; {note}")]
    wrong = [(p.anomaly_map > chosen.value) != truth for p, _, truth in known]
    share = float(np.mean(np.concatenate([one.ravel() for one in wrong])))
    owners = [p.patient_id for p, _, _ in known]
    for what, scores in (("deviation", [s for _, s, _ in known]), ("the map itself", [p.anomaly_map for p, _, _ in known])):
        interval = pooled_pixel_bootstrap(scores, wrong, owners, "auroc", num_resamples=config.num_resamples, seed=config.seed)
        name = f"pixel AUROC of {what} for errors {title}"
        rows.append(
            Measured(group="uncertainty", name=name, interval=interval, note=f"{share:.4f} of the pixels are wrong; {note}")
        )
    return rows
