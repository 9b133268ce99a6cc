"""Work done ahead by threads, its results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 8


def done_ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work(item)` for each item, in order; only a few results exist before they are taken.

    Files are read this way: SimpleITK decodes without holding Python's lock. What `work` raises is raised here.
    """
    threads = min(THREADS, os.cpu_count() or 1)
    items = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reading")
    try:
        begun = deque(pool.submit(work, item) for item in islice(items, 2 * threads))
        while begun:
            result = begun.popleft().result()
            begun.extend(pool.submit(work, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
