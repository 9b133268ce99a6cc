"""A queue of scans on a cluster: each of Dask's workers gets one scan at a time, see `cluster_worker`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from .. import __version__
from ..core.errors import (
    Cancelled,
    DependencyError,
    DeviceError,
    OutputError,
    ResourceError,
    SuperResError,
    explained,
)
from .cluster import Cluster
from .cluster_worker import Needs, compute, examine, let_go, model_hashes, stop
from .job import UNFORESEEN, WorkerError
from .queue import Item, State

LOOK_S = 1.0  # between two looks at who is there
NOT_SINCE = float("-inf")  # the connection was lost
PAUSE_S = 0.2  # where nobody is
TRIES = 2  # of a scan whose worker dies, or that fails in a way that nobody foresaw
TIME_TO_STOP_S = 15.0
ELSEWHERE = (*UNFORESEEN, DeviceError.exit_code)  # errors that another worker may not meet


@dataclass
class _Given:
    """A scan that a worker has."""

    item: Item
    number: int
    future: object
    worker: str
    since: float


@dataclass
class _Worker:
    """One that is fit."""

    host: str
    cores: int
    gpu: int = 0


@dataclass
class _Roster:
    """Who is there: by address, those that are fit, and why the others are not."""

    fit: dict[str, _Worker] = field(default_factory=dict)
    unfit: dict[str, SuperResError] = field(default_factory=dict)

    def keep(self, present: Iterable[str]) -> list[str]:
        """Forget those that have gone; returns those of them that were fit."""
        gone = [address for address in self.fit if address not in present]
        self.fit = {address: worker for address, worker in self.fit.items() if address not in gone}
        self.unfit = {address: error for address, error in self.unfit.items() if address in present}
        return gone

    def add(self, address: str, host: str, cores: int) -> None:
        taken = {worker.gpu for worker in self.fit.values() if worker.host == host}
        gpu = next(number for number in range(len(taken) + 1) if number not in taken)
        self.fit[address] = _Worker(host, cores, gpu)

    def threads(self, address: str) -> int:
        """A worker's share of the cores of its machine."""
        worker = self.fit[address]
        return max(1, worker.cores // sum(other.host == worker.host for other in self.fit.values()))


class ClusterQueue:
    """Works through items on a cluster; to be polled as `Queue` is.

    A scan is bound to its worker, so that what dies with it is known; it is then given to another one. After two tries,
    also of a scan that fails in a way that nobody foresaw, it has failed. `cancel` begins with no other scan and lets
    those that are being computed be finished; `close` cancels them.

    Parameters
    ----------
    items : sequence of Item
        With a `FileTask` each.
    cluster : Cluster
    say : callable (text)
        Is told who comes, goes, or is not fit.

    Attributes
    ----------
    items : list of Item
    isCancelling : bool
    """

    def __init__(self, items: Sequence[Item], cluster: Cluster, say: Callable[[str], None] = print) -> None:
        self.items, self.isCancelling = list(items), False
        self._cluster, self._say = cluster, say
        self._batch = f"cbct-superres-{secrets.token_hex(8)}"
        self._waiting: list[tuple[int, Item]] = []
        self._given: list[_Given] = []
        self._roster = _Roster()
        self._told: dict[int, dict] = {}
        self._skip, self._since, self._looked_at, self._closed_at = False, 0.0, NOT_SINCE, None
        self._needs: Needs | None = None
        self._is_told_to_wait = False

    @property
    def isBusy(self) -> bool:
        return bool(self._waiting or self._given)

    @contextmanager
    def begun(self, skip: bool) -> Iterator[None]:
        """Begin with all items; `poll` does the rest. Within, probe files lie in the folders of the results.

        Raises
        ------
        SuperResError
            If workers are there and none of them is fit.
        """
        folders, token = {item.task.target.parent for item in self.items}, secrets.token_hex(16)
        probes = {folder / f".cluster-{token[:12]}": token for folder in folders}
        try:
            for probe, text in probes.items():
                try:
                    probe.write_text(text, encoding="ascii")
                except OSError as error:
                    what = f"The folder {probe.parent} cannot be written: {error.strerror}."
                    raise OutputError(what, "Choose another one.") from error
            self._since = min((probe.stat().st_mtime for probe in probes), default=0.0)
            task = self.items[0].task
            sources = tuple(str(item.task.source) for item in self.items)
            here = {str(probe): text for probe, text in probes.items()}
            self._needs = Needs(task.card, model_hashes(), task.options.device, here, sources)
            self._skip = skip
            self._waiting = list(enumerate(self.items))
            self._listen()
            self._look()
            yield
        finally:
            for probe in probes:
                with suppress(OSError):
                    probe.unlink(missing_ok=True)
            with suppress(Exception):
                self._cluster.client.run(let_go, on_error="ignore")

    def poll(self) -> None:
        """Go on; waits for the scheduler's answers, which take milliseconds."""
        client = self._cluster.client
        if client.status == "closed":
            self._say("The connection to the scheduler was lost; trying to find it again.")
            self._cluster.reconnect()
            self._listen()
        if client.status != "running":  # it is being found again; what was given is given back
            self._looked_at = NOT_SINCE
        elif time.monotonic() - self._looked_at > LOOK_S:
            self._look()
        for given in list(self._given):
            self._follow(given)
        if not self._given and self._closed_at:
            self._waiting = []
        busy = {given.worker for given in self._given}
        for address in [address for address in self._roster.fit if address not in busy]:
            if self._waiting and self._looked_at != NOT_SINCE:  # workers may have gone with their scheduler
                self._give(*self._waiting.pop(0), address)
        if self._waiting and not self._given:
            time.sleep(PAUSE_S)

    def cancel(self) -> None:
        """Begin with no other scan; those that are being computed are finished."""
        self.isCancelling = True
        for _, item in self._waiting:
            item.state = State.CANCELLED
        self._waiting = []

    def close(self) -> None:
        """Cancel what is being computed; `poll` until it has stopped."""
        if self._closed_at is not None:
            return
        self.cancel()
        self._closed_at = time.monotonic()
        with suppress(Exception):
            self._cluster.client.run(stop, self._batch, on_error="ignore")

    def _listen(self) -> None:
        self._cluster.client.subscribe_topic(self._batch, self._hear)

    def _hear(self, event: tuple) -> None:
        """In a thread of Dask's."""
        told = event[1]
        self._told[told["number"]] = told

    def _look(self) -> None:
        """See who is there, and whether those that are new are fit."""
        try:
            present = self._cluster.present()
        except Exception:  # the scheduler has just gone, which `poll` will notice
            return
        self._looked_at = time.monotonic()
        for address in self._roster.keep(present):
            self._say(f"Worker {address} has gone.")
            for given in [given for given in self._given if given.worker == address]:
                self._given.remove(given)
                given.future.cancel()
                self._again(given, _died())
        new = [address for address in present if address not in {*self._roster.fit, *self._roster.unfit}]
        if new:
            self._examine(new)
        if not self._roster.fit and self._roster.unfit:
            raise next(iter(self._roster.unfit.values()))
        if not present and not self._is_told_to_wait:
            self._say("No worker is there; waiting for the first.")
        self._is_told_to_wait = not present

    def _examine(self, addresses: list[str]) -> None:
        run = self._cluster.client.run
        for address, version in run(_version_probe(), workers=addresses, on_error="return").items():
            if isinstance(version, BaseException):  # it has gone again
                continue
            name, advice = f"The worker {address}", f"Install cbct-superres {__version__} there."
            if version is None:
                self._refuse(address, DependencyError(f"{name} does not have cbct-superres.", advice))
            elif version != __version__:
                error = DependencyError(f"{name} has cbct-superres {version}, and here is {__version__}.", advice)
                self._refuse(address, error)
            else:
                facts = run(examine, self._needs, workers=[address], on_error="return")[address]
                if isinstance(facts, BaseException):
                    continue
                if "error" in facts:
                    what, advice, code = facts["error"]
                    where = f"{name} on {facts['host']} cannot take part."
                    self._refuse(address, WorkerError(f"{where} {what}", advice, code))
                else:
                    self._roster.add(address, facts["host"], facts["cores"])
                    self._say(f"Worker {address} on {facts['host']}, {facts['cores']} cores")

    def _refuse(self, address: str, error: SuperResError) -> None:
        self._roster.unfit[address] = error
        self._say(str(error))

    def _give(self, number: int, item: Item, address: str) -> None:
        item.state, item.worker = State.RUNNING, address
        try:
            if self._skip and item.task.is_up_to_date():
                item.state, item.fraction, item.result = State.SKIPPED, 1.0, item.task.target
                return
            self._told.pop(number, None)
            item.tries += 1
            future = self._cluster.client.submit(
                compute,
                item.task,
                number,
                self._batch,
                self._since,
                self._roster.threads(address),
                self._roster.fit[address].gpu,
                workers=[address],
                pure=False,
                key=f"{item.task.source.name}-{self._batch}-{number}-{secrets.token_hex(4)}",
            )
            self._given.append(_Given(item, number, future, address, time.monotonic()))
        except Exception as error:
            self._end(item, explained(error), 0.0)

    def _follow(self, given: _Given) -> None:
        item, told, status = given.item, self._told.get(given.number), given.future.status
        if told:
            item.fraction, item.message, item.remaining = told["fraction"], told["message"], told["remaining"]
        if status == "pending":
            if self._closed_at and time.monotonic() - self._closed_at > TIME_TO_STOP_S:
                self._given.remove(given)
                self._end(item, Cancelled(), time.monotonic() - given.since)
            return
        self._given.remove(given)
        seconds = time.monotonic() - given.since
        if status in ("cancelled", "lost"):  # the scheduler was lost
            item.tries -= 1
            self._looked_at = NOT_SINCE
            self._again(given, Cancelled("The scheduler was lost."))
        elif status == "error":
            error = given.future.exception()
            self._again(given, _died() if type(error).__name__ == "KilledWorker" else explained(error))
        else:
            done = given.future.result()
            item.warnings = list(done["warnings"])
            error = self._error(done["error"])
            if error and error.exit_code in ELSEWHERE:
                self._again(given, error)
            else:
                self._end(item, error, seconds)

    def _again(self, given: _Given, error: SuperResError) -> None:
        """Let a scan wait for another try, if it has one."""
        if self.isCancelling or given.item.tries >= TRIES:
            self._end(given.item, error, time.monotonic() - given.since)
            return
        self._say(f"{given.item.name} is given out again: {error}")
        given.item.reset()
        self._waiting.insert(0, (given.number, given.item))

    def _end(self, item: Item, error: SuperResError | None, seconds: float) -> None:
        item.seconds, item.fraction, item.error = seconds, 1.0, error
        item.result = None if error else item.task.target
        if self.isCancelling and isinstance(error, Cancelled):
            item.state = State.CANCELLED
        else:
            item.state = State.FAILED if error else State.DONE

    def _error(self, told: tuple | None) -> SuperResError | None:
        if told is None:
            return None
        what, advice, code, detail = told
        if code == Cancelled.exit_code and self._closed_at:
            return Cancelled()
        return WorkerError(what, advice, code, detail)


def _died() -> SuperResError:
    advice = "Usually the memory was full: ask for more, or use smaller tiles."
    return ResourceError("The worker that computed it died.", advice)


def _version_probe() -> Callable[[], str | None]:
    """A function that Dask sends as it is, so that it runs where the package is not installed."""

    def version() -> str | None:
        try:
            import CBCTSuperResLib
        except ImportError:
            return None
        return CBCTSuperResLib.__version__

    return version
