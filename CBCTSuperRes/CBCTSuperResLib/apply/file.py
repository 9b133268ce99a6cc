"""From a file to a file: the one function that command line, batch and worker all call.

The result, what is asked for beside it (the model's disagreement with itself, and a mask of where it disagrees much)
and the report appear together or not at all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.atomic import FileLock, flush_file, replacing_all
from ..core.errors import Cancelled, OutputError
from ..core.memory import memory_for
from ..core.options import Options
from ..core.progress import Report, part_of
from ..core.volume import Grid
from ..io.exchange import ExchangeOutput, grid_facts, grid_file, is_exchange
from ..io.formats import stem_of
from ..io.images import allocate
from ..io.volume import Volume
from ..io.write import check_output, write_into
from ..models.folder import DEFAULT_MODEL
from .plan import Plan, make_plan
from .report import facts_of, report_path, versions

if TYPE_CHECKING:
    from ..models.model import Model
    from .run import super_resolve

    input_path, output_path, options = Path(input_path), Path(output_path), options or Options()
    paths = _paths(output_path, options)
    _check_paths(paths, input_path, {words: Volume(np.zeros((1, 1, 1), np.uint8), Grid((1, 1, 1))) for words in paths})
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        if cancelled and cancelled():
            raise Cancelled()
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 3)

