"""Rigid registration of an LR scan to an HR scan: Mattes mutual information, from coarse to fine, with SimpleITK.

D. Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE Trans. Medical Imaging 22
(2003) 120-128. One thread and a fixed seed: the same scans give the same transform.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ...progress import Report, part_of
from .images import Scan, Working, grid_of, reduced, shrunk, stop_if
from .interrupts import deferred_signals
from .rigid import matrix_of, read_rigid, rigid
from .starts import starts

_LEVELS = (4.0, 2.0, 1.0)  # spacing of each level, in LR voxels
_MOST_VOXELS = 3e6  # about; more would make it slow to start and to cancel, and no better
_SAMPLES = 60_000
_BINS = 40
_FIRST_ITERATIONS, _ITERATIONS = 60, 120
_LEAST_EDGE = 10  # voxels; a level coarser than this says nothing


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


def working_spacing(hr: Scan, lr: Scan) -> float:
    """Spacing of the finest level in mm: an LR voxel's, or coarser where a scan would have too many."""
    spacing = float(np.exp(np.mean(np.log(lr.grid.spacing))))
    for grid in (hr.grid, lr.grid):
        spacing = max(spacing, float(np.cbrt(np.prod(grid.size) * np.prod(grid.spacing) / _MOST_VOXELS)))
    return spacing


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
    spacing = working_spacing(hr, lr)
    part_of(progress, 0, 0.1)(0, "Reducing the scans for registration")
    fine = reduced(hr, spacing, cancelled), reduced(lr, spacing, cancelled)
    levels = [tuple(shrunk(w, spacing * factor) for w in fine) for factor in _used_levels(fine, spacing)]
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


def _used_levels(fine: tuple[Working, Working], spacing: float) -> list[float]:
    edge = min(min(np.array(w.image.GetSize()) * w.image.GetSpacing()) for w in fine)
    return [factor for factor in _LEVELS if factor == 1 or edge / (spacing * factor) >= _LEAST_EDGE]


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
        with deferred_signals() as came:
            method.AddCommand(sitk.sitkIterationEvent, lambda: self._ask(method, came))
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

    def _ask(self, method: sitk.ImageRegistrationMethod, signals: list[int]) -> None:
        try:
            stop_if(self._cancelled)
        except BaseException as reason:  # SimpleITK swallows what a callback raises
            self._reason = reason
        if self._reason or signals:
            method.StopRegistration()
