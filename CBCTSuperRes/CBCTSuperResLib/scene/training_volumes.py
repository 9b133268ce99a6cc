"""Volume nodes as training data: checked, and written to files that a worker reads. The nodes are never changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from ..core.atomic import json_of
from ..core.errors import InputError, OptionError, OutputError
from ..core.volume import Grid
from ..io.exchange import slab_depth
from ..io.folders import report_path
from ..io.formats import file_name
from ..io.raw_nrrd import map_raw_nrrd, write_raw_nrrd
from ..io.volume import Volume
from ..scan.field_of_view import find_blanks
from ..scan.window_choice import choose_window
from ..train.options import TrainingOptions
from ..train.options_file import read_options
from ..train.recipes import RECIPES
from .nodes import LPS_FROM_RAS, reportOf, volumeFromNode

ALONG_SLICES = {"axial": 2, "coronal": 1, "sagittal": 0}  # which of (i, j, k) is not enlarged
ENOUGH_VOXELS = 1 << 23
LONGEST_NAME = 80
PREPARE = "Register and prepare the pair first."

Node = slicer.vtkMRMLScalarVolumeNode
Scan = Node | str | Path
Data = Sequence[Scan | tuple[Scan | None, Scan]]
Steps = Generator[Any, None, Any]  # what takes long, a few milliseconds at a time; returns what comes of it


def withVolumes(
    source: TrainingOptions | str | Path | Mapping, overrides: Sequence[str] = (), *, train: Data, validation: Data = ()
) -> TrainingOptions:
    """Options whose images are these nodes; those that `source` names, if any, are left out.

    The voxels are written, uncompressed, below `path.root`/data/NAME; what is there already is not written again, so
    that a run can be resumed. Without a `normalization_range`, it is estimated from the first high-resolution volume
    if that is a node.

    Parameters
    ----------
    source, overrides
        As of `read_options`, or options that are read already.
    train, validation : sequence of nodes or of pairs (low resolution, high resolution)
        High-resolution volumes alone (the low-resolution images are simulated), or pairs that lie voxel upon voxel;
        of a recipe that learns from unpaired scans, any two. Paths of files or folders may stand for nodes; nothing is
        written for them. Without `validation`, what the options say of it stays; without `train` as well.

    Raises
    ------
    OptionError
        If the options are not valid, apart from their images.
    InputError
        If a node is no volume, or a pair does not fit together.
    OutputError, ResourceError
        If the voxels cannot be written.
    """
    return finished(writingVolumes(source, overrides, train=train, validation=validation))


def writingVolumes(
    source: TrainingOptions | str | Path | Mapping, overrides: Sequence[str] = (), *, train: Data, validation: Data = ()
) -> Steps:
    """`withVolumes` in small steps, for a timer; the generator returns the options."""
    given = {phase: nodes for phase, nodes in (("train", train), ("val", validation)) if nodes}
    source = source.to_json() if isinstance(source, TrainingOptions) else source
    options = read_options(source, [*overrides, *(change for phase in given for change in _inPlaceOfImages(phase))])
    values = options.to_json()
    for phase, nodes in given.items():
        axis = options.datasets["train"].axis
        are_unpaired = phase == "train" and RECIPES[options.model].is_unpaired
        roots = yield from _roots(nodes, None if are_unpaired else options.scale, axis, dataFolder(options))
        values["datasets"][phase] |= {"axis": axis, **roots}
    first = _pair(train[0])[1] if train else None
    is_wanted = values["datasets"]["train"]["normalization_range"] is None and not RECIPES[options.model].is_unpaired
    if is_wanted and first is not None and not _isPath(first):
        values["datasets"]["train"]["normalization_range"] = suggestWindow(first)
    return read_options(values)


def finished(steps: Steps) -> Any:
    """What comes of these steps, all made now."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def dataFolder(options: TrainingOptions) -> Path:
    """Where the voxels of nodes go; outside of the run's folder, which a new run of the name would move away."""
    return Path(options.path.root) / "data" / options.name


def suggestWindow(scan: Scan) -> list[float]:
    """A normalisation range for a volume, [lo, hi] in whole grey values, that holds all its tissues.

    Parameters
    ----------
    scan : vtkMRMLScalarVolumeNode, or path of a file that is read

    Raises
    ------
    InputError
        If it is no volume.
    """
    volume = _thinned(map_raw_nrrd(scan) if _isPath(scan) else volumeFromNode(scan))
    window = choose_window(volume.voxels, find_blanks(volume), "auto", None).window
    if volume.voxels.dtype.kind == "f" and window.width < 100:
        return [window.lo, window.hi]
    return [float(round(window.lo)), float(round(window.hi))]


