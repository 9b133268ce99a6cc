"""Which file a library in C++ is decoding, written down for whoever waits for this process and finds it crashed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

CRASHES = tuple(
    int(getattr(signal, name)) for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL") if hasattr(signal, name)
)
WINDOWS_CRASHES = range(0xC0000000, 0xD0000000)  # NTSTATUS of an access violation, a stack overflow and the like

_note: Path | None = None
_decoding: dict[int, str] = {}
_lock = threading.Lock()


def keep_note(path: str | Path) -> None:
    """From now on `decoding` writes into this file."""
    global _note
    _note = Path(path)


@contextmanager
def decoding(path: str | Path) -> Iterator[None]:
    """Note that a library is at work on a file; of two that are nested the outer one counts.

    >>> with decoding("scan.png"):
    ...     reader.Execute()
    """
    thread = threading.get_ident()
    if _note is None or thread in _decoding:
        yield
        return
    try:
        _write(thread, str(path))
        yield
    finally:
        _write(thread, None)


def reader_crash(code: int, note: Path) -> InputError | None:
    """What to tell of a process that ended with this return code of `subprocess`; None if no reader crashed it."""
    if not is_crash(code):
        return None
    files = []
    with suppress(OSError):
        files = note.read_text(encoding="utf-8").splitlines()
    if not files:
        return None
    return InputError(
        f"The reader crashed on this file: {' or '.join(files)}.",
        "It is damaged, or of a kind that the reader cannot take. Export it again, uncompressed.",
    )


def is_crash(code: int) -> bool:
    """Whether a return code of `subprocess` means that the process broke, and was not ended by somebody."""
    return -code in CRASHES or code in WINDOWS_CRASHES


def _write(thread: int, path: str | None) -> None:
    with _lock:
        if path is None:
            _decoding.pop(thread, None)
        else:
            _decoding[thread] = "".join(c if c.isprintable() else "?" for c in path)
        with suppress(OSError):
            _note.write_text("\n".join(_decoding.values()), encoding="utf-8", errors="replace")
