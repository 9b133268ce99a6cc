"""Whether what is planned fits into memory and onto the disk, and how many processes do."""

from __future__ import annotations

import shutil
from math import prod
from pathlib import Path

import numpy as np

from ..core.errors import ResourceError
from ..core.memory import available_memory, readable
from ..core.options import Options
from ..core.volume import Grid
from ..models.card import ModelCard
from .plan import Plan, Workers, make_plan

SMALLER = "Choose an ROI, larger output voxels, planes axial, or a smaller output type such as int16."


def check_memory(plan: Plan) -> None:
    """Refuse, with the numbers, a run whose result would not fit into memory; the scan is there already.

    Raises
    ------
    ResourceError
    """
    scan_bytes, free = prod(plan.scan_grid.size) * plan.scan_dtype.itemsize, available_memory()
    to_come = plan.memory_bytes - scan_bytes
    if to_come <= free:
        return
    if plan.workers == 1 or not plan.workers_are_here:
        raise ResourceError(
            f"The result, {plan.result_text}, needs about {readable(to_come)} of memory, but only {readable(free)} "
            "are free.",
            SMALLER,
        )
    scan = plan.scan_grid, plan.scan_dtype, plan.card, plan.options
    fewer = workers_that_fit(*scan, most=plan.workers - 1, free=free + scan_bytes)
    is_devices = len(plan.options.devices) > 1
    advice = f"Choose fewer devices: {fewer}" if is_devices else f"Let fewer workers compute: local:{fewer}"
    raise ResourceError(
        f"The result, {plan.result_text}, and the {plan.workers} processes that compute it, each "
        f"{readable(plan.worker_bytes)}, need about {readable(to_come)} of memory, but only {readable(free)} are "
        "free.",
        f"{advice}. {SMALLER}" if fewer else SMALLER,
    )


def check_disk(plan: Plan, output_path: str | Path) -> None:
    """Refuse, with the numbers, a result that does not fit onto the disk together with what goes beside it.

    Raises
    ------
    ResourceError
    """
    folder = Path(output_path).absolute().parent
    free, wanted = shutil.disk_usage(folder).free, plan.output_bytes + plan.map_bytes
    if wanted > free:
        raise ResourceError(
            f"The result takes {readable(wanted)} on disk, but only {readable(free)} are free in {folder}.",
            f"{SMALLER} Or choose another disk.",
        )


def workers_that_fit(grid: Grid, dtype: np.dtype, card: ModelCard, options: Options, most: int, free: float) -> int:
    """How many processes of this computer, `most` at most, can share a volume in so much memory; 0 if not even one.

    Parameters
    ----------
    free : float
        Bytes for all of it, the scan included.

    Raises
    ------
    OptionError, InputError
        As `make_plan`.
    """
    counts = range(most, 0, -1)
    return next((n for n in counts if make_plan(grid, dtype, card, options, Workers(n)).memory_bytes <= free), 0)
