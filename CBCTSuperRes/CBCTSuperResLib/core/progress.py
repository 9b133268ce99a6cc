"""How far a piece of work is and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Callable

Report = Callable[[float, str], None]


class ProgressMeter:
    """Makes the fraction monotone and tells the remaining time.

    >>> meter = ProgressMeter()
    >>> meter.update(0.5)
    >>> meter.fraction, meter.remaining_s

    Parameters
    ----------
    paced_from : float
        Fraction from which on the pace is measured: how long reading took does not tell how long computing will take.
    clock : callable, optional
        Seconds.
    """

    def __init__(self, paced_from: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.fraction = 0.0
        self._paced_from, self._clock = paced_from, clock
        self._start: tuple[float, float] | None = None

    def update(self, fraction: float) -> None:
        self.fraction = min(1.0, max(self.fraction, float(fraction)))
        if self._start is None and self.fraction >= self._paced_from:
            self._start = (self._clock(), self.fraction)

    @property
    def remaining_s(self) -> float | None:
        """Seconds to go at the pace so far; None until there is a pace."""
        if self._start is None:
            return None
        since, first = self._start
        done = self.fraction - first
        if done < 0.02:
            return None
        return (self._clock() - since) * (1 - self.fraction) / done


def part_of(progress: Report | None, start: float, stop: float) -> Report:
    """A progress callback whose 0 to 1 is `start` to `stop` of `progress`."""

    def report(fraction: float, message: str = "") -> None:
        if progress:
            progress(start + (stop - start) * min(1.0, max(0.0, fraction)), message)

    return report


def duration_text(seconds: float | None) -> str:
    """A duration as people say it: "40 s", "3 min", "2 h 05 min"; empty if unknown."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
