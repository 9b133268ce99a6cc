"""Observers of one process told what happens in another: calls as lines of JSON in a file.

Training in several processes of this machine, one for each GPU, started by torchrun and watched from here.

Many machines are started by torchrun itself, on each of them:

    torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        -m CBCTSuperResLib.cli train -opt options.json --resume auto
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ..core import errors
from ..core.atomic import FileLock
from ..core.errors import Cancelled, SuperResError
from ..core.processes import kill_group, python_executable
from .loop import StopRequest
from .observer import Observer, Observers, RunFacts, RunResult
from .options import TrainingOptions
from .state import Accept, ChangedOptions


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


LIBRARY_FOLDER = Path(__file__).resolve().parents[2]
PACE_S = 0.2
LOG_CHARACTERS = 4000
MEMBER = "CBCTSuperResLib.train.member"
EVENTS, STOP, PARENT, LOG, JOB = "events.jsonl", "stop", "parent", "log.txt", "job.json"


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
    with StopRequest(cancelled) as stop:
        try:
            return _attend(job, Observers(observers), stop)
        except ChangedOptions as error:
            if not callable(accept) or not accept(error.changes):
                raise
        return _attend({**job, "accept": True}, Observers(observers), stop)


def _attend(job: Mapping, observer: Observer, stop: Callable[[], bool]) -> RunResult:
    """Start the processes, hand on what they tell, ask them to stop, and tell their end."""
    with tempfile.TemporaryDirectory(prefix="CBCTSuperRes-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / JOB).write_text(json.dumps(job, ensure_ascii=False), encoding="utf-8")
        lock, replay = FileLock(folder / PARENT), Replay(folder / EVENTS, observer)
        lock.acquire()
        try:
            with _started(folder, job["processes"]) as process:
                while process.poll() is None:
                    replay()
                    if stop():
                        (folder / STOP).touch()
                    time.sleep(PACE_S)
            replay()
            return _outcome(folder, process.returncode)
        finally:
            lock.release()


@contextmanager
def _started(folder: Path, count: int):
    """torchrun with the processes; killed with them if this process is interrupted."""
    command = [python_executable(), "-m", "torch.distributed.run", "--standalone", "--nnodes", "1"]
    command += ["--nproc-per-node", str(count), "-m", MEMBER, str(folder / JOB)]
    with open(folder / LOG, "wb") as log:
        process = subprocess.Popen(
            command,
            env=_environment(count),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=os.name != "nt",  # a Ctrl-C reaches this process alone, which asks the others to stop
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP if os.name == "nt" else 0,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_group(process.pid)
            process.wait()


def _environment(count: int) -> dict[str, str]:
    paths = [str(LIBRARY_FOLDER), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    own = {"PYTHONPATH": os.pathsep.join(path for path in paths if path), "PYTHONUTF8": "1"}
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    return {"OMP_WAIT_POLICY": "PASSIVE", **threads, **os.environ, **own}


def _outcome(folder: Path, code: int) -> RunResult:
    """What came of it: the result, or the error that came first; others are its consequences."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("outcome-*.json")]
    results = [outcome["result"] for outcome in found if "result" in outcome]
    failures = sorted((o for o in found if "what" in o), key=lambda o: (bool(o["detail"]), o["time"]))
    if failures:
        raise _as_error(failures[0])
    if results:
        return result_of(results[0])
    tail = (folder / LOG).read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:]
    raise SuperResError(
        f"The processes of the training ended unexpectedly (code {code}). The last that they printed:\n{tail}\n",
        "Go on with --resume auto.",
    )


def _as_error(outcome: Mapping) -> SuperResError:
    if outcome["detail"]:
        return SuperResError(f"{outcome['what']}\n{outcome['detail']}", outcome["advice"])
    if outcome["changes"]:
        return ChangedOptions(outcome["what"], outcome["advice"], outcome["changes"])
    if outcome["exit_code"] == Cancelled.exit_code:
        return Cancelled(outcome["what"], outcome["advice"])
    kinds = {kind.exit_code: kind for kind in vars(errors).values() if isinstance(kind, type)}
    return kinds[outcome["exit_code"]](outcome["what"], outcome["advice"])
