"""One volume, several devices of this computer or a cluster: its parts go through the queues that scans go through.

    with Cluster("local:2") as cluster:
        apply_to_file(scan, output, model, options, sharing=ClusterSharing(cluster, options, output))

The workers map the scan from a hidden folder beside the output, and leave each part there in a file of its own that
appears whole or not at all; this process puts it into the one result. A part whose worker dies is given out again.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from math import prod
from pathlib import Path

import numpy as np

from ..apply.parts import box_of, save_plan, take_in
from ..apply.plan import Plan, Workers
from ..apply.sharing import Sharing
from ..core.errors import Cancelled, OutputError
from ..core.options import Options, Ranges
from ..core.processes import usable_cores
from ..core.progress import Report
from ..io.exchange import write_exchange
from ..io.volume import Volume
from ..models.card import ModelCard, read_card
from ..models.model import Model
from .cluster import Cluster
from .cluster_queue import TRIES, ClusterQueue
from .job import Job
from .pool import PoolWorker
from .queue import Item, Queue, State

PACE_S = 0.05
SUFFIX = ".parts"


@dataclass(frozen=True)
class PartTask:
    """A part of a volume, and how it is computed; what `FileTask` is for a scan.

    Attributes
    ----------
    source, target : Path
        The scan, in exchange format, and the part's own file.
    card : ModelCard
    options : Options
    plan, plan_sha256 : Path and str
        See `save_plan`.
    part : three pairs of int
        One of `Plan.parts`.
    """

    source: Path
    target: Path
    card: ModelCard
    options: Options
    plan: Path
    plan_sha256: str
    part: Ranges

    def start(self, worker: PoolWorker) -> Job:
        """Start the job that computes it, in a process that stays."""
        task = {
            "kind": "part",
            "scan": str(self.source),
            "plan": str(self.plan),
            "plan_sha256": self.plan_sha256,
            "part": self.part,
            "output": str(self.target),
            "model": str(self.card.path.absolute()),
            "device": worker.device or self.options.device,
            "threads": worker.threads,
        }
        return Job(task, worker=worker).start()

    def result_of(self, job: Job) -> Path:
        return self.target

    def is_up_to_date(self) -> bool:
        """Never: the file goes when its part has been taken in."""
        return False


class _QueueSharing(Sharing):
    """What devices and clusters have in common: the folder, the parts, and what becomes of them."""

    def __init__(self, workers: Workers, output: str | Path) -> None:
        self.workers, self._output = workers, Path(output).absolute()

    @abstractmethod
    @contextmanager
    def _begun(self, items: Sequence[Item]) -> Iterator[Queue | ClusterQueue]:
        """A queue that has begun with all items; left, nothing of it goes on."""

    def compute(
        self,
        plan: Plan,
        volume: Volume,
        model: Model,
        memory: Mapping[str, np.ndarray],
        progress: Report,
        cancelled: Callable[[], bool],
    ) -> list[dict]:
        progress(0.0, "Giving out the parts")
        with self._folder() as folder:
            items = self._items(folder, plan, volume, model)
            weights = [prod(stop - start for start, stop in item.task.part) for item in items]
            reports: dict[Item, dict] = {}
            most = 0.0  # a part that is begun again, as its worker died, takes nothing back
            with self._begun(items) as queue:
                while queue.isBusy or len(reports) < len(items):
                    if cancelled():
                        raise Cancelled()
                    queue.poll()
                    for item in items:
                        if item.state in (State.FAILED, State.CANCELLED):
                            raise item.error or Cancelled()
                        if item.state is State.DONE and item not in reports:
                            report = take_in(item.result, box_of(plan, item.task.part), memory)
                            reports[item] = {**report, "worker": item.worker}
                            if item.tries > 1:
                                reports[item]["notes"].append("The worker of a part died; the part was computed again.")
                    done = sum(weight * item.fraction for weight, item in zip(weights, items, strict=True))
                    most = max(most, done / sum(weights))
                    progress(most, f"Parts: {len(reports)} of {len(items)}")
                    time.sleep(PACE_S)
        return [reports[item] for item in items]

    def _items(self, folder: Path, plan: Plan, volume: Volume, model: Model) -> list[Item]:
        """The parts, and in the folder what the workers need for them."""
        scan, plan_file, card = folder / "scan.npy", folder / "plan", model.card
        if card.path is None or not card.path.is_file():
            card = read_card(model.save(folder / "model.safetensors"))
        write_exchange(replace(volume, report={}), scan)
        digest = save_plan(plan, plan_file)
        found = []
        for number, part in enumerate(plan.parts, 1):
            target = folder / f"part {number}"
            found.append(Item(target, PartTask(scan, target, card, plan.options, plan_file, digest, part)))
        return found

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A hidden folder beside the output, which is gone at the end; so are those of runs that were killed."""
        folder, digest = self._output.parent, sha256(os.fsencode(self._output.name)).hexdigest()[:16]
        name = f".{digest}{SUFFIX}"  # of this output alone, however long its own is
        mine = folder / f".{secrets.token_hex(8)}{name}"
        try:
            for other in folder.iterdir():
                if re.fullmatch(rf"\.[0-9a-f]{{16}}{re.escape(name)}", other.name):
                    shutil.rmtree(other, ignore_errors=True)
            mine.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(f"The folder {folder} cannot be written: {error.strerror}.", "Choose another.") from error
        try:
            yield mine
        finally:
            shutil.rmtree(mine, ignore_errors=True)


class DeviceSharing(_QueueSharing):
    """The devices that options name, each with a process of its own and its share of the cores.

    Parameters
    ----------
    options : Options
    output : path
        Of the result; the parts lie beside it.
    """

    def __init__(self, options: Options, output: str | Path) -> None:
        self._devices = options.devices
        super().__init__(Workers(len(self._devices)), output)

    @contextmanager
    def _begun(self, items: Sequence[Item]) -> Iterator[Queue]:
        threads = max(1, usable_cores() // len(self._devices))
        queue = Queue(items)
        queue.begin(items, False, [PoolWorker(threads, device) for device in self._devices], TRIES)
        try:
            yield queue
        finally:
            queue.close()


class ClusterSharing(_QueueSharing):
    """Dask's workers; they must see the folder of the output.

    Parameters
    ----------
    cluster : Cluster
        Connected.
    options : Options
    output : path
        Of the result; the parts lie beside it.
    say : callable (text), optional
        Is told who comes, goes, or is not fit.
    """

    def __init__(
        self, cluster: Cluster, options: Options, output: str | Path, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self._cluster, self._say = cluster, say
        super().__init__(Workers(cluster.count, cluster.is_here), output)

    @contextmanager
    def _begun(self, items: Sequence[Item]) -> Iterator[ClusterQueue]:
        queue = ClusterQueue(items, self._cluster, self._say)
        with queue.begun(skip=False):
            try:
                yield queue
            finally:
                queue.close()
                while queue.isBusy:
                    queue.poll()
                    time.sleep(PACE_S)
