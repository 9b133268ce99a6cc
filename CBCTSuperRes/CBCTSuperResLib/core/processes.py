"""Starting and ending processes of this library, on every system, inside Slicer and outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

LIBRARY_FOLDER = Path(__file__).resolve().parents[2]


def worker_command(module: str = "CBCTSuperResLib.jobs.worker") -> list[str]:
    """How to run a module of this library in another process: with Slicer's Python within Slicer."""
    return [python_executable(), "-m", module]


def python_executable() -> str:
    """PythonSlicer within Slicer, otherwise the Python that runs now."""
    if "python" in Path(sys.executable or "").stem.lower():
        return sys.executable
    return shutil.which("PythonSlicer") or sys.executable


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


def _environment() -> dict[str, str]:
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads are ten times slower on a busy computer
    environment.pop("PYTHONSAFEPATH", None)  # it would hide the library in the working directory
    return environment


def _group_of_its_own() -> dict:
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}
