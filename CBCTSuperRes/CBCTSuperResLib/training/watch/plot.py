"""The curves of a run as a picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ...models.safetensors_file import replacing
from .table import STEP, Row

MOST_POINTS = 2000
WHAT_TO_INSTALL = "curves.png needs matplotlib, which is not installed: pip install matplotlib"


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_curves(rows: Sequence[Row], path: Path, title: str) -> Path:
    """Draw the losses and the PSNR against cubic interpolation; the PNG appears whole or not at all.

    Parameters
    ----------
    rows : sequence of Row
        As `table.read_curves` gives them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [panel for panel in _panels(rows) if panel[1]]
    figure = Figure(figsize=(5.5 * len(panels) or 5.5, 4.2), layout="tight")
    FigureCanvasAgg(figure)
    for place, (label, lines, logarithmic) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for name, (steps, values) in lines.items():
            axes.plot(steps, values, label=name, linewidth=1.2, marker="." if len(steps) < 20 else None)
        axes.set(xlabel="iteration", xlim=(0, rows[-1][STEP]), title=label, yscale="log" if logarithmic else "linear")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(title)
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=100, format="png")
    return path


def _panels(rows: Sequence[Row]) -> list[tuple[str, dict, bool]]:
    """Title, lines by name, and whether the axis is logarithmic."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    generator = [name for name in names if name.startswith("l_g")]
    discriminators = [name for name in names if name.startswith("l_d")]
    psnr = {"val_psnr": "network", "val_psnr_cubic": "cubic interpolation"}
    return [
        ("generator's losses", {name: _line(rows, name) for name in generator}, True),
        ("discriminators' losses", {name: _line(rows, name) for name in discriminators}, True),
        ("PSNR of the validation images (dB)", {psnr[n]: _line(rows, n) for n in psnr if n in names}, False),
    ]


def _line(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a column, thinned to at most `MOST_POINTS`."""
    points = [(row[STEP], row[name]) for row in rows if name in row]
    points = points[:: -(-len(points) // MOST_POINTS)] if points else []
    return [step for step, _ in points], [value for _, value in points]
