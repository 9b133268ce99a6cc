"""One reference scan, and everything that is compared with it: brought to the same points, measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..acquisition.scanner import P2, Acquisition
from ..core.interpolate import enlarge
from ..core.progress import Report, part_of
from ..core.volume import Grid, scaled_size
from ..io.volume import Volume
from ..measure.catalogue import MEASURES, Measure, Truth, View
from ..measure.resolution import Curve, fourier_shell_correlation
from ..scan.blank_region import BlankRegion
from ..scan.field_of_view import find_blanks
from ..scan.window import Window
from ..scan.window_choice import WindowChoice, choose_window
from .common_region import at_points, box_around, common_box, cropped, have_the_same_points, nearest_at_points
from .contenders import CUBIC, FileContender, ModelContender

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
    override : bool
        Whether that is believed where a scan records another spacing.
    series : str, optional
    box : three pairs of int along (i, j, k), optional
        Part of the reference to compare; otherwise the middle of what can be.
    measures : sequence of Measure
    """

    acquisition: Acquisition = P2
    window: str | tuple[float, float] | None = None
    seed: int = 0
    spacing: Sequence[float] | None = None
    override: bool = False
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
    grid : Grid or None
        Where the voxels of the truth are.
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
    grid: Grid | None = None


def study(
    number: int,
    reference: Path,
    contenders: Sequence[ModelContender | FileContender],
    settings: Settings,
    coarse: Path | None,
    tell: Callable[[float, str], None],
) -> Study:
    """Compare everything with one reference.

    Parameters
    ----------
    number : int
        Of the reference, for contenders that have a file for each.
    coarse : Path, optional
        A real coarse scan of the same object. Without it, and with models among the contenders, one is simulated.
    tell : callable (fraction, message)

    Raises
    ------
    SuperResError
        If a scan cannot be read, shows nothing, or does not overlap with the reference.
    """
    tell(0.0, "Reading")
    scans = _read(number, reference, contenders, settings, coarse)
    models = [contender for contender in contenders if isinstance(contender, ModelContender)]
    blanks = find_blanks(scans.reference)
    card = models[0].model.card if models else None
    choice = choose_window(scans.reference.voxels, blanks, settings.window, card)
    part = _part_to_compare(scans, blanks, settings.box)

    enlarging = part_of(tell, 0.1, 0.5)
    if scans.coarse is not None:
        made = _from_a_given_scan(scans.coarse, part, choice.window, models, settings.acquisition.planes, enlarging)
    elif models or not scans.results:
        part = cropped(part, tuple((0, n) for n in settings.acquisition.even(part.voxels).shape))
        made = _from_a_simulated_scan(part, choice.window, models, settings, enlarging)
    else:
        made = Enlarged({}, {}, None)
    truth = choice.window.to_unit(part.voxels)

    notes = [*scans.notes, *made.notes]
    if made.simulated is not None and scans.results:
        notes.append("Results from files were not made from this simulated scan.")
    images = {}
    for name, volume in {**made.results, **scans.results}.items():
        is_unit = made.simulated is not None and name in made.results
        images[name] = _image(name, volume, part, None if is_unit else choice.window, notes)
    if scans.coarse is not None:
        notes += _difference_of_greys(images[CUBIC], truth)
    if not scans.tell_spacing:
        notes.append("The reference tells no voxel size, so nothing is measured in millimetres.")

    spacing = part.spacing[::-1] if scans.tell_spacing else None
    found = Study(scans.name, truth, spacing, images, made.shown, cards=made.cards, notes=notes, grid=part.grid)
    found.facts = _facts(scans, part, choice, settings, made.simulated is not None)
    known = Truth(truth, spacing)
    for count, (name, image) in enumerate(images.items()):
        tell(0.5 + 0.5 * count / len(images), f"Measuring {name}")
        view = View(image, known, made.simulated, settings.acquisition)
        for measure in settings.measures:
            found.values.setdefault(measure.name, {})[name] = measure.of(view)
        found.curves[name] = fourier_shell_correlation(image, truth, spacing)
    tell(1.0, "")
    return found


