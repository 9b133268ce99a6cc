"""Starting and ending processes of this library, on every system, inside Slicer and outside."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .atomic import FileLock, locks_work

LIBRARY_FOLDER = Path(__file__).resolve().parents[2]
TUNABLES = "GLIBC_TUNABLES"
LARGE_PAGES = "glibc.malloc.hugetlb"


def worker_command() -> list[str]:
    """How to run the worker in another process: with Slicer's Python within Slicer."""
    return [python_executable(), "-m", "CBCTSuperResLib.jobs.worker"]


def python_executable() -> str:
    """PythonSlicer within Slicer, otherwise the Python that runs now."""
    if "python" in Path(sys.executable or "").stem.lower():
        return sys.executable
    return shutil.which("PythonSlicer") or sys.executable


def usable_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def start_in_own_group(command: list[str], log: Path) -> subprocess.Popen:
    """Start a command in the library's folder; a launcher and its child can then be killed together.

    Raises
    ------
    OSError
        If it does not start.
    """
    with open(log, "wb") as output:
        return subprocess.Popen(
            command,
            cwd=LIBRARY_FOLDER,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **_group_of_its_own(),
        )


def with_large_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment; what is started in it gets memory in pages of 2 MB where Linux gives them if asked.

    Layers of a network write into memory that is new each time. Where slices are large, handing it out in pages of 4 KB
    takes a quarter of the time.
    """
    chosen = environment.get(TUNABLES, "")
    if not sys.platform.startswith("linux") or LARGE_PAGES in chosen:
        return dict(environment)
    return {**environment, TUNABLES: ":".join(filter(None, [chosen, f"{LARGE_PAGES}=1"]))}


def own_group() -> int:
    """The number by which `kill_group` ends this process and all that it started."""
    return os.getpid() if os.name == "nt" else os.getpgrp()


def kill_group(group: int) -> None:
    """End all processes of a group, now; nothing happens if they are gone.

    Parameters
    ----------
    group : int
        See `own_group`; also the id of a process that `start_in_own_group` started.
    """
    if os.name == "nt":
        command = ["taskkill", "/T", "/F", "/PID", str(group)]
        subprocess.run(command, capture_output=True, check=False, creationflags=subprocess.CREATE_NO_WINDOW)
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def process_exists(pid: int) -> bool:
    """Whether a process of this number lives on this computer; one that ended and was not waited for does not."""
    if os.name == "nt":
        return _exists_on_windows(pid)
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:  # another user's process, or a system without /proc
        return True
    return state != "Z"


class ParentLock:
    """What a process holds while it lives, so that those that it starts notice its death, however it dies.

    >>> lock = ParentLock(folder / "parent")
    >>> job["parent"] = lock.facts            # for the `ParentWatch` of the other process
    >>> lock.release()

    On a file system without locks the process number takes the lock's place.
    """

    def __init__(self, path: str | Path) -> None:
        self._lock = FileLock(path)
        try:
            works = locks_work(self._lock.path.parent) and self._lock.acquire()
        except OSError:
            works = False
        self.facts = {"lock": str(path) if works else None, "pid": os.getpid(), "host": platform.node()}

    def release(self) -> None:
        self._lock.release()


class ParentWatch:
    """Whether the process that holds a `ParentLock` has died; asked by those that it started, on its computer.

    Parameters
    ----------
    facts : dict
        Of the lock.
    """

    def __init__(self, facts: dict) -> None:
        self._lock, self._pid = facts["lock"] and FileLock(facts["lock"]), facts["pid"]

    def has_died(self) -> bool:
        if not self._lock:
            return not process_exists(self._pid)
        with suppress(OSError):
            if self._lock.acquire():
                self._lock.release()
                return True
        return False


def _exists_on_windows(pid: int) -> bool:
    """`os.kill` would end the process there."""
    import ctypes

    still_active, query = 259, 0x1000
    handle = ctypes.windll.kernel32.OpenProcess(query, False, pid)
    if not handle:
        return ctypes.windll.kernel32.GetLastError() == 5  # access denied: it is somebody else's
    code = ctypes.c_ulong()
    ctypes.windll.kernel32.GetExitCodeProcess(handle, ctypes.byref(code))
    ctypes.windll.kernel32.CloseHandle(handle)
    return code.value == still_active


def _environment() -> dict[str, str]:
    environment = with_large_pages(os.environ)
    environment |= {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads are ten times slower on a busy computer
    environment.pop("PYTHONSAFEPATH", None)  # it would hide the library in the working directory
    return environment


def _group_of_its_own() -> dict:
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}
