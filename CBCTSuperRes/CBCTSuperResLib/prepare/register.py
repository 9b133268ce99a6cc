"""Rigid registration of an LR scan to an HR scan: Mattes mutual information, from coarse to fine, with SimpleITK.

D. Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE Trans. Medical Imaging 22
(2003) 120-128. One thread and a fixed seed: the same scans give the same transform. All transforms are rigid and map
points of the HR scan to points of the LR scan, LPS mm.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError
from ..core.progress import Report, part_of
from .images import Scan, Working, empty_image, grid_of, reduced, shrunk, stop_if

_LEVELS = (4.0, 2.0, 1.0)  # spacing of each level, in LR voxels
_MOST_VOXELS = 3e6  # about; more would make it slow to start and to cancel, and no better
_SAMPLES = 60_000
_BINS = 40
_FIRST_ITERATIONS, _ITERATIONS = 60, 120
_LEAST_EDGE = 10  # voxels; a level coarser than this says nothing
_SEARCH_EDGE = 56  # voxels along the longer scan's longest edge
_SEARCH_OVERLAP = 0.4
_RIGID = 2e-3
ADVICE = "Save a rigid transform (rotation and translation only) of the LR volume onto the HR volume from Slicer."


@dataclass(frozen=True)
class Registration:
    """How the LR scan was moved onto the HR scan.

    Attributes
    ----------
    matrix : ndarray, shape (4, 4)
        From points of the HR scan to points of the LR scan, LPS mm.
    start : ndarray, shape (4, 4)
        Where it began.
    begun_from : str
        The start in words.
    metric, metric_at_start : float
        Negative mutual information on the finest level; lower is better. 0 where nothing was measured.
    centre : ndarray, shape (3,)
        Centre of the HR scan, about which it turns, in mm.
    """

    matrix: np.ndarray
    start: np.ndarray
    begun_from: str
    metric: float
    metric_at_start: float
    centre: np.ndarray

    def transform(self) -> sitk.Euler3DTransform:
        return rigid(self.matrix, self.centre)


def register(
    hr: Scan,
    lr: Scan,
    initial: str | None = None,
    seed: int = 0,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Registration:
    """Find the rigid movement that brings the LR scan onto the HR scan.

    With `initial`, a transform file, that is where it starts; otherwise all of `starts` are tried on the coarsest level
    and the best goes on. Needs about 30 bytes a voxel of the reduced scans, about 3 million voxels each at most.

    Raises
    ------
    InputError
        If the initial transform cannot be used.
    Cancelled
    """
    spacing = float(np.exp(np.mean(np.log(lr.grid.spacing))))
    for grid in (hr.grid, lr.grid):
        spacing = max(spacing, float(np.cbrt(np.prod(grid.size) * np.prod(grid.spacing) / _MOST_VOXELS)))
    part_of(progress, 0, 0.1)(0, "Reducing the scans for registration")
    fine = reduced(hr, spacing, cancelled), reduced(lr, spacing, cancelled)
    edge = min(min(np.array(w.image.GetSize()) * w.image.GetSpacing()) for w in fine)
    factors = [factor for factor in _LEVELS if factor == 1 or edge / (spacing * factor) >= _LEAST_EDGE]
    levels = [tuple(shrunk(w, spacing * factor) for w in fine) for factor in factors]
    centre = grid_of(fine[0].image).point((np.array(fine[0].image.GetSize()) - 1) / 2)
    given = {f"the transform {initial}": read_rigid(initial)} if initial else None
    part_of(progress, 0, 0.1)(0.8, "Looking for a start")
    candidates = given or starts(*levels[0])

    report = part_of(progress, 0.1, 0.5)
    tried = {}
    for number, (name, matrix) in enumerate(candidates.items()):
        report(number / len(candidates), f"Registering from {name}")
        level = _Level(*levels[0], seed, cancelled)
        found = level.optimised(rigid(matrix, centre), _FIRST_ITERATIONS)
        tried[name] = level.metric(found), found
    name = min(tried, key=lambda key: tried[key][0])
    transform = tried[name][1]

    report = part_of(progress, 0.5, 1.0)
    for number, images in enumerate(levels):
        report(number / len(levels), f"Registering, level {number + 1} of {len(levels)}")
        transform = _Level(*images, seed, cancelled).optimised(transform, _ITERATIONS)
    finest = _Level(*levels[-1], seed, cancelled)
    start = candidates[name]
    return Registration(
        matrix_of(transform), start, name, finest.metric(transform), finest.metric(rigid(start, centre)), centre
    )


def unmoved(hr: Scan, initial: str | None) -> Registration:
    """The scans as they are, or as `initial` places them, taken to be aligned."""
    matrix = read_rigid(initial) if initial else np.eye(4)
    name = f"the transform {initial}" if initial else "the scans as their files place them"
    return Registration(matrix, matrix, name, 0.0, 0.0, hr.grid.point((np.array(hr.grid.size) - 1) / 2))


class _Level:
    """One level of the pyramid."""

    def __init__(self, hr: Working, lr: Working, seed: int, cancelled: Callable[[], bool] | None) -> None:
        self._hr, self._lr, self._seed, self._cancelled = hr, lr, seed, cancelled
        self._spacing = float(np.exp(np.mean(np.log(hr.image.GetSpacing()))))
        self._reason: BaseException | None = None

    def metric(self, transform: sitk.Transform) -> float:
        """Negative mutual information; 0, no information, where the scans do not overlap."""
        stop_if(self._cancelled)
        try:
            return self._method(transform).MetricEvaluate(self._hr.image, self._lr.image)
        except RuntimeError:  # nothing in common
            return 0.0

    def optimised(self, transform: sitk.Transform, iterations: int) -> sitk.Transform:
        """A better transform, or the same where the scans do not overlap."""
        start = sitk.Euler3DTransform(transform)
        method = self._method(start)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=2 * self._spacing,
            minStep=0.002 * self._spacing,
            numberOfIterations=iterations,
            relaxationFactor=0.75,
            gradientMagnitudeTolerance=1e-8,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        with _deferred_signals() as came:

            def ask() -> None:
                try:
                    stop_if(self._cancelled)
                except BaseException as reason:  # SimpleITK swallows what a callback raises
                    self._reason = reason
                if self._reason or came:
                    method.StopRegistration()

            method.AddCommand(sitk.sitkIterationEvent, ask)
            try:
                found = method.Execute(self._hr.image, self._lr.image)
            except RuntimeError:  # nothing in common, now or after a step
                found = transform
        if self._reason:
            raise self._reason
        found = rigid(matrix_of(found), transform.GetCenter())
        return found if self.metric(found) < self.metric(transform) else transform

    def _method(self, transform: sitk.Transform) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetNumberOfWorkUnits(1)
        method.SetMetricAsMattesMutualInformation(_BINS)
        method.SetMetricFixedMask(self._hr.mask)
        method.SetMetricMovingMask(self._lr.mask)
        method.SetMetricSamplingStrategy(method.RANDOM)
        share = min(1.0, _SAMPLES / self._hr.image.GetNumberOfPixels())
        method.SetMetricSamplingPercentage(share, self._seed + 1)  # 0 would mean the time of day
        method.MetricUseFixedImageGradientFilterOff()  # gradients at the samples, not of whole images
        method.MetricUseMovingImageGradientFilterOff()
        method.SetInterpolator(sitk.sitkLinear)
        method.SetInitialTransform(transform, inPlace=False)
        return method


@contextmanager
def _deferred_signals() -> Iterator[list[int]]:
    """Holds SIGINT and SIGTERM back until the end, and tells in a list which of them came in.

    SimpleITK calls back into Python and swallows the exception that a signal's handler raises there. Elsewhere than in
    the main thread nothing is held back: handlers do not run there.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, _: came.append(number)) for kind in kinds]
    try:
        yield came
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, signal.SIG_DFL if handler is None else handler)
        for number in came:
            signal.raise_signal(number)


