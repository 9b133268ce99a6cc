"""What we ask of a shipped model, against cubic interpolation of the same scan, and whether it is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from CBCTSuperResLib.evaluate.contenders import CUBIC


@dataclass(frozen=True)
class Goal:
    """One demand on one figure.

    Attributes
    ----------
    metric : str
        Of the rows that it looks at.
    text : str
    limit : callable (cubic) -> (lowest, highest)
        What the model's value must lie in, given that of cubic.
    """

    metric: str
    text: str
    limit: Callable[[float], tuple[float, float]]


@dataclass(frozen=True)
class Verdict:
    """A goal on one row.

    Attributes
    ----------
    goal : Goal
    data : str
    cubic, value : float
    reached : bool
    """

    goal: Goal
    data: str
    cubic: float
    value: float
    reached: bool


INF = float("inf")


def _thickness(cubic: float) -> tuple[float, float]:
    """At most a third of cubic's error, or 2 %, and never more than 10 %."""
    most = min(10.0, max(abs(cubic) / 3, 2.0))
    return -most, most


def _resolution(cubic: float) -> tuple[float, float]:
    return (1.15 * cubic, INF) if cubic < 0.5 else (cubic, INF)


GOALS = (
    Goal("psnr", "PSNR at least 3 dB above cubic", lambda cubic: (cubic + 3, INF)),
    Goal("thickness", "thickness error at most max(a third of cubic's, 2 %), and 10 %", _thickness),
    Goal("gradient_correlation", "closes 40 % of cubic's gap to 1", lambda cubic: (1 - 0.6 * (1 - cubic), INF)),
    Goal("gradient_energy", "0.85 to 1.10", lambda cubic: (0.85, 1.10)),
    Goal("fsc", "+15 % of cubic's where that is below 0.5, else not below it", _resolution),
    Goal("consistency", "0.90 to 1.05", lambda cubic: (0.90, 1.05)),
    Goal("spurious", "at most 1 per cm3", lambda cubic: (0, 1)),
    Goal("noise_left", "no more noise than cubic", lambda cubic: (0, cubic)),
    Goal("voxels_beyond", "no voxel across a midpoint", lambda cubic: (0, 0)),
    Goal("canals_found", "at least 0.85", lambda cubic: (0.85, INF)),
    Goal("canals_false", "at most 2 %", lambda cubic: (0, 2)),
)


def judge(rows: Sequence[dict], name: str) -> Iterator[Verdict]:
    """Every goal on every row that has its figure, for the model of a name."""
    for goal in GOALS:
        for row in rows:
            cubic, value = row.get(CUBIC), row.get(name)
            if row["metric"] != goal.metric or value is None:
                continue
            low, high = goal.limit(cubic if cubic is not None else 0.0)
            yield Verdict(goal, row["data"], cubic, value, low <= value <= high)


def goals_text(verdicts: Iterator[Verdict]) -> str:
    """A table for people: each goal, where it is reached and where not."""
    lines = ["| goal | data | cubic | model | reached |", "| --- | --- | --- | --- | --- |"]
    count = reached = 0
    for v in verdicts:
        count, reached = count + 1, reached + v.reached
        said = "yes" if v.reached else "**no**"
        lines.append(f"| {v.goal.metric}: {v.goal.text} | {v.data} | {v.cubic:g} | {v.value:g} | {said} |")
    return "\n".join([*lines, "", f"{reached} of {count} reached."])
