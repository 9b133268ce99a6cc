"""The curves of a run: `curves.csv`, with a row for every `logger.print_freq`-th iteration, and the picture beside it.

The file grows, and a resumed run continues it as if nothing had happened. Standard library only, but for the picture: a
bare Slicer reads the same file for its plots.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..core.atomic import replacing
from .observer import Observer, RunFacts, RunResult

Row = dict[str, float]
STEP, SECONDS = "step", "seconds"
MOST_POINTS = 2000
WHAT_TO_INSTALL = "curves.png needs matplotlib, which is not installed: pip install matplotlib"
log = logging.getLogger(__name__)
CSV, PNG = "curves.csv", "curves.png"
VALIDATION = "val_"
SHARE = 0.02


def read_curves(path: str | Path) -> list[Row]:
    """The rows of a `curves.csv`, without the cells that are empty; [] if there is no such file.

    A last line that was cut off, as a killed process may leave it, does not count.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    names, *lines = csv.reader(io.StringIO(whole)) if whole else [[]]
    if STEP not in names:
        return []
    place = names.index(STEP)
    return [_numbers(names, cells) for cells in lines if len(cells) > place and cells[place].isdigit()]


class CurvesTable:
    """A CSV file with a row for some of the steps; columns join as they appear.

    >>> table = CurvesTable(run / "curves.csv", after=1000)  # rows beyond step 1000 are forgotten
    >>> table.put(1100, {"lr": 1e-4, "l_g_pix": 0.02})
    >>> table.put(1100, {"val_psnr": 31.2})  # joins the row

    Parameters
    ----------
    path : Path
    after : int
        The step that the run goes on from; 0 begins a new file.
    """

    def __init__(self, path: Path, after: int = 0) -> None:
        self._path = path
        kept = [row for row in read_curves(path) if row[STEP] <= after]
        self.seconds = kept[-1].get(SECONDS, 0.0) if kept else 0.0
        self._columns = list(dict.fromkeys([STEP, SECONDS, *(name for row in kept for name in row)]))
        self._last = kept[-1] if kept else {}
        self._write_all(kept)

    def put(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row, or values to the last one if it is of this step."""
        repeated = self._last.get(STEP) == step
        row = {**(self._last if repeated else {STEP: step}), **values}
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._write_all(read_curves(self._path))
        with self._path.open("r+b") as file:
            file.seek(-len(self._line(self._last)) if repeated else 0, os.SEEK_END)
            file.write(self._line(row))
        self._last = row

    def _write_all(self, rows: Sequence[Row]) -> None:
        with replacing(self._path) as scratch:
            scratch.write_bytes(_csv_line(self._columns) + b"".join(map(self._line, rows)))

    def _line(self, row: Row) -> bytes:
        return _csv_line([_text(name, row.get(name)) for name in self._columns])


def _csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _text(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(int(value)) if name == STEP else f"{value:.7g}"


def _numbers(names: Sequence[str], cells: Sequence[str]) -> Row:
    """The cells of a line that are not empty, by their columns."""
    filled = ((name, cell) for name, cell in zip(names, cells, strict=False) if cell)
    return {name: int(cell) if name == STEP else float(cell) for name, cell in filled}


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_curves(rows: Sequence[Row], path: Path, title: str) -> Path:
    """Draw the losses and the PSNR against cubic interpolation; the PNG appears whole or not at all.

    Parameters
    ----------
    rows : sequence of Row
        As `read_curves` gives them.
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


class CurvesCsv(Observer):
    """Writes `curves.csv` into the run's folder: step, seconds of training so far, losses, learning rate, validation.

    On resume, rows beyond the resumed step are removed, so that the file becomes that of an uninterrupted run, except
    for the seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def started(self, run: RunFacts) -> None:
        self._table = CurvesTable(run.folder / CSV, after=run.step)
        self._print_freq, self._niter = int(run.options["logger"]["print_freq"]), run.niter
        self._origin = self._clock() - self._table.seconds

    def step(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        if number % self._print_freq == 0 or number in (1, self._niter):
            self._table.put(number, {SECONDS: round(self._clock() - self._origin, 1), **logs})

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        values = {f"{VALIDATION}{name}": value for name, value in numbers(results).items() if name != "step"}
        self._table.put(number, {SECONDS: round(self._clock() - self._origin, 1), **values})


class CurvesPicture(Observer):
    """Draws `curves.png` from `curves.csv` after validations and checkpoints, and at the end; needs matplotlib.

    Drawing takes at most `SHARE` of the time; the picture at the end is always drawn. `CurvesCsv` must be told before
    it. Without matplotlib it says once what to install, by `notice`.
    """

    def __init__(
        self, notice: Callable[[str], None] = log.warning, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._notice, self._clock = notice, clock
        self._able, self._next = False, -math.inf

    def started(self, run: RunFacts) -> None:
        self._folder, self._title = run.folder, run.name
        self._able = can_draw()
        if not self._able:
            self._notice(WHAT_TO_INSTALL)

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        self._draw_if_time()

    def saved(self, number: int, path: Path) -> None:
        self._draw_if_time()

    def ended(self, result: RunResult) -> None:
        self._draw()

    def _draw_if_time(self) -> None:
        began = self._clock()
        if began >= self._next:
            self._draw()
            self._next = self._clock() + (self._clock() - began) / SHARE

    def _draw(self) -> None:
        rows = read_curves(self._folder / CSV) if self._able else []
        if rows:
            draw_curves(rows, self._folder / PNG, self._title)


def numbers(results: dict) -> dict[str, float]:
    """The measures among the results of a validation."""
    return {name: value for name, value in results.items() if isinstance(value, int | float)}