def _thinned(volume: Volume) -> Volume:
    """Every so many slices of a large volume, which tell its tissue levels as well and do not keep anybody waiting."""
    step = max(1, volume.voxels.size // ENOUGH_VOXELS)
    voxels, grid = volume.voxels[::step], volume.grid
    spacing = (*grid.spacing[:2], grid.spacing[2] * step)
    return Volume(voxels, Grid((*grid.size[:2], len(voxels)), spacing, grid.origin, grid.direction))


def volumeInWorld(node: Node) -> Volume:
    """The volume of a node where the scene shows it, parent transforms applied to its grid; no copy.

    Raises
    ------
    InputError
        If it is no plain volume, or a transform bends or shears it.
    """
    volume, parent = volumeFromNode(node), node.GetParentTransformNode()
    if parent is None:
        return volume
    hardening = "Harden the transform in the Transforms module."
    if not parent.IsTransformToWorldLinear():
        raise InputError(f"{node.GetName()} is under a transform that bends it.", hardening)
    toWorld = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(toWorld)
    matrix = LPS_FROM_RAS @ slicer.util.arrayFromVTKMatrix(toWorld) @ LPS_FROM_RAS @ volume.grid.index_to_point
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    direction = matrix[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise InputError(f"{node.GetName()} is under a transform that shears it.", hardening)
    return Volume(volume.voxels, Grid(volume.grid.size, tuple(spacing), tuple(matrix[:3, 3]), direction))


def checkPair(low: Node, high: Node, scale: int, axis: str = "axial") -> None:
    """Make sure that a pair lies voxel upon voxel.

    Parameters
    ----------
    low, high : vtkMRMLScalarVolumeNode
    scale : int
        How many voxels of `high` lie along one of `low`, in the slices.
    axis : "axial", "coronal" or "sagittal"
        Direction of the slices, of which both have the same number.

    Raises
    ------
    InputError
        With the sizes and places that disagree.
    OptionError
        If the axis is "all".
    """
    if axis not in ALONG_SLICES:
        raise OptionError(f"A pair has slices of one direction, not {axis}.", "Let axis be one of them, such as axial.")
    coarse, fine = volumeInWorld(low).grid, volumeInWorld(high).grid
    factors = [scale] * 3
    factors[ALONG_SLICES[axis]] = 1
    expected = coarse.resampled([n * f for n, f in zip(coarse.size, factors, strict=True)])
    names = f"{low.GetName()} and {high.GetName()}"
    if expected.size != fine.size:
        raise InputError(
            f"{names} are no pair for scale {scale}: {low.GetName()} has {_by(coarse.size)} voxels, so "
            f"{high.GetName()} must have {_by(expected.size)}; it has {_by(fine.size)} "
            f"(spacings {_by(coarse.spacing)} and {_by(fine.spacing)} mm).",
            PREPARE,
        )
    distance = max(np.linalg.norm(a - b) for a, b in zip(_corners(expected), _corners(fine), strict=True))
    if distance > min(fine.spacing) / 2:
        raise InputError(f"{names} do not lie upon each other: their corners are {distance:.3g} mm apart.", PREPARE)


def isSuperResolved(scan: Scan) -> bool:
    """Whether a volume of the scene, or a file, is what this program has made of another scan, as far as is noted."""
    if not _isPath(scan):
        return reportOf(scan) is not None
    try:
        report = json_of(report_path(scan).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(report, dict) and "super_resolution" in report


def writingVolume(volume: Volume, folder: Path, name: str) -> Steps:
    """Write a volume under a name that tells what is in it; a file that is there already is not written again."""
    digest = yield from _digesting(volume)
    path = folder / f"{fileName(name)}-{digest}.nrrd"
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error}.", "Choose another root.") from error
    yield from write_raw_nrrd(volume, path)
    return path


def _inPlaceOfImages(phase: str) -> list[str]:
    """Overrides by which options can be read, and all else in them checked, before the images are written."""
    changes = {"mode": "HR", "dataroot_HR": phase, "dataroot_LR": None, "subset_file": None}
    return [f"datasets.{phase}.{key}={json.dumps(value)}" for key, value in changes.items()]


def fileName(name: str) -> str:
    """A node's name as the beginning of a file's name, on every system."""
    return file_name(name, "volume")[:LONGEST_NAME].strip(" .")


def _roots(nodes: Data, scale: int | None, axis: str, folder: Path) -> Steps:
    """The keys of a dataset's block that say where its images are; without a scale, pairs need not fit together."""
    pairs = [_pair(item) for item in nodes]
    are_pairs = [low is not None for low, _ in pairs]
    if any(are_pairs) and not all(are_pairs):
        raise InputError("Some volumes have a low-resolution partner and some have none.", "Give pairs, or none.")
    for low, high in pairs:
        if scale is not None and low is not None and not _isPath(low) and not _isPath(high):
            checkPair(low, high, scale, axis)
    fine = yield from _writing([high for _, high in pairs], folder / "HR")
    if not all(are_pairs):
        return {"mode": "HR", "dataroot_HR": fine, "dataroot_LR": None}
    coarse = yield from _writing([low for low, _ in pairs], folder / "LR")
    return {"mode": "LRHR", "dataroot_HR": fine, "dataroot_LR": coarse}


def _writing(scans: Sequence[Scan], folder: Path) -> Steps:
    paths = []
    for scan in scans:
        if _isPath(scan):
            paths.append(str(Path(scan).absolute()))
        else:
            path = yield from writingVolume(volumeInWorld(scan), folder, scan.GetName())
            paths.append(str(path))
    return paths


def _pair(item: Scan | tuple[Scan | None, Scan]) -> tuple[Scan | None, Scan]:
    return tuple(item) if isinstance(item, tuple | list) else (None, item)


def _isPath(scan: Scan | None) -> bool:
    return isinstance(scan, str | Path)


def _digesting(volume: Volume) -> Steps:
    hasher = hashlib.blake2b(digest_size=5)
    hasher.update(repr((volume.voxels.shape, volume.voxels.dtype.str)).encode())
    hasher.update(np.round(volume.grid.index_to_point, 9).tobytes())
    depth = slab_depth(volume.voxels)
    for start in range(0, len(volume.voxels), depth):
        hasher.update(np.ascontiguousarray(volume.voxels[start : start + depth]))
        yield
    return hasher.hexdigest()


def _corners(grid: Grid) -> list[np.ndarray]:
    """The outermost points of a volume, LPS in mm."""
    return [grid.point(np.where(side, np.asarray(grid.size) - 0.5, -0.5)) for side in product((0, 1), repeat=3)]


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(str(n) if isinstance(n, int) else f"{n:.4g}" for n in numbers)