# Where registration may start


def starts(hr: Working, lr: Working) -> dict[str, np.ndarray]:
    """Candidate transforms, matrices (4, 4) from HR points to LR points, by the words that describe them."""
    return {
        "the scans as their files place them": np.eye(4),
        "the centres of the fields of view": shift(_centre(lr, False) - _centre(hr, False)),
        "the centres of mass": shift(_centre(lr, True) - _centre(hr, True)),
        "the best of all shifts": shift(best_shift(hr, lr)),
    }


def _centre(working: Working, weighted: bool) -> np.ndarray:
    """Centre in mm of what was measured, of its grey values above their mean if weighted."""
    mask = sitk.GetArrayViewFromImage(working.mask) > 0
    weights = mask.astype(np.float64)
    if weighted:
        values = sitk.GetArrayViewFromImage(working.image)
        weights *= np.maximum(values - values[mask].mean(), 0) if mask.any() else 0
    if not weights.any():
        weights = np.ones(mask.shape)
    index = [np.average(np.arange(n), weights=weights.sum(tuple({0, 1, 2} - {a}))) for a, n in enumerate(mask.shape)]
    return grid_of(working.image).point(index[::-1])


def best_shift(hr: Working, lr: Working) -> np.ndarray:
    """The translation in mm, from HR points to LR points, of the highest correlation where both were measured.

    Masked normalised cross-correlation over all shifts of whole voxels of a coarse grid: D. Padfield, Masked object
    registration in the Fourier domain, IEEE Trans. Image Processing 21 (2012) 2706-2718, equations 4 and 15-21.
    """
    edges = [max(n * s for n, s in zip(w.image.GetSize(), w.image.GetSpacing(), strict=True)) for w in (hr, lr)]
    spacing = max(edges) / _SEARCH_EDGE
    fixed = shrunk(hr, spacing)
    moving = _on_axes_of(fixed, shrunk(lr, spacing))
    a, am = (sitk.GetArrayFromImage(part).astype(np.float64) for part in (fixed.image, fixed.mask))
    b, bm = (sitk.GetArrayFromImage(part).astype(np.float64) for part in (moving.image, moving.mask))
    scores = _masked_correlation(a * am, am, b * bm, bm)
    peak = np.unravel_index(int(np.argmax(scores)), scores.shape)
    lag = [p if p < n else p - total for p, n, total in zip(peak, b.shape, scores.shape, strict=True)]
    return grid_of(moving.image).point(lag[::-1]) - grid_of(fixed.image).point((0, 0, 0))


