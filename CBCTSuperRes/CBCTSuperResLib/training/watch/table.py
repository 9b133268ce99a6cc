"""The numbers of a run as a CSV file that grows, and that a resumed run continues as if nothing had happened.

Standard library only: a bare Slicer reads the same file for its plots.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...models.safetensors_file import replacing

Row = dict[str, float]
STEP, SECONDS = "step", "seconds"


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
