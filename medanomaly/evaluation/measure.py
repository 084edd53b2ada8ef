"""Every number a set's masks and labels allow, each with its interval over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from medanomaly.evaluation.predict import Prediction, with_truth
from medanomaly.metrics import fidelity, image, pixel, region
from medanomaly.metrics.bootstrap import Interval, PooledMetric, patient_bootstrap, pooled_pixel_bootstraps
from medanomaly.metrics.strata import dice_by_lesion_size, lesion_areas
from medanomaly.metrics.surface import hausdorff95
from medanomaly.scoring.operating_point import DICE, HEALTHY_FPR, YOUDEN, OperatingPoint, otsu_threshold, refuse_if_seen
from medanomaly.types import BoolArray

Values = npt.NDArray[np.float64]
AT = {DICE: "val-Dice threshold", HEALTHY_FPR: "healthy threshold"}
"""How a table names the pixel thresholds; the notes below it say how each was chosen."""
ORACLE_AT = "@ oracle (uses test labels)"


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """How numbers are made."""

    num_resamples: int = 1000
    """Patient bootstrap resamples."""
    seed: int = 0
    """Of the bootstrap."""
    regions: bool = True
    """Also AUPRO and FROC, the slow ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One number."""

    group: str
    """pixels, regions, images or fidelity."""
    name: str
    interval: Interval
    note: str = ""
    """Convention or origin of the threshold."""


def measure(
    predictions: Sequence[Prediction],
    points: Sequence[OperatingPoint],
    *,
    healthy: str,
    validation: Sequence[Prediction] = (),
    config: MeasureConfig = MeasureConfig(),
) -> list[Measured]:
    """Numbers of one method on one test set.

    Args:
        predictions: of the test split.
        points: chosen on validation images; refused if any of them is here.
        healthy: name of the class without disease.
        validation: predictions that calibrate the image score into a probability (logistic regression) for the calibration error.
        config: resamples and seed.
    """
    for point in points:
        refuse_if_seen(point, [prediction.id for prediction in predictions])
    by_criterion = {point.criterion: point for point in points}
    known = with_truth(predictions, healthy)
    rows: list[Measured] = []
    if any(truth.any() for _, truth in known):
        # One pass over all pixels for the three: a set has a hundred million of them.
        wanted: list[PooledMetric] = ["auroc", "average_precision", *(("aupro",) if config.regions else ())]
        auroc, precision, *overlap = ranking_intervals(known, wanted, config)
        rows += pixel_rows(known, by_criterion, config, ranking=(auroc, precision))
        rows += region_rows(known, by_criterion, config, overlap=overlap[0] if overlap else None)
    rows += healthy_rows(predictions, by_criterion, healthy, config)
    rows += image_rows(predictions, by_criterion, healthy, validation, config)
    return rows + fidelity_rows(known, config)


def origin(point: OperatingPoint) -> str:
    """Where a threshold came from, for a table."""
    target = f" {point.target:g}" if point.target is not None else ""
    return f"threshold {point.value:.4g}: {point.criterion}{target} on {point.chosen_on} ({point.num_images} images)"


def mean_row(group: str, name: str, values: Values, patients: Sequence[str], config: MeasureConfig, note: str = "") -> Measured:
    """Mean over images with its interval; images where the value is undefined are left out and their number is in the note."""
    missing = int(np.isnan(values).sum())
    # Where it is defined for no image the number is NaN, over all of them.
    kept = ~np.isnan(values) | (missing == len(values))
    chosen, owners = values[kept], [patient for patient, keep in zip(patients, kept, strict=True) if keep]
    interval = patient_bootstrap(
        lambda index: float(chosen[index].mean()), owners, num_resamples=config.num_resamples, seed=config.seed
    )
    text = "; ".join(part for part in (note, f"undefined for {missing} images" if missing else "") if part)
    return Measured(group=group, name=name, interval=interval, note=text)


def ranking_intervals(
    known: Sequence[tuple[Prediction, BoolArray]], metrics: Sequence[PooledMetric], config: MeasureConfig
) -> list[Interval]:
    """Intervals of metrics of all pixels together."""
    return pooled_pixel_bootstraps(
        [prediction.anomaly_map for prediction, _ in known],
        [truth for _, truth in known],
        [prediction.patient_id for prediction, _ in known],
        metrics,
        num_resamples=config.num_resamples,
        seed=config.seed,
    )


def pixel_rows(
    known: Sequence[tuple[Prediction, BoolArray]],
    points: dict[str, OperatingPoint],
    config: MeasureConfig,
    *,
    ranking: tuple[Interval, Interval],
) -> list[Measured]:
    """Pixel ranking on all annotated images and on those with a lesion, and overlap at each operating point."""
    rows = []
    lesioned = [(prediction, truth) for prediction, truth in known if truth.any()]
    for title, chosen in (("", known), (", lesion images", lesioned)):
        chance = f"prevalence {pixel.prevalence([truth for _, truth in chosen]):.4f}"
        auroc, precision = ranking if chosen is known else ranking_intervals(chosen, ["auroc", "average_precision"], config)
        rows.append(Measured(group="pixels", name="pixel AUROC" + title, interval=auroc, note=chance))
        rows.append(Measured(group="pixels", name="pixel AP" + title, interval=precision, note=chance))
    maps, masks = [p.anomaly_map for p, _ in lesioned], [truth for _, truth in lesioned]
    owners = [p.patient_id for p, _ in lesioned]
    named = [(f"@ {AT[key]}", point) for key in (DICE, HEALTHY_FPR) if (point := points.get(key))]
    named.append((ORACLE_AT, OperatingPoint.oracle_dice(maps, masks)))
    for title, point in named:
        values = pixel.dice_per_image(maps, masks, point.value)
        note = "an upper bound, not a result" if title == ORACLE_AT else origin(point)
        rows.append(mean_row("pixels", f"Dice {title}", values, owners, config, note))
        if title != ORACLE_AT:
            overlap = np.array([pixel.iou(m > point.value, mask) for m, mask in zip(maps, masks, strict=True)])
            rows.append(mean_row("pixels", f"IoU {title}", overlap, owners, config, note))
            distance = np.array([hausdorff95(m > point.value, mask) for m, mask in zip(maps, masks, strict=True)])
            rows.append(mean_row("pixels", f"HD95 {title}, px", distance, owners, config, note))
    otsu = np.array([pixel.dice(m > otsu_threshold(m), mask) for m, mask in zip(maps, masks, strict=True)])
    rows.append(mean_row("pixels", "Dice @ Otsu per image", otsu, owners, config, "no threshold is chosen on any set"))
    if (chosen_point := points.get(DICE)) is not None:
        dice = pixel.dice_per_image(maps, masks, chosen_point.value)
        areas = lesion_areas(masks)
        strata = dice_by_lesion_size(dice, areas)
        stratum = np.searchsorted(np.array(strata.edges), areas, side="left")
        for index, size in enumerate(("small", "medium", "large")):
            inside = np.flatnonzero(stratum == index)
            if inside.size:
                edges = f"lesion area terciles at {strata.edges[0]:.0f} and {strata.edges[1]:.0f} px"
                rows.append(mean_row("pixels", f"Dice, {size} lesions", dice[inside], [owners[i] for i in inside], config, edges))
    return rows


def region_rows(
    known: Sequence[tuple[Prediction, BoolArray]],
    points: dict[str, OperatingPoint],
    config: MeasureConfig,
    *,
    overlap: Interval | None,
) -> list[Measured]:
    """Lesions found, not pixels: pointing game, recall, AUPRO (``overlap``) and FROC where they are wanted."""
    maps, masks = [p.anomaly_map for p, _ in known], [truth for _, truth in known]
    owners = [p.patient_id for p, _ in known]
    hits = np.array([region.pointing_game_hit(m, mask) for m, mask in zip(maps, masks, strict=True) if mask.any()])
    lesioned = [p.patient_id for p, truth in known if truth.any()]
    rows = [mean_row("regions", "pointing game", hits, lesioned, config, "the map's maximum lies in the lesion")]
    if (point := points.get(DICE)) is not None:
        found = [region.match(m > point.value, mask)[0] for m, mask in zip(maps, masks, strict=True)]

        def recall(index: npt.NDArray[np.int64]) -> float:
            drawn = np.concatenate([found[i] for i in index])
            return float(drawn.mean()) if drawn.size else float("nan")

        interval = patient_bootstrap(recall, owners, num_resamples=config.num_resamples, seed=config.seed)
        rows.append(
            Measured(group="regions", name="lesion recall", interval=interval, note="a component with IoU >= 0.1 is a hit")
        )
    if overlap is not None:
        rows.append(Measured(group="regions", name="AUPRO to FPR 0.3", interval=overlap))
        thresholds = region.froc_thresholds(maps, 32)
        single = [region.froc([m], [mask], thresholds=thresholds.tolist()) for m, mask in zip(maps, masks, strict=True)]
        # Counts of one image add up, so a resample needs no new labelling.
        num_hit = np.array([np.nan_to_num(one.sensitivity) * one.num_lesions for one in single])
        num_false = np.array([one.false_positives_per_image for one in single])
        num_lesions = np.array([one.num_lesions for one in single])

        def sensitivity(index: npt.NDArray[np.int64]) -> float:
            resampled = region.FrocCurve(
                thresholds=single[0].thresholds,
                false_positives_per_image=num_false[index].mean(axis=0),
                sensitivity=num_hit[index].sum(axis=0) / max(num_lesions[index].sum(), 1),
                num_images=len(index),
                num_lesions=int(num_lesions[index].sum()),
            )
            return resampled.mean_sensitivity

        interval = patient_bootstrap(sensitivity, owners, num_resamples=config.num_resamples, seed=config.seed)
        note = "mean sensitivity at 1/8 to 8 false components an image"
        rows.append(Measured(group="regions", name="FROC", interval=interval, note=note))
    return rows


def healthy_rows(
    predictions: Sequence[Prediction], points: dict[str, OperatingPoint], healthy: str, config: MeasureConfig
) -> list[Measured]:
    """False alarms on healthy images at each pixel threshold: what Dice cannot show."""
    well = [prediction for prediction in predictions if prediction.label == healthy]
    rows = []
    for key in (DICE, HEALTHY_FPR):
        if well and (point := points.get(key)) is not None:
            area = image.false_positive_area([prediction.anomaly_map for prediction in well], point.value)
            owners = [prediction.patient_id for prediction in well]
            rows.append(mean_row("pixels", f"healthy area flagged @ {AT[key]}", area, owners, config, origin(point)))
    return rows


def image_rows(
    predictions: Sequence[Prediction],
    points: dict[str, OperatingPoint],
    healthy: str,
    validation: Sequence[Prediction],
    config: MeasureConfig,
) -> list[Measured]:
    """Is this image diseased? Ranking by the image score, decisions at the Youden point, calibration of its probability."""
    labelled = [prediction for prediction in predictions if prediction.label is not None]
    labels = np.array([prediction.label != healthy for prediction in labelled], dtype=np.bool_)
    if not labels.any() or labels.all():
        return []
    scores = np.array([prediction.score for prediction in labelled], dtype=np.float64)
    owners = [prediction.patient_id for prediction in labelled]
    prevalence = f"{int(labels.sum())} of {len(labels)} images diseased"

    def row(name: str, statistic: object, note: str) -> Measured:
        interval = patient_bootstrap(statistic, owners, num_resamples=config.num_resamples, seed=config.seed)  # type: ignore[arg-type]
        return Measured(group="images", name=name, interval=interval, note=note)

    rows = [
        row("image AUROC", lambda i: image.image_auroc(scores[i], labels[i]), prevalence),
        row("image AP", lambda i: image.image_average_precision(scores[i], labels[i]), prevalence),
        row(
            "sensitivity at 95 % specificity",
            lambda i: image.sensitivity_at_specificity(scores[i], labels[i]),
            "threshold read off the same images: describes the ranking",
        ),
    ]
    if (point := points.get(YOUDEN)) is not None:
        value = point.value
        for name in ("accuracy", "precision", "recall", "f1"):
            rows.append(
                row(
                    f"image {'F1' if name == 'f1' else name}",
                    lambda i, name=name: float(getattr(image.classify(scores[i], labels[i], value), name)),
                    origin(point),
                )
            )
    probability = calibrated(scores, validation, healthy)
    if probability is not None:
        note = "probability by logistic regression on the validation scores, 10 bins"
        rows.append(row("calibration error", lambda i: image.expected_calibration_error(probability[i], labels[i]), note))
    return rows


def calibrated(scores: Values, validation: Sequence[Prediction], healthy: str) -> Values | None:
    """Probability of disease from image scores (Platt 1999), fitted on validation images; None where they have one class."""
    labelled = [prediction for prediction in validation if prediction.label is not None]
    labels = np.array([prediction.label != healthy for prediction in labelled], dtype=np.bool_)
    if not labels.any() or labels.all():
        return None
    seen = np.array([[prediction.score] for prediction in labelled], dtype=np.float64)
    scale = float(seen.std()) or 1.0
    model = LogisticRegression().fit(seen / scale, labels)
    probability: Values = model.predict_proba(scores[:, None] / scale)[:, 1]
    return probability


def fidelity_rows(known: Sequence[tuple[Prediction, BoolArray]], config: MeasureConfig) -> list[Measured]:
    """How well the pseudo-healthy image keeps what was healthy: measured outside the lesion only."""
    made = [(p, p.pseudo_healthy, truth) for p, truth in known if p.pseudo_healthy is not None]
    if not made:
        return []
    owners = [p.patient_id for p, _, _ in made]
    rows = []
    for name, function in (("PSNR outside lesions, dB", fidelity.psnr), ("SSIM outside lesions", fidelity.ssim)):
        values = np.array([function(p.pixels, twin, truth) for p, twin, truth in made])
        rows.append(mean_row("fidelity", name, np.where(np.isinf(values), np.nan, values), owners, config))
    return rows
