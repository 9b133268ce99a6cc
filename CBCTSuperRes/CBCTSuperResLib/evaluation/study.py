"""One reference scan, and everything that is compared with it: brought to the same points, measured, drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..blanks import find_blanks
from ..grey.choice import choose_window
from ..grey.window import Window
from ..volume import Grid, Volume
from .common_region import Box, at_points, box_around, common_box, cropped, have_the_same_points, nearest_at_points
from .contenders import CUBIC, FileContender, ModelContender, cubic_volume
from .frequencies import Curve, fourier_shell_correlation
from .measures import MEASURES, Measure, Truth, View
from .phantom import AXES
from .simulate import degrade

PROTOCOLS = {"P2": "axial", "P3": "isotropic"}
SAME_GREY, SAME_CONTRAST = 0.05, 0.25  # of the window; of the spread of grey values, which blur makes smaller
LEAST_FOR_GREYS = 1000
MARGIN = 32  # voxels of the coarse scan around what is compared, for the networks to look at
SAID_IN_READING = "records no spacing"


@dataclass(frozen=True)
class Settings:
    """How to compare.

    Attributes
    ----------
    protocol : "P2" or "P3"
        How a coarse scan is simulated; also whether models enlarge a given one in slices or along all axes.
    window : see `Options.window`
    blur, noise, seed
        Of the simulated scan: fine voxels, share of the window.
    spacing : (x, y, z) in mm, optional
        For scans that do not say.
    series : str, optional
    box : three pairs of int along (i, j, k), optional
        Part of the reference to compare; otherwise the middle of what can be.
    measures : sequence of Measure
    """

    protocol: str = "P2"
    window: str | tuple[float, float] | None = None
    blur: float = 0.85
    noise: float = 0.02
    seed: int = 0
    spacing: Sequence[float] | None = None
    series: str | None = None
    box: tuple | None = None
    measures: Sequence[Measure] = MEASURES

    @property
    def planes(self) -> str:
        return PROTOCOLS[self.protocol]

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(AXES[self.planes])


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
        view = View(image, known, sides.simulated, settings.noise, settings.blur, settings.axes)
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
        settings = self._settings
        even = tuple((0, n - n % 2 if axis in settings.axes else n) for axis, n in enumerate(truth.shape))
        truth, part = truth[tuple(slice(*pair) for pair in even)], cropped(part, even)
        self.simulated = degrade(truth, settings.axes, blur=settings.blur, noise=settings.noise, seed=settings.seed)
        grid = part.grid.resampled(self.simulated.shape[::-1])
        self.notes.append(
            f"The coarse scan was simulated ({settings.protocol}): the reference, blurred by {settings.blur:g} voxels "
            f"and averaged over two {'within slices' if settings.planes == 'axial' else 'along all axes'}, with noise "
            f"of {100 * settings.noise:g} % of the window."
        )
        if self._files:
            self.notes.append("Results from files were not made from this simulated scan.")
        scan = Volume(self.simulated, grid)
        self._enlarge(scan, part.grid, tell, window=(0.0, 1.0), blank="none", is_unit=True)
        return truth, part, self.simulated.repeat(2, 1).repeat(2, 2).repeat(2 if 0 in settings.axes else 1, 0)

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
        factor = float(models[0].model.spec.scale or 2) if models else 2.0
        factors = (factor, factor, factor if self._settings.planes == "isotropic" else 1.0)
        results: dict[str, Volume] = {CUBIC: cubic_volume(scan, factors)}
        for count, contender in enumerate(models):
            tell(count / len(models), f"Computing {contender.name}")
            result = contender.enlarge(scan, self._settings.planes, window=window, blank=blank, dtype="float32")
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
            simulated = {"protocol": settings.protocol, "blur_voxels": settings.blur, "noise_share": settings.noise}
            facts["simulated"] = {**simulated, "seed": settings.seed}
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