def _on_axes_of(fixed: Working, moving: Working) -> Working:
    """The moving scan, all of it, on a grid of the fixed scan's spacing and axes."""
    grid, frame = grid_of(moving.image), grid_of(fixed.image)
    ends = [(0, n - 1) for n in grid.size]
    corners = np.array([grid.point((i, j, k)) for i in ends[0] for j in ends[1] for k in ends[2]])
    places = (np.linalg.inv(frame.index_to_point) @ np.c_[corners, np.ones(8)].T)[:3]
    first, last = np.floor(places.min(1)).astype(int), np.ceil(places.max(1)).astype(int) + 1
    reference = empty_image(frame.cropped(first, last))
    image = sitk.Resample(moving.image, reference, sitk.Transform(), sitk.sitkLinear, 0.0)
    mask = sitk.Resample(moving.mask, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return Working(image, mask)


def _masked_correlation(a: np.ndarray, am: np.ndarray, b: np.ndarray, bm: np.ndarray) -> np.ndarray:
    """Correlation of a(x) with b(x + lag) for every lag (wrapped), -1 where too little of both was measured."""
    shape = [n + m - 1 for n, m in zip(a.shape, b.shape, strict=True)]

    def spectrum(values: np.ndarray) -> np.ndarray:
        return np.fft.rfftn(values, shape, axes=(0, 1, 2))

    def sums(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.fft.irfftn(np.conj(first) * second, shape, axes=(0, 1, 2))

    fa, fm, ga, gm = spectrum(a), spectrum(am), spectrum(b), spectrum(bm)
    count = np.maximum(np.rint(sums(fm, gm)), 1)
    sum_a, sum_b = sums(fa, gm), sums(fm, ga)
    var_a = np.maximum(sums(spectrum(a * a), gm) - sum_a**2 / count, 0)
    var_b = np.maximum(sums(fm, spectrum(b * b)) - sum_b**2 / count, 0)
    spread = np.sqrt(var_a * var_b)
    scores = (sums(fa, ga) - sum_a * sum_b / count) / np.maximum(spread, 1e-3 * spread.max() + 1e-12)
    scores[count < _SEARCH_OVERLAP * min(am.sum(), bm.sum())] = -1
    return scores


# Rigid transforms


def rigid(matrix: np.ndarray, centre: Sequence[float]) -> sitk.Euler3DTransform:
    """The transform of a rigid matrix (4, 4), turning about a centre in mm."""
    centre = np.asarray(centre, np.float64)
    u, _, v = np.linalg.svd(matrix[:3, :3])
    rotation = u @ v
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(rotation.ravel().tolist(), 1e-6)
    transform.SetTranslation((matrix[:3, :3] @ centre + matrix[:3, 3] - centre).tolist())
    return transform


def matrix_of(transform: sitk.Transform) -> np.ndarray:
    """Matrix (4, 4) of a transform that is linear."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    for axis, point in enumerate(np.eye(3) * 100):
        matrix[:3, axis] = (np.array(transform.TransformPoint(point.tolist())) - origin) / 100
    return matrix


def shift(vector: Sequence[float]) -> np.ndarray:
    """Matrix (4, 4) of a translation in mm."""
    matrix = np.eye(4)
    matrix[:3, 3] = vector
    return matrix


def angle_deg(matrix: np.ndarray) -> float:
    """Rotation angle of a rigid matrix (4, 4)."""
    return float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))


def read_rigid(path: str | Path) -> np.ndarray:
    """Matrix (4, 4) of a transform file (.tfm, .txt, .h5, .mat).

    Slicer saves every linear transform as an affine one; it is taken if its matrix is a rotation.

    Raises
    ------
    InputError
        If the file is no transform, is not linear, or scales, shears or mirrors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"The initial transform {path} does not exist.", "Check the name and the folder.")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise InputError(f"{path.name} cannot be read as a transform.", ADVICE) from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise InputError(f"{path.name} is no linear transform of space.", ADVICE)
    matrix = matrix_of(transform)
    rotation = matrix[:3, :3]
    if not np.isfinite(matrix).all() or np.abs(rotation.T @ rotation - np.eye(3)).max() > _RIGID:
        raise InputError(f"{path.name} scales or shears; scans of one patient differ by a rigid movement.", ADVICE)
    if np.linalg.det(rotation) < 0:
        raise InputError(f"{path.name} mirrors.", ADVICE)
    return matrix