@dataclass
class Scans:
    """What was read: the reference, results from files by their names, and perhaps a coarse scan."""

    name: str
    reference: Volume
    results: dict[str, Volume]
    coarse: Volume | None
    notes: list[str]

    @property
    def tell_spacing(self) -> bool:
        """Whether the reference's voxel size is known."""
        return not any(SAID_IN_READING in text for text in self.reference.report.get("warnings", ()))


def _read(
    number: int,
    reference: Path,
    contenders: Sequence[ModelContender | FileContender],
    settings: Settings,
    coarse: Path | None,
) -> Scans:
    notes: list[str] = []

    def read(path: Path, what: str) -> Volume:
        volume = Volume.read(path, spacing=settings.spacing, series=settings.series, override=settings.override)
        warnings = volume.report.get("warnings", ())
        notes.extend(f"{what[0].upper()}{what[1:]} {path.name}: {text}" for text in warnings)
        return volume

    whole = read(reference, "reference")
    results = {c.name: read(c.files[number], c.name) for c in contenders if isinstance(c, FileContender)}
    return Scans(reference.name, whole, results, None if coarse is None else read(coarse, "coarse scan"), notes)


def _part_to_compare(scans: Scans, blanks: BlankRegion, wanted: tuple | None) -> Volume:
    """The part of the reference that all scans show, or what they show of the box (i, j, k) that is wanted."""
    grid = scans.reference.grid
    others = [volume.grid for volume in (*scans.results.values(), scans.coarse) if volume is not None]
    box = common_box(grid, others, blanks)
    if wanted:
        covered = common_box(grid, others, blanks, grid.shape)
        box = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(covered, wanted[::-1], strict=True))
    part = cropped(scans.reference, box)
    if part.grid.size != grid.size:
        scans.notes.append(
            f"Compared in a box of {' x '.join(map(str, part.grid.size))} voxels of the reference's "
            f"{' x '.join(map(str, grid.size))}: what all scans show, without blank regions, and its middle "
            "where it is large."
        )
    return part


@dataclass
class Enlarged:
    """What came of a coarse scan: results by method, the models' quality cards, the scan at the points of the truth.

    A simulated scan is in units of the window, and so are its results.
    """

    results: dict[str, Volume]
    cards: dict[str, dict]
    shown: np.ndarray | None
    simulated: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def _from_a_given_scan(
    scan: Volume, part: Volume, window: Window, models: Sequence[ModelContender], planes: str, tell: Report
) -> Enlarged:
    around = cropped(scan, box_around(scan.grid, part.grid, MARGIN)[::-1])
    made = _enlarged(around, models, planes, {"window": (window.lo, window.hi), "blank": "auto"}, tell)
    made.shown = window.to_unit(nearest_at_points(scan, part.grid))
    return made


def _from_a_simulated_scan(
    part: Volume, window: Window, models: Sequence[ModelContender], settings: Settings, tell: Report
) -> Enlarged:
    acquisition = settings.acquisition
    simulated = acquisition.degrade(window.to_unit(part.voxels), settings.seed)
    scan = Volume(simulated, part.grid.resampled(simulated.shape[::-1]))
    made = _enlarged(scan, models, acquisition.planes, {"window": (0.0, 1.0), "blank": "none"}, tell)
    made.simulated = made.shown = simulated
    for axis in acquisition.axes:
        made.shown = made.shown.repeat(2, axis)
    made.notes.insert(0, _simulation_in_words(acquisition))
    return made


