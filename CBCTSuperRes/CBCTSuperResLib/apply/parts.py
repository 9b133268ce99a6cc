"""A part of a volume: what a worker computes, in a file of its own, and how it gets into the result.

Which parts there are says `Plan.parts`; which processes compute them is known to `jobs.shared_volume`.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from ..core.atomic import json_text, replacing
from ..core.errors import InputError
from ..core.options import Ranges
from ..core.progress import Report
from ..io.exchange import read_exchange
from ..io.volume import Volume
from ..models.model import Model
from .plan import OF_THE_WHOLE, Plan
from .run import settled_engine, super_resolve
from .sharing import RESULT
from .tiles import Box, shift

REPORT = "report"


class BoxMemory:
    """Memory of a box of a volume, which is addressed as all of the volume would be.

    Parameters
    ----------
    shape, dtype
        Of the volume, (k, j, i).
    box : Box
        Of its voxels, along (k, j, i).
    """

    def __init__(self, shape: Sequence[int], dtype: np.dtype, box: Box) -> None:
        self.shape, self.dtype, self.ndim = tuple(shape), np.dtype(dtype), len(shape)
        self._box = box
        self.voxels = np.empty([part.stop - part.start for part in box], dtype)

    def __getitem__(self, box: Box) -> np.ndarray:
        return self.voxels[shift(box, self._box)]

    def __setitem__(self, box: Box, values: np.ndarray | float) -> None:
        self.voxels[shift(box, self._box)] = values


def box_of(plan: Plan, part: Ranges) -> Box:
    """Voxels of the result, along (k, j, i), that a part of the scan becomes."""
    return tuple(axis.write(slice(*ends)) for axis, ends in zip(plan.axes, part[::-1], strict=True))


def save_plan(plan: Plan, path: Path) -> str:
    """Keep a plan for the workers; the scan itself, of which its blank region knows, is not in it.

    Returns
    -------
    str
        SHA-256 of the file: what lies in a folder that others may share is unpickled only if it is what was written.
    """
    content = pickle.dumps(replace(plan, blanks=replace(plan.blanks, voxels=None)))
    path.write_bytes(content)
    return sha256(content).hexdigest()


@lru_cache(maxsize=1)
def _opened(scan: Path, plan_file: Path, plan_sha256: str) -> tuple[Volume, Plan]:
    """The scan, mapped and not read, and the plan; kept from one part to the next."""
    volume, content = read_exchange(scan), plan_file.read_bytes()
    if sha256(content).hexdigest() != plan_sha256:
        raise InputError(f"{plan_file} is not the plan that was written.", "Start again, in a folder of your own.")
    plan = pickle.loads(content)
    return volume, replace(plan, blanks=replace(plan.blanks, voxels=volume.voxels))


_settled: dict[tuple[Path, str], tuple[dict, list[str]]] = {}


def compute_part(
    scan: Path,
    plan_file: Path,
    plan_sha256: str,
    part: Ranges,
    target: Path,
    model: Model,
    device: str,
    progress: Report,
    cancelled: Callable[[], bool],
) -> None:
    """Compute a part and write it, whole or not at all; see `take_in`.

    Parameters
    ----------
    scan : Path
        Exchange file.
    plan_file, plan_sha256 : Path and str
        See `save_plan`.
    part : three pairs of int
        One of `Plan.parts`.
    target : Path
    device : str
        Of this worker.

    Raises
    ------
    InputError
        If the plan is another one than was written.
    """
    volume, plan = _opened(scan, plan_file, plan_sha256)
    plan = replace(plan, options=replace(plan.options, device=device))
    key = (plan_file, device)
    if key not in _settled:  # by the same piece as in a run on one device, whatever the part
        _settled.clear()
        _settled[key] = settled_engine(plan, volume, model, cancelled)
    chosen, notes = _settled[key]
    plan = replace(plan, options=replace(plan.options, **chosen), is_settled=True)
    box, memory = box_of(plan, part), {}

    def allocate(name: str) -> Callable[[Sequence[int], np.dtype], BoxMemory]:
        return lambda shape, dtype: memory.setdefault(name, BoxMemory(shape, dtype, box))

    found = super_resolve(
        volume,
        model,
        progress=progress,
        cancelled=cancelled,
        allocate=allocate(RESULT),
        allocate_maps={name: allocate(name) for name in plan.maps},
        plan=plan.within(part),
    )
    report = {**found.report, "notes": [*notes, *found.report["notes"]]}  # the choice is told once, see `joined`
    arrays = {name: kept.voxels for name, kept in memory.items() if name not in OF_THE_WHOLE}
    with replacing(target) as scratch, open(scratch, "wb") as stream:
        np.savez(stream, **arrays, **{REPORT: np.frombuffer(json_text(report).encode(), np.uint8)})


def take_in(target: Path, box: Box, memory: Mapping[str, np.ndarray]) -> dict:
    """Put a part that was computed into its place, and remove its file; returns its report."""
    with np.load(target, allow_pickle=False) as stored:
        for name, whole in memory.items():
            whole[box] = stored[name]
        report = json.loads(stored[REPORT].tobytes())
    target.unlink()
    return report
