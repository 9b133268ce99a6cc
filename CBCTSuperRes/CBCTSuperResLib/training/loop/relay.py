"""Observers of one process told what happens in another: calls as lines of JSON in a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from .observer import Observer, RunFacts, RunResult


class Relay(Observer):
    """Writes every call down.

    Parameters
    ----------
    path : Path
        File to append to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def started(self, run: RunFacts) -> None:
        self._write("started", asdict(run))

    def progress(self, number: int, seconds_per_step: float, remaining_s: float) -> None:
        self._write("progress", number, seconds_per_step, remaining_s)

    def step(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        self._write("step", number, logs, seconds_per_step, remaining_s)

    def note(self, text: str) -> None:
        self._write("note", text)

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        self._write("validated", number, results, pictures)

    def saved(self, number: int, path: Path) -> None:
        self._write("saved", number, path)

    def ended(self, result: RunResult) -> None:
        self._write("ended", asdict(result))

    def _write(self, call: str, *values) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([call, *values], default=str) + "\n")


class Replay:
    """Makes the calls that a `Relay` wrote down.

    Parameters
    ----------
    path : Path
    observer : Observer
    """

    def __init__(self, path: Path, observer: Observer) -> None:
        self._path, self._observer = path, observer
        self._read, self._rest = 0, b""

    def __call__(self) -> None:
        """Make the calls that were added since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            added = file.read()
        self._read += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        for line in lines:
            call, *values = json.loads(line)
            getattr(self._observer, call)(*_understood(call, values))


def _understood(call: str, values: list) -> list:
    """Arguments as the observer expects them: JSON knows neither paths nor dataclasses."""
    if call == "started":
        facts = values[0]
        return [RunFacts(**{**facts, "folder": Path(facts["folder"]), "notes": tuple(facts["notes"])})]
    if call == "ended":
        return [result_of(values[0])]
    if call in ("validated", "saved"):
        return [*values[:-1], values[-1] and Path(values[-1])]
    return values


def result_of(values: dict) -> RunResult:
    """A result from its JSON."""
    return RunResult(**{**values, "folder": Path(values["folder"])})
