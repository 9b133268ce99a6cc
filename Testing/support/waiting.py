"""Waiting for processes in tests, never longer than stated."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def run_to_end(worker) -> list[dict]:
    """Poll a worker until it has finished; all its events."""
    events = []

    def has_ended() -> bool:
        events.extend(worker.poll())
        return worker.isFinished

    wait_until(has_ended)
    return events
