"""The rows of ``benchmarks/deblur.py`` as tables with intervals over patients."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medanomaly.evaluation.tables import as_markdown, cell
from medanomaly.files import atomic_write, write_json
from medanomaly.metrics.bootstrap import patient_bootstrap

Row = dict[str, Any]
Found = dict[str, Any]


def write_results(out: Path, facts: Mapping[str, Any], *, num_resamples: int) -> str:
    """Write ``table.md`` and ``results.json`` from ``rows.jsonl``; returns the tables."""
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    parts = {
        "known kernel": known_table(rows, num_resamples),
        "DiffPIR against TV, known kernel": paired_table(rows, num_resamples),
        "estimated kernel, gates on": estimated_table(rows, num_resamples),
        "sharp images": sharp_table(rows),
        "wrong kernels": wrong_table(rows),
        "time": time_table(rows),
    }
    text = "\n".join(f"## {title}\n\n{as_markdown(*table(found, columns))}" for title, (columns, found) in parts.items() if found)
    head = f"# Deblurring, {facts['num_images']} images, prior {facts['prior']}, {facts['side']} px, seed {facts['seed']}\n\n"
    with atomic_write(out / "table.md") as stream:
        stream.write((head + text).encode())
    write_json(out / "results.json", {"settings": dict(facts), "tables": {title: found for title, (_, found) in parts.items()}})
    return head + text


def table(found: Sequence[Found], columns: Sequence[str]) -> tuple[list[str], list[list[str]], list[str]]:
    """(columns, cells, notes) for Markdown."""

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return cell(value)
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    return list(columns), [[text(one[name]) for name in columns] for one in found], []


def groups(rows: Sequence[Row], keys: Sequence[str]) -> Iterator[tuple[Found, list[Row]]]:
    """(the keys' values, rows that share them), in order of appearance."""
    made: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        made.setdefault(tuple(row[key] for key in keys), []).append(row)
    for values, members in made.items():
        yield dict(zip(keys, values, strict=True)), members


def interval(members: Sequence[Row], value: Callable[[Row], float], num_resamples: int) -> Found:
    """Mean over images with its interval over patients."""
    values = np.array([value(row) for row in members])
    made = patient_bootstrap(lambda i: float(values[i].mean()), [row["patient"] for row in members], num_resamples=num_resamples)
    return {
        "value": made.value,
        "low": made.low,
        "high": made.high,
        "num_images": len(members),
        "num_patients": made.num_patients,
    }


def known_table(rows: Sequence[Row], num_resamples: int) -> tuple[list[str], list[Found]]:
    """PSNR and SSIM of each solver."""
    found = [
        key
        | {"images": len(members)}
        | {name: interval(members, lambda row, name=name: row[name], num_resamples) for name in ("psnr", "ssim")}  # type: ignore[misc]
        for key, members in groups([row for row in rows if row["table"] == "known"], ("length", "noise", "method"))
    ]
    return ["length", "noise", "method", "images", "psnr", "ssim"], found


def paired_table(rows: Sequence[Row], num_resamples: int) -> tuple[list[str], list[Found]]:
    """Difference in PSNR image by image: each DiffPIR against TV and against the blurred image."""
    found = []
    for key, members in groups([row for row in rows if row["table"] == "known"], ("length", "noise")):
        of = {name["method"]: {row["id"]: row for row in same} for name, same in groups(members, ("method",))}
        for method in (name for name in of if name.startswith("DiffPIR")):
            for other in ("TV", "blurred"):
                pairs = [row | {"difference": row["psnr"] - of[other][row["id"]]["psnr"]} for row in of[method].values()]
                gain = interval(pairs, lambda row: row["difference"], num_resamples)
                found.append(key | {"method": method, "against": other, "dB": gain})
    return ["length", "noise", "method", "against", "dB"], found


def estimated_table(rows: Sequence[Row], num_resamples: int) -> tuple[list[str], list[Found]]:
    """Hit rate, and the share of the gain that the right kernel gives."""
    known = {(row["id"], row["length"], row["noise"], row["method"]): row for row in rows if row["table"] == "known"}
    hits = {
        (key["length"], key["noise"]): members
        for key, members in groups([row for row in rows if row["table"] == "estimate"], ("length", "noise"))
    }
    found = []
    for key, members in groups([row for row in rows if row["table"] == "estimated"], ("length", "noise", "method")):
        told = hits[(key["length"], key["noise"])]
        gain = float(np.mean([row["psnr"] - row["before"] for row in members]))
        full = float(np.mean([known[(r["id"], r["length"], r["noise"], r["method"])]["psnr"] - r["before"] for r in members]))
        right = interval(told, lambda row: float(row["right"]), num_resamples)
        claimed = interval(told, lambda row: float(row["claimed"]), num_resamples)
        worst = min(row["psnr"] - row["before"] for row in members)
        used = float(np.mean([row["changed"] for row in members]))
        share = gain / full if full > 0 else math.nan
        found.append(
            key | {"right": right, "claimed": claimed, "used": used, "gain dB": gain, "share of known": share, "worst dB": worst}
        )
    return ["length", "noise", "method", "right", "claimed", "used", "gain dB", "share of known", "worst dB"], found


def sharp_table(rows: Sequence[Row]) -> tuple[list[str], list[Found]]:
    """How many sharp images were changed, and what the worst change cost."""
    found = [
        key
        | {
            "images": len(members),
            "changed": sum(row["changed"] for row in members),
            "worst dB": min((row["psnr"] - row["before"] for row in members if row["changed"]), default=0.0),
        }
        for key, members in groups([row for row in rows if row["table"].startswith("sharp")], ("table", "noise", "method"))
    ]
    return ["table", "noise", "method", "images", "changed", "worst dB"], found


def wrong_table(rows: Sequence[Row]) -> tuple[list[str], list[Found]]:
    """Worst and mean change of PSNR with a kernel that is off, with and without the gates."""
    chosen = [row for row in rows if row["cell"].startswith("wrong")]
    found = []
    for key, members in groups(chosen, ("length", "noise", "table", "method")):
        gated = [row["psnr"] - row["before"] for row in members]
        free = [row["ungated_psnr"] - row["before"] for row in members]
        used = float(np.mean([row["changed"] for row in members]))
        numbers = {"worst dB": min(gated), "mean dB": float(np.mean(gated)), "worst dB ungated": min(free)}
        found.append(key | {"images": len(members), "used": used} | numbers | {"mean dB ungated": float(np.mean(free))})
    names = ["length", "noise", "table", "method", "images", "used", "worst dB", "mean dB", "worst dB ungated", "mean dB ungated"]
    return names, found


def time_table(rows: Sequence[Row]) -> tuple[list[str], list[Found]]:
    """Seconds an image, and the share outside of the network."""
    found = []
    for key, members in groups([row for row in rows if row["table"] == "time"], ("method",)):
        seconds, network = (sum(row[name] for row in members) for name in ("seconds", "network_seconds"))
        share = 1 - network / seconds if network else math.nan
        found.append(key | {"s an image": seconds / sum(row["num_images"] for row in members), "outside the network": share})
    return ["method", "s an image", "outside the network"], found
