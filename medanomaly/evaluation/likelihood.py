"""Bits/dim of a set of images: means of the bound's terms with intervals over patients, as rows, table and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medanomaly.diffusion.likelihood import Bound, Stratum
from medanomaly.evaluation.rows_as_csv import csv_bytes
from medanomaly.evaluation.tables import as_markdown, cell
from medanomaly.files import atomic_write, write_json
from medanomaly.metrics.bootstrap import patient_bootstrap
from medanomaly.metrics.inputs import check_count
from medanomaly.views.bound_curve import bound_figure

TERMS = {
    "bits/dim": "total",
    "L_T, prior": "prior",
    "sum of L_t, denoising": "middle",
    "L_0, decoder": "decoder",
}
"""Name in tables -> attribute of the bound; the first is the sum of the others."""


def joined(bounds: Sequence[Bound]) -> Bound:
    """The bounds of batches as one, on the CPU."""

    def cat(name: str) -> torch.Tensor:
        return torch.cat([getattr(bound, name).cpu() for bound in bounds])

    return Bound(
        prior=cat("prior"), decoder=cat("decoder"), levels=cat("levels"), terms=cat("terms"), widths=bounds[0].widths.cpu()
    )


def likelihood_rows(
    bound: Bound, patient_ids: Sequence[str], *, num_resamples: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """One row a term: name, value, interval and what to say of it. The interval holds the scatter of the drawn noise as well."""
    check_count("patient_ids", len(patient_ids), len(bound.prior))
    rows = []
    for name, attribute in TERMS.items():
        values = getattr(bound, attribute).double().numpy()
        found = patient_bootstrap(
            lambda index, values=values: float(values[index].mean()),  # type: ignore[misc]
            patient_ids,
            num_resamples=num_resamples,
            seed=seed,
        )
        rows.append({"name": name, **asdict(found), "note": found.caution})
    return rows


def write_likelihood(
    out: Path,
    bound: Bound,
    *,
    ids: Sequence[str],
    patient_ids: Sequence[str],
    strata: Sequence[Stratum],
    title: str,
    notes: Sequence[str],
    facts: Mapping[str, Any],
    num_resamples: int,
    seed: int,
) -> str:
    """Write likelihood.json, table.md, table.csv, images.csv and curve.png; returns the table's text.

    Args:
        out: the folder.
        bound: of all images.
        ids, patient_ids: of the images, in the bound's order.
        strata: what the drawn levels stand for.
        title: name of the data set.
        notes: under the table.
        facts: kept in the JSON.
        num_resamples, seed: of the bootstrap.
    """
    rows = likelihood_rows(bound, patient_ids, num_resamples=num_resamples, seed=seed)
    curve = [
        {"first_level": low, "last_level": high, "mean_term": float(value)}
        for (low, high), value in zip(strata, bound.terms.mean(dim=0), strict=True)
    ]
    write_json(
        out / "likelihood.json", {"title": title, "rows": rows, "curve": curve, "notes": list(notes), "facts": dict(facts)}
    )
    num_images, num_patients = rows[0]["num_images"], rows[0]["num_patients"]
    said = [f"{num_images} images of {num_patients} patients; 95 % percentile bootstrap over patients.", *notes]
    said += [f"{rows[0]['note']}."] if rows[0]["note"] else []
    text = as_markdown([f"bits/dim on {title}", "mean"], [[row["name"], cell(row)] for row in rows], said)
    keys = ("name", "value", "low", "high", "confidence", "num_images", "num_patients", "note")
    values = np.stack([getattr(bound, attribute).double().numpy() for attribute in TERMS.values()], axis=1)
    lines = [[name, patient, *map(repr, map(float, row))] for name, patient, row in zip(ids, patient_ids, values, strict=True)]
    picture = bound_figure(
        bound.levels.numpy(), bound.terms.double().numpy(), decoder=float(bound.decoder.mean()), title=title, strata=strata
    )
    contents = {
        "table.md": text.encode("utf-8", "surrogateescape"),
        "table.csv": csv_bytes(keys, [[row[key] for key in keys] for row in rows]),
        "images.csv": csv_bytes(("id", "patient_id", *TERMS.values()), lines),
        "curve.png": picture,
    }
    for name, content in contents.items():
        with atomic_write(out / name) as stream:
            stream.write(content)
    return text
