"""What a Dask worker does: `examine` tells whether it is fit for a batch, and `compute` does a scan.

A scan is a `Job` in a process that stays, so that a file that crashes a reader costs that scan and not the worker. All
machines share the folders: an output is locked while it is written, and a result that was made meanwhile is taken, so
that a scan that is given out again never has two results.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..apply.file import output_lock
from ..core.errors import Cancelled, DeviceError, InputError, ModelError, OutputError, explained
from ..core.gpus import HIDING, count_gpus
from ..core.packages import require_packages
from ..core.processes import usable_cores
from ..io.folders import report_path
from ..models.card import ModelCard, read_card
from ..models.folder import find_model, list_models
from .pool import PoolWorker
from .queue import FileTask

PACE_S = 0.2
IDLE_S = 600.0


@dataclass(frozen=True)
class Needs:
    """What a worker must have before it gets a scan.

    Attributes
    ----------
    model : ModelCard or None
        None: the default, for which the models on both sides have to be the same.
    models : tuple of str
        SHA-256 of the weights of all models here.
    device : str
    probes : dict of str to str
        Files that were written into the folders of the results, and what they hold.
    sources : tuple of str
    """

    model: ModelCard | None
    models: tuple[str, ...]
    device: str
    probes: dict[str, str]
    sources: tuple[str, ...]


def model_hashes() -> tuple[str, ...]:
    """SHA-256 of the weights of all models that can be chosen by name here, sorted."""
    return tuple(sorted({entry.card.weights_sha256 for entry in list_models() if entry.card}))


def examine(needs: Needs) -> dict:
    """Whether this process can compute what is needed.

    Returns
    -------
    dict
        "host" and "cores"; "error" (what, advice, exit_code) if it cannot.
    """
    facts: dict = {"host": platform.node(), "cores": usable_cores()}
    try:
        require_packages(needs_torch=False)
        if needs.model is not None:
            own_card(needs.model)
        elif model_hashes() != needs.models:
            raise ModelError("Its models are others than here.", "Name one with --model, or install the same ones.")
        if needs.device.startswith("cuda") and not count_gpus():
            raise DeviceError(
                f"It has no CUDA device, and --device is {needs.device}.", "Use workers with a GPU, or --device auto."
            )
        for path, text in needs.probes.items():
            _see(Path(path), text)
        hidden = [source for source in needs.sources if not os.path.exists(source)]
        if hidden:
            raise InputError(f"It does not see {hidden[0]}.", "Put the scans where all machines see them.")
    except Exception as error:
        told = explained(error)
        facts["error"] = (told.what, told.advice, told.exit_code)
    return facts


def _see(probe: Path, text: str) -> None:
    folder, advice = probe.parent, "Choose a folder that all machines share, under the same name."
    try:
        seen = probe.read_text(encoding="ascii")
    except OSError as error:
        raise OutputError(f"It does not see the folder {folder} as it is here ({error.strerror}).", advice) from error
    if seen != text:
        raise OutputError(f"Its folder {folder} is another one.", advice)
    answer = probe.with_name(f"{probe.name}.{secrets.token_hex(4)}")
    try:
        answer.touch()
        answer.unlink()
    except OSError as error:
        raise OutputError(f"It cannot write into {folder} ({error.strerror}).", advice) from error


def own_card(card: ModelCard) -> ModelCard:
    """The same model, in the file that this machine has.

    Raises
    ------
    ModelError
        If it has none of that name, or another one.
    """
    path = card.path if card.path.is_file() else find_model(card.name)
    own = read_card(path)
    if own.weights_sha256 != card.weights_sha256:
        raise ModelError(
            f"Its model {path} is another one: the SHA-256 of the weights begins with {own.weights_sha256[:12]}, "
            f"here with {card.weights_sha256[:12]}.",
            "Copy the file that is here, or name one in a shared folder.",
        )
    return own


class _Bench:
    """What a Dask worker keeps: one process that computes, for one scan at a time, and who is to stop."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.worker = PoolWorker()
        self.stopped: set[str] = set()
        self.is_pinned = False
        self._leaving: threading.Timer | None = None

    def leave_later(self) -> None:
        """End the process that computes if no scan comes for ten minutes, as when the batch itself was killed."""
        if self._leaving:
            self._leaving.cancel()
        self._leaving = threading.Timer(IDLE_S, let_go)
        self._leaving.daemon = True
        self._leaving.start()

    def pin(self, number: int) -> None:
        """Let what is started from now on see one GPU only, the one of this number."""
        if self.is_pinned or count_gpus() < 2:
            return
        shown = os.environ.get(HIDING, "").split(",") if os.environ.get(HIDING) else range(count_gpus())
        os.environ[HIDING] = str(shown[number % len(shown)]).strip()
        self.is_pinned = True


_bench = _Bench()


def stop(batch: str) -> None:
    """Cancel what this worker computes for a batch, and whatever it would still get."""
    _bench.stopped.add(batch)


def let_go() -> None:
    """End the process that computes, unless a scan is being computed."""
    if _bench.turn.acquire(blocking=False):
        try:
            _bench.worker.close()
        finally:
            _bench.turn.release()


def compute(task: FileTask, number: int, batch: str, since: float, threads: int, gpu: int) -> dict:
    """Do one scan, here, and tell how far it is under the topic `batch`.

    Parameters
    ----------
    number : int
        Of the scan.
    since : float
        When the batch began, in the time of the shared folder: a result that is younger was made by a worker that was
        lost before it could tell, and is taken.
    threads : int
        To compute with.
    gpu : int
        Which of several is this worker's.

    Returns
    -------
    dict
        "warnings" and "error": None, or its what, advice, exit_code and detail.
    """
    from distributed import get_worker

    dask_worker = get_worker()

    def tell(fraction: float, message: str, remaining: float | None = None) -> None:
        told = {"number": number, "fraction": fraction, "message": message, "remaining": remaining}
        dask_worker.log_event(batch, told)

    warnings: list[str] = []
    try:
        with _bench.turn:
            tell(0.0, "Starting")
            _wait_for_the_output(task.target, batch, tell)
            if _made_since(task, since):
                return {"warnings": warnings, "error": None}
            _bench.pin(gpu)
            _bench.worker.threads = threads
            card = None if task.card is None else own_card(task.card)
            job = replace(task, card=card).start(_bench.worker)
            try:
                shown = None
                while not job.isFinished:
                    job.poll()
                    if batch in _bench.stopped:
                        job.cancel()
                    if shown != (shown := (job.fraction, job.message)):
                        tell(*shown, job.remaining)
                    time.sleep(PACE_S)
            finally:
                job.close()
                _bench.leave_later()
            warnings = list(job.warnings)
            if job.error:
                raise job.error
    except Exception as error:
        told = explained(error)
        return {"warnings": warnings, "error": (told.what, told.advice, told.exit_code, told.detail)}
    return {"warnings": warnings, "error": None}


def _wait_for_the_output(target: Path, batch: str, tell: Callable[[float, str], None]) -> None:
    """Until nobody writes it: the process of a worker that was lost may take a moment to notice."""
    lock = output_lock(target)
    while True:
        if batch in _bench.stopped:
            raise Cancelled
        try:
            if lock.acquire():
                lock.release()
                return
        except OSError:  # whoever writes there will tell
            return
        tell(0.0, "Another process is writing it")
        time.sleep(PACE_S)


def _made_since(task: FileTask, since: float) -> bool:
    with suppress(OSError):
        return report_path(task.target).stat().st_mtime >= since and task.is_up_to_date()
    return False
