"""Training in several processes of this machine, one for each GPU, started by torchrun and watched from here.

What each of them does is in `launched_process`; how the run goes, the first one writes into the events of its folder.
Many machines are started by torchrun itself, on each of them:

    torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        -m CBCTSuperResLib.cli train -opt options.json --resume auto
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..core import errors
from ..core.atomic import write_json
from ..core.errors import Cancelled, SuperResError
from ..core.events import EventReader
from ..core.processes import LIBRARY_FOLDER, ParentLock, kill_group, python_executable
from .checkpoints import Accept, ChangedOptions
from .loop import StopRequest
from .observer import Observer, Observers, RunResult
from .options import TrainingOptions
from .run_events import tell
from .run_folder import EVENTS

PACE_S = 0.2
LOG_CHARACTERS = 4000
LAUNCHED = "CBCTSuperResLib.train.launched_process"
JOB, STOP, PARENT, LOG, ENDS = "job.json", "stop", "parent", "log.txt", "ends.jsonl"


def train_in_processes(
    options: TrainingOptions,
    count: int,
    resume: str | Path | None = None,
    accept: Accept = False,
    device: str | None = None,
    observers: Sequence[Observer] = (),
    cancelled: Callable[[], bool] | None = None,
) -> RunResult:
    """`run.train` in `count` processes; observers are called, and questions asked, in this one.

    Raises
    ------
    SuperResError
        The one error that ended them all.
    """
    job = {
        "options": options.to_json(),
        "resume": resume and str(resume),
        "accept": accept is True,
        "device": device,
        "processes": count,
    }
    run, observer = Path(options.run_folder), Observers(observers)
    with StopRequest(cancelled) as stop:
        try:
            return _watched(job, run, observer, stop)
        except ChangedOptions as error:
            if not callable(accept) or not accept(error.changes):
                raise
        return _watched({**job, "accept": True}, run, observer, stop)


def _watched(job: Mapping, run: Path, observer: Observer, stop: Callable[[], bool]) -> RunResult:
    """Start the processes, hand on what the run tells, ask them to stop, and tell their end."""
    with tempfile.TemporaryDirectory(prefix="CBCTSuperRes-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        parent, events = ParentLock(folder / PARENT), EventReader(run / EVENTS, only_new=True)
        write_json(folder / JOB, {**job, "parent": parent.facts})
        command = [python_executable(), "-m", "torch.distributed.run", "--standalone", "--nnodes", "1"]
        command += ["--nproc-per-node", str(job["processes"]), "-m", LAUNCHED, str(folder / JOB)]
        with open(folder / LOG, "wb") as log:
            process = subprocess.Popen(
                command,
                env=_environment(job["processes"]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=os.name != "nt",  # a Ctrl-C reaches this process alone, which asks the others to stop
                creationflags=subprocess.CREATE_NEW_PROCESS_GROUP if os.name == "nt" else 0,
            )
        try:
            has_ended = False
            while not has_ended:
                has_ended = process.poll() is not None
                for event in events.read():
                    tell(observer, event)
                if stop():
                    (folder / STOP).touch()
                if not has_ended:
                    time.sleep(PACE_S)
            return _outcome(folder, process.returncode)
        finally:
            if process.poll() is None:  # this process was interrupted
                kill_group(process.pid)
                process.wait()
            parent.release()


def _environment(count: int) -> dict[str, str]:
    paths = [str(LIBRARY_FOLDER), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    own = {"PYTHONPATH": os.pathsep.join(path for path in paths if path), "PYTHONUTF8": "1"}
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    return {"OMP_WAIT_POLICY": "PASSIVE", **threads, **os.environ, **own}


def _outcome(folder: Path, code: int) -> RunResult:
    """What came of it: the result, or the error that came first; others are its consequences."""
    ends = EventReader(folder / ENDS).read()
    failures = [end for end in ends if end["event"] == "error"]
    if failures:
        raise _as_error(min(failures, key=lambda end: bool(end["detail"])))
    for end in ends:
        return RunResult(**{**end["result"], "folder": Path(end["result"]["folder"])})
    tail = (folder / LOG).read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:]
    raise SuperResError(
        f"The processes of the training ended unexpectedly (code {code}). The last that they printed:\n{tail}\n",
        "Go on with --resume auto.",
    )


def _as_error(end: Mapping) -> SuperResError:
    if end["detail"]:
        return SuperResError(f"{end['what']}\n{end['detail']}", end["advice"])
    if end["changes"]:
        return ChangedOptions(end["what"], end["advice"], end["changes"])
    if end["exit_code"] == Cancelled.exit_code:
        return Cancelled(end["what"], end["advice"])
    kinds = {kind.exit_code: kind for kind in vars(errors).values() if isinstance(kind, type)}
    return kinds[end["exit_code"]](end["what"], end["advice"])
