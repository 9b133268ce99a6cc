"""Where scans can be compared: a box of the reference that all of them cover, and their grey values at its points.

One reference scan, and everything that is compared with it: brought to the same points, measured, drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..acquisition.scanner import P2, Acquisition
from ..core.errors import InputError
from ..core.volume import Grid
from ..io.volume import Volume
from ..measure.catalogue import MEASURES, Measure, Truth, View
from ..measure.resolution import Curve, fourier_shell_correlation
from ..scan.blank_region import BlankRegion
from ..scan.field_of_view import find_blanks
from ..scan.window import Window
from ..scan.window_choice import choose_window
from .contenders import CUBIC, FileContender, ModelContender, cubic_volume

MOST = (48, 512, 512)  # voxels along (k, j, i): more would make the measures take hours
LEAST = (3, 32, 32)
SAME_POINT = 0.02  # voxels
BLANK_SLICES = 16

Box = tuple[tuple[int, int], ...]


def common_box(reference: Grid, others: Sequence[Grid], blanks: BlankRegion, most: Sequence[int] = MOST) -> Box:
    """A box (k, j, i) of the reference, in which all others have values and nothing is blank.

    Parameters
    ----------
    most : three int
        Largest extent along (k, j, i); of more, the middle is taken.

    Raises
    ------
    InputError
        If there is no such box worth comparing.
    """
    box = [[0, n] for n in reference.shape]
    for other in others:
        box = _covered(box, reference, other)
    box = _without_blanks(box, blanks)
    if any(stop - start < least for (start, stop), least in zip(box, LEAST, strict=True)):
        size = " x ".join(str(max(0, stop - start)) for start, stop in box[::-1])
        raise InputError(
            f"Only {size} voxels of the reference can be compared.",
            "The scans must show the same place; blank regions do not count. Register them, or choose others.",
        )
    return tuple(_middle(start, stop, m) for (start, stop), m in zip(box, most, strict=True))


def cropped(volume: Volume, box: Box) -> Volume:
    """A view of the voxels in a box (k, j, i)."""
    start, stop = ([pair[n] for pair in box[::-1]] for n in (0, 1))
    voxels = volume.voxels[tuple(slice(*pair) for pair in box)]
    return Volume(voxels, volume.grid.cropped(start, stop))


def have_the_same_points(a: Grid, b: Grid) -> bool:
    """Whether every voxel of the smaller grid has one of the larger at its place."""
    if not np.allclose(_matrix(a), _matrix(b), rtol=0, atol=SAME_POINT * min(a.spacing) / max(*a.size, *b.size)):
        return False
    offset = _index_of(b, np.array([a.origin]))[0]
    return bool(np.abs(offset - np.rint(offset)).max() <= SAME_POINT)


def at_points(volume: Volume, grid: Grid) -> np.ndarray:
    """Grey values (k, j, i), float32, at the points of a grid within the volume.

    Taken as they are where the volume has these points, otherwise interpolated by cubic B-splines.
    """
    start = np.rint(_index_of(volume.grid, np.array([grid.origin]))[0]).astype(int)
    inside = np.all(start >= 0) and np.all(start + grid.size <= np.array(volume.grid.size))
    if inside and have_the_same_points(grid, volume.grid):
        box = tuple((int(s), int(s + n)) for s, n in zip(start[::-1], grid.shape, strict=True))
        return cropped(volume, box).voxels.astype(np.float32)
    image = sitk.GetImageFromArray(volume.voxels.astype(np.float32))
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction.ravel().tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkBSpline)
    resampler.SetSize([int(n) for n in grid.size])
    resampler.SetOutputSpacing(grid.spacing)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction.ravel().tolist())
    resampler.SetDefaultPixelValue(float(volume.voxels.min()))
    return sitk.GetArrayFromImage(resampler.Execute(image))


def nearest_at_points(volume: Volume, grid: Grid) -> np.ndarray:
    """Grey values (k, j, i), float32, of the voxels nearest to the points of a grid."""
    to_index = np.linalg.inv(volume.grid.index_to_point) @ grid.index_to_point
    steps = [np.arange(n) for n in grid.size]
    parts = [[to_index[row, axis] * steps[axis] for axis in range(3)] for row in range(3)]
    index = [
        np.clip(
            np.rint(i[None, None, :] + j[None, :, None] + k[:, None, None] + to_index[row, 3]).astype(np.intp),
            0,
            volume.grid.size[row] - 1,
        )
        for row, (i, j, k) in enumerate(parts)
    ]
    return volume.voxels[index[2], index[1], index[0]].astype(np.float32)


def box_around(volume: Grid, region: Grid, margin: int) -> Box:
    """The voxels (i, j, k) of a volume that a region touches, and some more; half-open ranges."""
    index = _index_of(volume, _corners([(0, n) for n in region.shape], region))
    start = np.clip(np.floor(index.min(0)) - margin, 0, None).astype(int)
    stop = np.minimum(np.ceil(index.max(0)).astype(int) + 1 + margin, volume.size)
    return tuple((int(a), int(b)) for a, b in zip(start, stop, strict=True))


def _matrix(grid: Grid) -> np.ndarray:
    return grid.index_to_point[:3, :3]


def _index_of(grid: Grid, points: np.ndarray) -> np.ndarray:
    """Fractional indices (n, 3) in the order (i, j, k) of LPS points (n, 3)."""
    return np.linalg.solve(_matrix(grid), (points - np.asarray(grid.origin)).T).T


def _corners(box: Sequence[Sequence[int]], grid: Grid) -> np.ndarray:
    """LPS centres (8, 3) of the corner voxels of a box (k, j, i)."""
    indices = [corner[::-1] for corner in product(*((start, stop - 1) for start, stop in box))]
    return np.array([grid.point(index) for index in indices])


def _covered(box: list[list[int]], reference: Grid, other: Grid) -> list[list[int]]:
    """The box, made smaller face by face until its corners lie within the other grid: both are convex."""
    reach = _index_of(reference, _corners([(0, n) for n in other.shape], other))
    low, high = np.ceil(reach.min(0) - 0.5)[::-1], np.floor(reach.max(0) + 0.5)[::-1] + 1
    box = [[max(a, int(lo)), min(b, int(hi))] for (a, b), lo, hi in zip(box, low, high, strict=True)]
    while all(stop - start > 0 for start, stop in box) and _excess(box, reference, other) > 0.5 + SAME_POINT:
        box = min(_smaller(box), key=lambda candidate: _total_excess(candidate, reference, other))
    return box


def _smaller(box: Sequence[Sequence[int]]) -> list[list[list[int]]]:
    """The box without each of its faces in turn."""
    changes = [(axis, *change) for axis in range(3) for change in ((1, 0), (0, -1))]
    return [[[a + d * (n == axis), b + e * (n == axis)] for n, (a, b) in enumerate(box)] for axis, d, e in changes]


def _distances(box: Sequence[Sequence[int]], reference: Grid, other: Grid) -> np.ndarray:
    """How far each corner lies beyond the outermost voxel centres of the other grid, in its voxels."""
    index = _index_of(other, _corners(box, reference))
    return np.maximum(np.maximum(-index, index - (np.array(other.size) - 1)), 0)


def _excess(box: Sequence[Sequence[int]], reference: Grid, other: Grid) -> float:
    return float(_distances(box, reference, other).max())


def _total_excess(box: Sequence[Sequence[int]], reference: Grid, other: Grid) -> float:
    return float(np.maximum(_distances(box, reference, other) - 0.5 - SAME_POINT, 0).sum())


def _without_blanks(box: list[list[int]], blanks: BlankRegion) -> list[list[int]]:
    """The box without empty slices, and then without the rows and columns that reach farthest into blank regions."""
    if not blanks or any(stop <= start for start, stop in box):
        return box
    (first, last), *in_plane = box
    part = tuple(slice(start, stop) for start, stop in in_plane)

    def mask_of(k: int) -> np.ndarray | None:
        mask = blanks.mask(k)
        return None if mask is None else mask[part]

    measured = [k for k in range(first, last) if (m := mask_of(k)) is None or not m.all()]
    if not measured:
        return [[first, first], *in_plane]
    first, last = measured[0], measured[-1] + 1
    step = max(1, (last - first) // BLANK_SLICES)
    masks = [m for k in measured[::step] if (m := mask_of(k)) is not None]
    if masks:
        rows, columns = _largest_free(np.logical_or.reduce(masks))
        in_plane = [
            [start + part[0], start + part[1]] for (start, _), part in zip(in_plane, (rows, columns), strict=True)
        ]
    return [[first, last], *in_plane]


def _largest_free(mask: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """A rectangle without any True, found by leaving out the outermost line with the most of them again and again."""
    top, bottom, left, right = 0, mask.shape[0], 0, mask.shape[1]
    while top < bottom and left < right and mask[top:bottom, left:right].any():
        part = mask[top:bottom, left:right]
        shares = [part[0].mean(), part[-1].mean(), part[:, 0].mean(), part[:, -1].mean()]
        worst = int(np.argmax(shares))
        if shares[worst] == 0:  # blank spots inside: from the nearer side
            row = int(np.flatnonzero(part.any(1))[0])
            worst = 0 if row < part.shape[0] - row else 1
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    return (top, bottom), (left, right)


def _middle(start: int, stop: int, most: int) -> tuple[int, int]:
    extra = max(0, stop - start - most)
    start += extra // 2
    return start, min(stop, start + most)


SAME_GREY, SAME_CONTRAST = 0.05, 0.25  # of the window; of the spread of grey values, which blur makes smaller
LEAST_FOR_GREYS = 1000
MARGIN = 32  # voxels of the coarse scan around what is compared, for the networks to look at
SAID_IN_READING = "records no spacing"


@dataclass(frozen=True)
class Settings:
    """How to compare.

    Attributes
    ----------
    acquisition : Acquisition
        How a coarse scan is simulated; its planes also tell how models enlarge a given one.
    window : see `Options.window`
    seed : int
        Of the simulated scan's noise.
    spacing : (x, y, z) in mm, optional
        For scans that do not say.
    series : str, optional
    box : three pairs of int along (i, j, k), optional
        Part of the reference to compare; otherwise the middle of what can be.
    measures : sequence of Measure
    """

    acquisition: Acquisition = P2
    window: str | tuple[float, float] | None = None
    seed: int = 0
    spacing: Sequence[float] | None = None
    series: str | None = None
    box: tuple | None = None
    measures: Sequence[Measure] = MEASURES


@dataclass
class Study:
    """What came of one reference.

    Attributes
    ----------
    name : str
    truth : ndarray, shape (k, j, i)
        In units of the window.
    spacing : (k, j, i) in mm, or None if unknown
    images : dict of str to ndarray
        Each method's picture of the truth, cubic interpolation first, if there is a coarse scan.
    scan : ndarray or None
        The coarse scan, at the points of the truth (nearest voxels), for pictures.
    values : dict of str to dict
        Measure -> method -> value; NaN where it cannot be had.
    curves : dict of str to Curve
        Fourier shell correlation of each method.
    cards : dict of str to dict
        Quality card of each model's result.
    facts : dict
        Window, size, box, how the coarse scan came about; ready for JSON.
    notes : list of str
        What a reader must know.
    """

    name: str
    truth: np.ndarray
    spacing: tuple[float, float, float] | None
    images: dict[str, np.ndarray]
    scan: np.ndarray | None
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    cards: dict[str, dict] = field(default_factory=dict)
    facts: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


Tell = Callable[[float, str], None]
Contenders = Sequence[ModelContender | FileContender]


def study(
    number: int, reference: Path, contenders: Contenders, settings: Settings, coarse: Path | None, tell: Tell
) -> Study:
    """Compare everything with one reference.

    Parameters
    ----------
    number : int
        Of the reference, for contenders that have a file for each.
    coarse : Path, optional
        A real coarse scan of the same object. Without it, and with models among the contenders, one is simulated.

    Raises
    ------
    SuperResError
        If a scan cannot be read, shows nothing, or does not overlap with the reference.
    """
    tell(0.0, "Reading")
    sides = _Sides(number, reference, contenders, settings, coarse)
    found = sides.study(lambda fraction, text: tell(0.1 + 0.4 * fraction, text))
    known = Truth(found.truth, found.spacing)
    for count, (name, image) in enumerate(found.images.items()):
        tell(0.5 + 0.5 * count / len(found.images), f"Measuring {name}")
        view = View(image, known, sides.simulated, settings.acquisition)
        for measure in settings.measures:
            found.values.setdefault(measure.name, {})[name] = measure.of(view)
        found.curves[name] = fourier_shell_correlation(image, found.truth, found.spacing)
    tell(1.0, "")
    return found


class _Sides:
    """The scans of a study, on their way to the same points."""

    def __init__(
        self, number: int, reference: Path, contenders: Contenders, settings: Settings, coarse: Path | None
    ) -> None:
        self._settings, self._contenders = settings, contenders
        self.notes: list[str] = []
        self._name = reference.name
        self._reference = self._read(reference, "reference")
        self._files = {c.name: self._read(c.files[number], c.name) for c in self._of(FileContender)}
        self._coarse = None if coarse is None else self._read(coarse, "coarse scan")
        self._blanks = find_blanks(self._reference)
        models = self._of(ModelContender)
        card = models[0].model.card if models else None
        self._choice = choose_window(self._reference.voxels, self._blanks, settings.window, card)
        self.simulated: np.ndarray | None = None
        self._images: dict[str, np.ndarray] = {}
        self._cards: dict[str, dict] = {}

    def study(self, tell: Tell) -> Study:
        part = cropped(self._reference, self._box())
        truth = self._window.to_unit(part.voxels)
        if self._coarse is not None:
            scan = self._enlarge_given(part.grid, tell)
            self._look_at_greys(truth)
        elif self._of(ModelContender) or not self._files:
            truth, part, scan = self._enlarge_simulated(truth, part, tell)
        else:
            scan = None
        for name, volume in self._files.items():
            self._take(name, volume, part.grid)
        spacing = None if self._has_no_spacing else part.spacing[::-1]
        return Study(
            self._name, truth, spacing, self._images, scan, cards=self._cards, facts=self._facts(part), notes=self.notes
        )

    @property
    def _window(self) -> Window:
        return self._choice.window

    def _of(self, kind: type) -> list:
        return [c for c in self._contenders if isinstance(c, kind)]

    def _read(self, path: Path, what: str) -> Volume:
        volume = Volume.read(path, spacing=self._settings.spacing, series=self._settings.series)
        warnings = volume.report.get("warnings", ())
        self.notes += [f"{what[0].upper()}{what[1:]} {path.name}: {text}" for text in warnings]
        if what == "reference":
            self._has_no_spacing = any(SAID_IN_READING in text for text in warnings)
        return volume

    def _box(self) -> Box:
        grids = [volume.grid for volume in (*self._files.values(), self._coarse) if volume is not None]
        box = common_box(self._reference.grid, grids, self._blanks)
        if self._settings.box:
            whole = common_box(self._reference.grid, grids, self._blanks, self._reference.grid.shape)
            asked = self._settings.box[::-1]
            box = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(whole, asked, strict=True))
        size = " x ".join(str(b - a) for a, b in box[::-1])
        if [b - a for a, b in box] != list(self._reference.grid.shape):
            whole = " x ".join(map(str, self._reference.grid.size))
            self.notes.append(
                f"Compared in a box of {size} voxels of the reference's {whole}: what all scans show, without blank "
                "regions, and its middle where it is large."
            )
        return box

    def _enlarge_simulated(self, truth: np.ndarray, part: Volume, tell: Tell) -> tuple[np.ndarray, Volume, np.ndarray]:
        """Degrade the truth, and enlarge that with every model."""
        acquisition = self._settings.acquisition
        truth = acquisition.even(truth)
        part = cropped(part, tuple((0, n) for n in truth.shape))
        self.simulated = acquisition.degrade(truth, self._settings.seed)
        grid = part.grid.resampled(self.simulated.shape[::-1])
        self.notes.append(
            f"The coarse scan was simulated ({acquisition.protocol}): the reference, blurred by {acquisition.blur:g} "
            f"voxels and averaged over two {'within slices' if acquisition.planes == 'axial' else 'along all axes'}, "
            f"with noise of {100 * acquisition.noise:g} % of the window."
        )
        if self._files:
            self.notes.append("Results from files were not made from this simulated scan.")
        scan = Volume(self.simulated, grid)
        self._enlarge(scan, part.grid, tell, window=(0.0, 1.0), blank="none", is_unit=True)
        shown = self.simulated
        for axis in acquisition.axes:
            shown = shown.repeat(2, axis)
        return truth, part, shown

    def _enlarge_given(self, points: Grid, tell: Tell) -> np.ndarray:
        """Enlarge a real coarse scan around what is compared; both have the window of the reference."""
        box = box_around(self._coarse.grid, points, MARGIN)
        scan = cropped(self._coarse, box[::-1])
        window = (self._window.lo, self._window.hi)
        self._enlarge(scan, points, tell, window=window, blank="auto", is_unit=False)
        return self._window.to_unit(nearest_at_points(self._coarse, points))

    def _look_at_greys(self, truth: np.ndarray) -> None:
        """Tell if the coarse scan's grey values are not those of the reference: then every measure suffers."""
        coarse = self._images[CUBIC]
        middle = (truth > 0.02) & (truth < 0.98) & (coarse > 0.02) & (coarse < 0.98)
        if np.count_nonzero(middle) < LEAST_FOR_GREYS or np.ptp(truth[middle]) == 0:
            return
        offset = float(np.median(coarse[middle] - truth[middle]))
        spread = float(np.std(coarse[middle]) / np.std(truth[middle]))
        if abs(offset) > SAME_GREY or not 1 - SAME_CONTRAST < spread < 1 + SAME_CONTRAST:
            self.notes.append(
                f"The coarse scan's grey values are not those of the reference: {100 * offset:+.0f} % of the window, "
                f"{100 * (spread - 1):+.0f} % of contrast. They were not changed; measures suffer from it. Scans of "
                "different devices must be brought to the same grey values first (cbct-superres prepare does)."
            )

    def _enlarge(self, scan: Volume, points: Grid, tell: Tell, *, window, blank, is_unit: bool) -> None:
        models = self._of(ModelContender)
        factor = (models[0].model.spec.scale or (2.0,))[-1] if models else 2.0
        factors = (factor, factor, factor if self._settings.acquisition.planes == "isotropic" else 1.0)
        results: dict[str, Volume] = {CUBIC: cubic_volume(scan, factors)}
        for count, contender in enumerate(models):
            tell(count / len(models), f"Computing {contender.name}")
            planes = self._settings.acquisition.planes
            result = contender.enlarge(scan, planes, window=window, blank=blank, dtype="float32")
            results[contender.name] = result
            self._cards[contender.name] = result.report["quality"]
            self.notes += [f"{contender.name}: {text}" for text in result.report["warnings"]]
        for name, result in results.items():
            self._take(name, result, points, is_unit)

    def _take(self, name: str, volume: Volume, points: Grid, is_unit: bool = False) -> None:
        """Bring a result to the points of the truth."""
        if not have_the_same_points(points, volume.grid):
            self.notes.append(
                f"{name} has its voxels at other places than the reference and was interpolated to the reference's "
                "points (cubic B-splines), which blurs it a little."
            )
        values = at_points(volume, points)
        self._images[name] = np.clip(values, 0, 1) if is_unit else self._window.to_unit(values)
        if np.ptp(self._images[name]) == 0:
            self.notes.append(f"{name} has the same value everywhere.")

    def _facts(self, part: Volume) -> dict:
        settings = self._settings
        start = np.rint(np.linalg.solve(self._reference.grid.index_to_point, [*part.origin, 1.0])[:3]).astype(int)
        facts = {
            "reference": self._name,
            "size": list(part.grid.size),
            "first_voxel": start.tolist(),
            "spacing_mm": None if self._has_no_spacing else list(part.spacing),
            "window": [self._window.lo, self._window.hi],
            "window_reason": self._choice.reason,
        }
        if self.simulated is not None:
            a = settings.acquisition
            simulated = {"protocol": a.protocol, "blur_voxels": a.blur, "noise_share": a.noise, "seed": settings.seed}
            facts["simulated"] = simulated
        if self._has_no_spacing:
            self.notes.append("The reference tells no voxel size, so nothing is measured in millimetres.")
        return facts


def rows_of(found: Study, measures: Sequence[Measure]) -> list[dict]:
    """Everything measured as a list of scan, method, measure, value, unit; for tables and files."""
    return [
        {"scan": found.name, "method": method, "measure": m.name, "label": m.label, "value": value, "unit": m.unit}
        for m in measures
        for method, value in _rounded(found.values[m.name], m.digits + 2).items()
    ]


def _rounded(values: Mapping[str, float], digits: int) -> dict[str, float | None]:
    return {name: round(value, digits) if np.isfinite(value) else None for name, value in values.items()}
