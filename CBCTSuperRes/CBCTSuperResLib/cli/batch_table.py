"""How far a batch is, on the terminal, and what came of it in the end: a line a scan."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence

from ..core.errors import printable
from ..core.progress import duration_text
from ..jobs.queue import Item, State


class LiveTable:
    """How far a batch is: on a terminal a line for each scan that is being computed, and one for all, rewritten in
    place; elsewhere a line for every ten per cent, of the scan, or of all where several are computed at a time.

    Slicer shows what is printed only when a line has ended, so that its terminal is none.
    """

    def __init__(self, scans: int, workers: int) -> None:
        self._scans, self._are_many = scans, workers > 1
        self._is_terminal = getattr(sys.stdout, "isatty", bool)()
        self._tenths, self._lines, self._began = 0, 0, time.monotonic()

    def begin(self, number: int, item: Item) -> None:
        if not self._are_many:
            self.say(f"[{number}/{self._scans}] {printable(str(item.source))}")

    def end(self, number: int, item: Item) -> None:
        if item.state is State.CANCELLED and not item.error:  # it never began
            return
        skipped = item.state is State.SKIPPED
        outcome = "up to date, skipped" if skipped else f"{item.state.value}, {duration_text(item.seconds)}"
        if self._are_many:
            self.say(f"[{number}/{self._scans}] {printable(str(item.source))}: {outcome}")
        else:
            self.say(f"  {outcome}")
            self._tenths = 0
        for warning in item.warnings:
            print(f"  Warning: {warning}", flush=True)
        if item.state is State.FAILED:
            print(f"  Error: {item.error}", file=sys.stderr, flush=True)

    def show(self, items: Sequence[Item]) -> None:
        running = [item for item in items if item.state is State.RUNNING]
        if self._is_terminal:
            name = max(len(printable(item.source.name)) for item in running) if self._are_many else 0
            lines = [f"  {printable(item.source.name):{name}}{_progress(item)}" for item in running]
            if self._scans > 1:
                lines.append(f"  {self._of_all(items)}")
            self._rewrite(lines)
            return
        fraction = _share_done(items) if self._are_many else running[0].fraction
        if int(10 * fraction) > self._tenths:
            self._tenths = int(10 * fraction)
            item = running[0]
            print(
                f"  {self._of_all(items)}" if self._are_many else _progress(item, item.message.partition(":")[0]),
                flush=True,
            )

    def say(self, text: str) -> None:
        """Let a line take the place of the table."""
        self._rewrite([])
        print(text, flush=True)

    def _of_all(self, items: Sequence[Item]) -> str:
        """ "12 of 40 scans, 31%, 4 min left"."""
        done, fraction = sum(item.fraction == 1 for item in items), _share_done(items)
        text = f"{done} of {len(items)} scans, {fraction:.0%}"
        if fraction < 0.02:
            return text
        return f"{text}, {duration_text((time.monotonic() - self._began) * (1 - fraction) / fraction)} left"

    def _rewrite(self, lines: Sequence[str]) -> None:
        if not self._is_terminal:
            return
        columns = shutil.get_terminal_size().columns - 1  # a line that breaks could not be rewritten
        back = f"\x1b[{self._lines}F" if self._lines else ""
        print(back + "".join(f"\x1b[2K{line[:columns]}\n" for line in lines) + "\x1b[J", end="", flush=True)
        self._lines = len(lines)


def _progress(item: Item, stage: str | None = None) -> str:
    """ "  45% Network: 3 of 12, 20 s left"."""
    stage = (item.message if stage is None else stage) or "Starting"
    left = f", {duration_text(item.remaining)} left" if item.remaining else ""
    return f"  {item.fraction:4.0%} {stage}{left}"


def _share_done(items: Sequence[Item]) -> float:
    """From 0 to 1, without those that were skipped."""
    computed = [item for item in items if item.state is not State.SKIPPED]
    return sum(item.fraction for item in computed) / max(1, len(computed))


def table(items: list[Item]) -> str:
    """One line a scan, for people."""
    # Of those that a Ctrl-C has spared nothing has happened.
    states = ["waiting" if i.state is State.CANCELLED and not i.error else i.state.value for i in items]
    rows = zip(states, items, strict=True)
    lines = [f"{state:9} {duration_text(item.seconds or None):>9}  {item.source.name}" for state, item in rows]
    counts = ", ".join(f"{state} {states.count(state)}" for state in dict.fromkeys(states))
    return "\n".join(["", *lines, f"{len(items)} scans: {counts}"])