def _enlarged(scan: Volume, models: Sequence[ModelContender], planes: str, options: dict, tell: Report) -> Enlarged:
    """Cubic interpolation and every model's result of a coarse scan."""
    factor = (models[0].model.spec.scale or (2.0,))[-1] if models else 2.0
    size = scaled_size(scan.grid.size, (factor, factor, factor if planes == "isotropic" else 1.0))
    cubic = enlarge(scan.voxels.astype(np.float32), size[::-1])
    made = Enlarged({CUBIC: Volume(cubic, scan.grid.resampled(size))}, {}, None)
    for count, contender in enumerate(models):
        tell(count / len(models), f"Computing {contender.name}")
        result = contender.super_resolve(scan, planes=planes, dtype="float32", **options)
        made.results[contender.name] = result
        made.cards[contender.name] = result.report["quality"]
        made.notes += [f"{contender.name}: {text}" for text in result.report["warnings"]]
    return made


def _image(name: str, volume: Volume, part: Volume, window: Window | None, notes: list[str]) -> np.ndarray:
    """A result at the points of the reference, in units of the window; None if it is in them already."""
    if not have_the_same_points(part.grid, volume.grid):
        notes.append(
            f"{name} has its voxels at other places than the reference and was interpolated to the reference's "
            "points (cubic B-splines), which blurs it a little."
        )
    values = at_points(volume, part.grid)
    image = np.clip(values, 0, 1) if window is None else window.to_unit(values)
    if np.ptp(image) == 0:
        notes.append(f"{name} has the same value everywhere.")
    return image


def _facts(scans: Scans, part: Volume, choice: WindowChoice, settings: Settings, is_simulated: bool) -> dict:
    whole, acquisition = scans.reference, settings.acquisition
    start = np.rint(np.linalg.solve(whole.grid.index_to_point, [*part.origin, 1.0])[:3]).astype(int)
    facts = {
        "reference": scans.name,
        "size": list(part.grid.size),
        "first_voxel": start.tolist(),
        "spacing_mm": list(part.spacing) if scans.tell_spacing else None,
        "window": [choice.window.lo, choice.window.hi],
        "window_reason": choice.reason,
    }
    if is_simulated:
        facts["simulated"] = {
            "protocol": acquisition.protocol,
            "blur_voxels": acquisition.blur,
            "noise_share": acquisition.noise,
            "seed": settings.seed,
        }
    return facts


def _simulation_in_words(acquisition: Acquisition) -> str:
    where = "within slices" if acquisition.planes == "axial" else "along all axes"
    return (
        f"The coarse scan was simulated ({acquisition.protocol}): the reference, blurred by {acquisition.blur:g} "
        f"voxels and averaged over two {where}, with noise of {100 * acquisition.noise:g} % of the window."
    )


def _difference_of_greys(coarse: np.ndarray, truth: np.ndarray) -> list[str]:
    """A note if the coarse scan's grey values are not those of the reference: then every measure suffers."""
    middle = (truth > 0.02) & (truth < 0.98) & (coarse > 0.02) & (coarse < 0.98)
    if np.count_nonzero(middle) < LEAST_FOR_GREYS or np.ptp(truth[middle]) == 0:
        return []
    offset = float(np.median(coarse[middle] - truth[middle]))
    spread = float(np.std(coarse[middle]) / np.std(truth[middle]))
    if abs(offset) <= SAME_GREY and 1 - SAME_CONTRAST < spread < 1 + SAME_CONTRAST:
        return []
    return [
        f"The coarse scan's grey values are not those of the reference: {100 * offset:+.0f} % of the window, "
        f"{100 * (spread - 1):+.0f} % of contrast. They were not changed; measures suffer from it. Scans of "
        "different devices must be brought to the same grey values first (cbct-superres prepare does)."
    ]


def rows_of(found: Study, measures: Sequence[Measure]) -> list[dict]:
    """Everything measured as a list of scan, method, measure, value, unit; for tables and files."""
    return [
        {
            "scan": found.name,
            "method": method,
            "measure": m.name,
            "label": m.label,
            "value": round(value, m.digits + 2) if np.isfinite(value) else None,
            "unit": m.unit,
        }
        for m in measures
        for method, value in found.values[m.name].items()
    ]
