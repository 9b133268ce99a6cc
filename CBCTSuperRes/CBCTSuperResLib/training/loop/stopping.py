"""How a run is asked to stop: by Ctrl-C, by a signal, or by whoever started it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

Stop = Callable[[], bool]


class StopRequest:
    """While it is entered, the first Ctrl-C or SIGTERM asks for a stop; a second Ctrl-C interrupts at once.

    Parameters
    ----------
    cancelled : callable, optional
        Asked as well, once an iteration.
    alone : bool
        Whether this is the only process. Among others a second Ctrl-C asks only again: a launcher passes on the one
        that the terminal has sent already.
    """

    def __init__(self, cancelled: Stop | None = None, alone: bool = True) -> None:
        self._cancelled, self._alone = cancelled, alone
        self._asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # others must not set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        self._asked = self._asked or bool(self._cancelled and self._cancelled())
        return self._asked

    def _ask(self, number: int, frame) -> None:
        if self._asked and self._alone and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True
