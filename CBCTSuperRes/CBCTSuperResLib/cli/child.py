"""Commands that read scans run in a process of their own: a file that crashes a reader takes no caller along.

So do those that measure, because a process gets its kind of memory when it starts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.crash_note import is_crash, keep_note, reader_crash
from ..core.errors import Cancelled, InputError, ResourceError
from ..core.processes import LIBRARY_FOLDER, ParentLock, ParentWatch, python_executable, with_large_pages

READING = ("apply", "info", "prepare", "evaluate", "train", "test")
MEASURING = ("engines",)  # as fast as processes are that compute, which get their memory in other pages
PARENT = "CBCT_SUPERRES_PARENT"  # tells a process that it is such a child
LAUNCHED = "LOCAL_RANK"  # set by torchrun, which starts and watches its processes itself
WATCH_S = 0.2


def wants_child(arguments: Sequence[str]) -> bool:
    """Whether a command line belongs into a process of its own, and is not in one yet."""
    is_help = {"-h", "--help"} & set(arguments)
    is_such = bool(arguments) and arguments[0] in (*READING, *MEASURING) and not is_help
    return is_such and not {PARENT, LAUNCHED} & set(os.environ)


def run_in_child(arguments: Sequence[str], command: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; tell it if the process broke.

    Parameters
    ----------
    arguments : sequence of str
    command : sequence of str, optional
        What to run instead of this program; the arguments are appended.
    """
    command = command or [python_executable(), "-m", "CBCTSuperResLib.cli"]
    with tempfile.TemporaryDirectory(prefix="CBCTSuperRes-") as folder:
        note, lock = Path(folder) / "decoding", ParentLock(Path(folder) / "parent")
        search = [str(LIBRARY_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**with_large_pages(os.environ), "PYTHONPATH": os.pathsep.join(search)}
        environment[PARENT] = json.dumps({**lock.facts, "note": str(note)})
        process = subprocess.Popen([*command, *arguments], env=environment)
        with _signals_passed_on(process):
            code = process.wait()
        lock.release()
        return _told(code, note)


@contextmanager
def _signals_passed_on(process: subprocess.Popen) -> Iterator[None]:
    """SIGTERM and Ctrl-C reach the child, which ends in its own words; afterwards they do what they did before."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    is_sent_to_both = sys.stdin is not None and sys.stdin.isatty()  # Ctrl-C in a terminal
    handlers = {
        signal.SIGTERM: lambda *_: _pass_on(process, signal.SIGTERM),
        signal.SIGINT: lambda *_: None if is_sent_to_both else _pass_on(process, signal.SIGINT),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def begin_as_child() -> None:
    """In the child: note what is decoded, and end when the parent has died."""
    facts = json.loads(os.environ.get(PARENT, "{}"))
    if not facts:
        return
    keep_note(facts["note"])
    watch = ParentWatch(facts)

    def follow() -> None:
        while not watch.has_died():
            time.sleep(WATCH_S)
        os._exit(Cancelled.exit_code)

    threading.Thread(target=follow, daemon=True, name="parent watch").start()


def _pass_on(process: subprocess.Popen, number: int) -> None:
    with suppress(OSError, ValueError):
        process.send_signal(number)


def _told(code: int, note: Path) -> int:
    crash = reader_crash(code, note)
    if crash:
        print(f"Error: {crash}", file=sys.stderr)
        return InputError.exit_code
    if is_crash(code):
        print(f"Error: The program crashed ({code}). Report it, with the file if you may.", file=sys.stderr)
        return 1
    if code == -getattr(signal, "SIGKILL", 0) != 0:
        print("Error: The program was killed; usually the memory was full. Close other programs.", file=sys.stderr)
        return ResourceError.exit_code
    return Cancelled.exit_code if code < 0 else code
