"""What a run has recorded: losses, validations, pictures. A bare Slicer can read it, too."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..training.runs import newest_picture
from ..training.watch.table import SECONDS, STEP, Row, read_curves

CURVES, PICTURES = "curves.csv", "val_images"
VALIDATION = "val_"


@dataclass(frozen=True)
class RunRecord:
    """The curves of a run and its newest picture.

    Attributes
    ----------
    history : list of dict
        Rows with "step" and the losses, oldest first.
    validations : list of dict
        Rows with "step" and what was measured ("psnr", "psnr_cubic", ...), oldest first.
    picture : Path or None
        The newest picture of a validation.
    """

    history: list[Row] = field(default_factory=list)
    validations: list[Row] = field(default_factory=list)
    picture: Path | None = None

    @classmethod
    def of(cls, run: str | Path, until: float = float("inf")) -> RunRecord:
        """What the folder of a run holds, up to a step; a folder that is no run holds nothing."""
        try:
            rows, picture = read_curves(Path(run) / CURVES), newest_picture(Path(run) / PICTURES)
        except OSError:  # a disk that is away, or a file that is being replaced: it is there at the next look
            return cls()
        parts = [(row[STEP], *parts_of(row)) for row in rows if row[STEP] <= until]
        return cls(
            [{STEP: step, **losses} for step, losses, _ in parts if losses],
            [{STEP: step, **measures} for step, _, measures in parts if measures],
            picture,
        )


def parts_of(row: Row) -> tuple[dict[str, float], dict[str, float]]:
    """What a row of a run's curves says of the losses, and what of a validation."""
    losses, measures = {}, {}
    for name, value in row.items():
        if name.startswith(VALIDATION):
            measures[name.removeprefix(VALIDATION)] = value
        elif name not in (STEP, SECONDS):
            losses[name] = value
    return losses, measures
