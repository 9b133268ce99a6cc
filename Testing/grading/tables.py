"""Rows of figures as tables for people, and in model cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from CBCTSuperResLib.apply.calibration import calibrate
from CBCTSuperResLib.evaluate.contenders import CUBIC
from CBCTSuperResLib.measure.catalogue import MEASURES
from CBCTSuperResLib.models.model import Model

LABELS = {
    **{m.name: f"{m.label} ({m.unit})" if m.unit else m.label for m in MEASURES},
    "canals_found": "Canals that are shown (share)",
    "canals_false": "Roots with a false canal (%)",
    "noise_left": "Noise left (% of the window)",
    "voxels_beyond": "Voxels that look like another tissue",
    "mtf50": "Frequency with half the contrast (of Nyquist)",
    "overshoot": "Overshoot at the edge (%)",
    "instability": "Change from noise to noise (of the scan's)",
}
IN_SUMMARY = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "gradient_correlation": "edges: correlation",
    "gradient_energy": "edges: energy",
    "fsc": "FSC 0.5",
    "consistency": "agreement with the scan",
    "thickness": "thickness error (%)",
    "spurious": "bone that is not there (/cm3)",
}
BESIDE_DATA = ("data", "protocol", "metric")  # all other keys of a row are methods


def as_markdown(rows: Sequence[dict]) -> str:
    """A table with a line for each data and measure, and a column for each method."""
    methods = [key for key in rows[0] if key not in BESIDE_DATA]
    lines = [["data", "measure", *methods], ["---"] * (2 + len(methods))]
    for row in rows:
        values = ("" if row[method] is None else f"{row[method]:g}" for method in methods)
        lines.append([row["data"], LABELS.get(row["metric"], row["metric"]), *values])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_summary(rows: Sequence[dict], name: str) -> str:
    """The figures that matter most, a line for each scan and protocol: cubic, then the model of this name."""
    lines = [["scan", *IN_SUMMARY.values()], ["---"] * (1 + len(IN_SUMMARY))]
    scans = dict.fromkeys(row["data"] for row in rows if row["metric"] == "psnr")
    for scan in scans:
        found = {row["metric"]: row for row in rows if row["data"] == scan}
        cells = (_before_after(found.get(metric), name) for metric in IN_SUMMARY)
        lines.append([scan.partition(", blur")[0], *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_results(model: Model, rows: Sequence[dict], name: str) -> Model:
    """The model with a card whose results are these rows, in which its own column is called "model".

    The columns of other models stay under their names. The halo is calibrated if it was not.
    """
    rows = [{("model" if key == name else key): value for key, value in row.items()} for row in rows]
    model = model if model.spec.can_be_cut else calibrate(model)
    return Model(model.network, replace(model.card, results=rows))


def _before_after(row: dict | None, name: str) -> str:
    if row is None or row.get(name) is None:
        return ""
    return f"{row[CUBIC]:g} → **{row[name]:g}**"
