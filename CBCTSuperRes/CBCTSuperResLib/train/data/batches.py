"""Endless batches in an order that only the seed and the number of the sample decide."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Protocol

import numpy as np
from torch import Tensor

from ...core.errors import OptionError
from ..ranks import share_of

ORDER, DRAWS = 0, 1  # what a random number is for; part of its seed

Batch = dict[str, Tensor]


class Source(Protocol):
    """Images by number, and one random sample of each per generator.

    Attributes
    ----------
    names : sequence of str
    """

    names: Sequence[str]

    def __len__(self) -> int: ...

    def batch(self, images: Sequence[int], draws: Sequence[np.random.Generator]) -> Batch:
        """One training sample for each image and its generator, each entry with the samples along its first axis.

        "LR" and "HR" are images (N, C, h, w) or blocks (N, C, k, j, i), float32 in units of the window: of the same
        place, or, unpaired, of two kinds. A recipe's source may add others.
        """


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

    Attributes
    ----------
    share : int
        Samples of a step in this process.

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
        self.share = share_of(batch_size, processes)
        self._micro_batch = micro_batch or self.share
        if self.share % self._micro_batch:
            raise OptionError(
                f"The {self.share} samples of a process cannot be cut into micro-batches of {self._micro_batch}.",
                f"Choose a micro_batch that divides {self.share}.",
            )
        self._source, self._batch_size, self._seed = source, batch_size, seed
        self._first = rank * self.share
        self._shuffle = shuffle
        self._order = lru_cache(maxsize=3)(self._order_of_epoch)
        self._workers, self._ahead = workers, max(ahead, workers, 1)
        self._pool: ThreadPoolExecutor | None = None
        self._prepared: deque[Future] = deque()
        self._next = 1

    def images(self, step: int) -> list[int]:
        """Numbers of the images in this process's part of a step."""
        return [image for image, _ in self._samples(step)]

    def at(self, step: int) -> list[Batch]:
        """This process's micro-batches of a step, computed here and now."""
        samples, batches = self._samples(step), []
        for first in range(0, self.share, self._micro_batch):
            part = samples[first : first + self._micro_batch]
            draws = [np.random.default_rng([self._seed, DRAWS, number]) for _, number in part]
            batches.append(self._source.batch([image for image, _ in part], draws))
        return batches

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

    def _samples(self, step: int) -> list[tuple[int, int]]:
        """Image and number of the samples that are this process's part of a step."""
        first, count = (step - 1) * self._batch_size + self._first, len(self._source)
        numbers = range(first, first + self.share)
        return [(int(self._order(number // count)[number % count]), number) for number in numbers]

    def _order_of_epoch(self, epoch: int) -> np.ndarray:
        count = len(self._source)
        if not self._shuffle:
            return np.arange(count)
        return np.random.default_rng([self._seed, ORDER, epoch]).permutation(count)
