"""Endless batches in an order that only the seed and the number of the sample decide."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from torch import Tensor

from ...core.errors import OptionError
from .patches import Source

ORDER, DRAWS = 0, 1  # what a random number is for; part of its seed

Batch = dict[str, Tensor]


class Batches:
    """Batches by step, from 1, ahead of time if asked for.

    Sample n = (step - 1) * batch_size + i is the image at place n modulo len(source) in the order of epoch
    n // len(source), drawn with a generator of its own. So neither workers nor processes, micro-batches or the step
    that a run is resumed from can change it. Workers are threads: processes hang inside 3D Slicer, and decoding,
    filtering and copying let other threads run.

    Parameters
    ----------
    source : Source
    batch_size : int
        Over all processes.
    seed : int
    rank, processes : int
        This process's number, and how many there are; each gets neighbouring samples, equally many.
    micro_batch : int, optional
        Samples in one piece; all of this process's if not given.
    workers : int
        Threads that prepare steps; 0 does it in the caller's.
    shuffle : bool
        A new order every epoch; otherwise always that of the source.
    ahead : int
        Steps that are prepared before they are asked for, at least one a worker.

    Raises
    ------
    OptionError
        If the numbers do not divide each other.

    Examples
    --------
    >>> with Batches(source, 32, seed=6, workers=8) as batches:
    ...     batches.start(from_step=1)
    ...     (batch,) = next(batches)
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        processes: int = 1,
        micro_batch: int | None = None,
        workers: int = 0,
        shuffle: bool = True,
        ahead: int = 4,
    ) -> None:
        if batch_size % processes:
            raise OptionError(
                f"A batch of {batch_size} cannot be shared by {processes} processes.",
                f"Choose a batch_size that is a multiple of {processes}.",
            )
        self._own = batch_size // processes
        self._micro_batch = micro_batch or self._own
        if self._own % self._micro_batch:
            raise OptionError(
                f"The {self._own} samples of a process cannot be cut into micro-batches of {self._micro_batch}.",
                f"Choose a micro_batch that divides {self._own}.",
            )
        self._source, self._batch_size, self._seed = source, batch_size, seed
        self._first = rank * self._own
        self._shuffle = shuffle
        self._order = lru_cache(maxsize=3)(self._order_of_epoch)
        self._workers, self._ahead = workers, max(ahead, workers, 1)
        self._pool: ThreadPoolExecutor | None = None
        self._prepared: deque[Future] = deque()
        self._next = 1

    def at(self, step: int) -> list[Batch]:
        """This process's micro-batches of a step, computed here and now."""
        first = (step - 1) * self._batch_size + self._first
        numbers = range(first, first + self._own)
        return [self._micro(numbers[n : n + self._micro_batch]) for n in range(0, self._own, self._micro_batch)]

    def start(self, from_step: int = 1) -> Batches:
        """Let `next` begin with this step."""
        self.close()
        self._next = from_step
        if self._workers:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="batches")
            self._prepared.extend(self._pool.submit(self.at, from_step + n) for n in range(self._ahead))
        return self

    def __iter__(self) -> Iterator[list[Batch]]:
        return self

    def __next__(self) -> list[Batch]:
        """The next step's micro-batches; an error that a worker met is raised here."""
        step, self._next = self._next, self._next + 1
        if self._pool is None:
            return self.at(step)
        batch = self._prepared.popleft().result()
        self._prepared.append(self._pool.submit(self.at, step + self._ahead))
        return batch

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
            self._prepared.clear()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _micro(self, numbers: range) -> Batch:
        epochs = (divmod(n, len(self._source)) for n in numbers)
        images = [int(self._order(epoch)[place]) for epoch, place in epochs]
        return self._source.batch(images, [np.random.default_rng([self._seed, DRAWS, n]) for n in numbers])

    def _order_of_epoch(self, epoch: int) -> np.ndarray:
        count = len(self._source)
        if not self._shuffle:
            return np.arange(count)
        return np.random.default_rng([self._seed, ORDER, epoch]).permutation(count)
