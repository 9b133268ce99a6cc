"""The pictures and curves of one study, ready for an HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..quality.measures import STEP, profiles_across, strongest_edges
from .drawing import COLORS, TRUTH_COLOR, chart, difference_picture, grey_picture, png_address, with_box
from .gallery import liveliest
from .study import Study

DETAIL = 96  # voxels of the reference along the edge of a detail
REACH = 0.2  # of the window: difference that is drawn in full color
OVERVIEW = 360  # pixels
PROFILE_REACH = 10.0  # voxels
LEAST_SPAN = 0.05
EDGES = 40  # strongest ones, of which the clearest is shown
LINE_COLOR = (86, 180, 233)
TRUTH, SCAN = "truth", "scan"
LEAST_DEPTH = 24  # slices from which on a plane across them is worth a picture


@dataclass(frozen=True)
class Picture:
    """One picture of a row.

    Attributes
    ----------
    caption : str
    address : str
        For `img`.
    """

    caption: str
    address: str


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """A color for each method, grey for the truth."""
    return {TRUTH: TRUTH_COLOR, **{name: COLORS[n % len(COLORS)] for n, name in enumerate(names)}}


def picture_rows(study: Study) -> list[tuple[str, list[Picture | None]]]:
    """Rows of pictures with titles; in each column one method, None where it has nothing to show.

    Where the detail is, before, after and truth; below them the differences from the truth; in one or two planes.
    """
    planes = [("slice", 0)]
    if len(study.truth) >= LEAST_DEPTH:
        planes.append(("plane across the slices", 1))
    rows = []
    for name, axis in planes:
        place = study.truth.shape[axis] // 2
        slices = {key: volume.take(place, axis) for key, volume in _volumes(study).items()}
        ratio = _ratio(study, axis)
        slices, low, high = _in_range(slices)
        detail = liveliest(slices[TRUTH], DETAIL)
        overview = _overview(slices[TRUTH], detail, clearest_edge(study) if axis == 0 else None, ratio)
        shown = {key: image[detail] for key, image in slices.items()}
        size = f"{DETAIL} voxels" if study.spacing is None else f"{DETAIL * study.spacing[2]:.3g} mm"
        rows.append(
            (
                f"Middle {name}, and a detail of {size}; grey from {low:.2g} to {high:.2g} of the window",
                [overview, *_details(shown, ratio)],
            )
        )
        title = (
            f"Difference from the truth, {name}: red too bright, blue too dark, up to {100 * REACH:g} % of the window"
        )
        rows.append((title, [None, *_differences(shown, ratio, high - low)]))
    return rows


@dataclass(frozen=True)
class Edge:
    """The clearest edge of the middle slice.

    Attributes
    ----------
    place, normal : ndarray, (row, column)
    lines : dict of str to ndarray
        Grey values across it, of the truth and of every method.
    """

    place: np.ndarray
    normal: np.ndarray
    lines: dict[str, np.ndarray]


def clearest_edge(study: Study) -> Edge | None:
    """The strong edge of the middle slice that is most like one step between two plateaus; None if there is none."""
    middle = len(study.truth) // 2
    truth = np.ascontiguousarray(study.truth[middle], np.float32)
    places, normals = strongest_edges(truth, np.ones(truth.shape, bool), EDGES)
    if not len(places):
        return None
    images = {TRUTH: truth, **{name: np.ascontiguousarray(v[middle]) for name, v in study.images.items()}}
    lines = {name: profiles_across(image, places, normals, reach=PROFILE_REACH) for name, image in images.items()}
    best = int(np.argmax([_clarity(line) for line in lines[TRUTH]]))
    return Edge(places[best], normals[best], {name: line[best] for name, line in lines.items()})


def fsc_chart(study: Study) -> str:
    """Fourier shell correlation of all methods."""
    per_mm = 1.0 if study.spacing is None else 0.5 / max(study.spacing)
    curves = {name: (curve.frequency * per_mm, curve.value) for name, curve in study.curves.items()}
    label = "frequency, share of the highest" if study.spacing is None else "frequency, line pairs per mm"
    return chart(
        curves, label, "correlation with the truth", colors=colors_of(list(curves)), y_range=(-0.05, 1.05), level=0.5
    )


def profile_chart(study: Study) -> str:
    """Grey values along a line across the clearest edge of the middle slice; "" if there is none."""
    edge = clearest_edge(study)
    if edge is None:
        return ""
    along = np.arange(len(edge.lines[TRUTH])) * STEP - PROFILE_REACH
    unit = 1.0 if study.spacing is None else study.spacing[2]
    label = "voxels across the edge" if study.spacing is None else "mm across the edge"
    curves = {name: (along * unit, line) for name, line in edge.lines.items()}
    return chart(curves, label, "grey value, share of the window", colors=colors_of(list(study.images)), dashed=[TRUTH])


def _volumes(study: Study) -> dict[str, np.ndarray]:
    scan = {} if study.scan is None else {SCAN: study.scan}
    return {**scan, **study.images, TRUTH: study.truth}


def _ratio(study: Study, axis: int) -> tuple[float, float]:
    """How much rows and columns must be stretched to have the same scale."""
    if study.spacing is None:
        return 1.0, 1.0
    kept = [step for n, step in enumerate(study.spacing) if n != axis]
    return kept[0] / min(kept), kept[1] / min(kept)


def _clarity(line: np.ndarray) -> float:
    """High for one clear step between two plateaus."""
    quarter = len(line) // 4
    step = line[-quarter:].mean() - line[:quarter].mean()
    return float(step - 2 * (line[-quarter:].std() + line[:quarter].std()))


def _stretched(picture: np.ndarray, ratio: tuple[float, float], least: int) -> np.ndarray:
    """Whole pixels, repeated until the picture is `least` wide, and square where voxels are not."""
    times = max(1, round(least / picture.shape[1]))
    size = (round(picture.shape[1] * ratio[1] * times), round(picture.shape[0] * ratio[0] * times))
    return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)


def _overview(image: np.ndarray, detail: tuple[slice, slice], edge: Edge | None, ratio: tuple[float, float]) -> Picture:
    marked = with_box(grey_picture(image), detail)
    if edge is not None:
        ends = [edge.place + side * PROFILE_REACH * edge.normal for side in (-1, 1)]
        points = [tuple(int(round(c)) for c in end[::-1]) for end in ends]
        cv2.line(marked, *points, LINE_COLOR, max(1, max(image.shape) // 200))
    shrink = min(1.0, OVERVIEW / max(marked.shape[0] * ratio[0], marked.shape[1] * ratio[1]))
    size = [max(1, round(n * r * shrink)) for n, r in zip(marked.shape[:2], ratio, strict=True)]
    words = "where it is" if edge is None else "where detail (box) and edge (line) are"
    return Picture(words, png_address(cv2.resize(marked, size[::-1], interpolation=cv2.INTER_AREA)))


def _details(shown: dict[str, np.ndarray], ratio: tuple[float, float]) -> list[Picture]:
    return [
        Picture(name, png_address(_stretched(grey_picture(image), ratio, 2 * DETAIL))) for name, image in shown.items()
    ]


def _in_range(slices: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float, float]:
    """The same slices with what the truth spans, but for a few voxels, as 0 to 1; and that span."""
    low, high = (float(value) for value in np.percentile(slices[TRUTH], (0.5, 99.5)))
    if high - low < LEAST_SPAN:
        low, high = 0.0, 1.0
    return {name: (image - low) / (high - low) for name, image in slices.items()}, low, high


def _differences(shown: dict[str, np.ndarray], ratio: tuple[float, float], span: float) -> list[Picture | None]:
    """In the order of the details, `span` wide in the window; the scan and the truth have none."""
    return [
        None if name in (TRUTH, SCAN) else _difference(name, span * (image - shown[TRUTH]), ratio)
        for name, image in shown.items()
    ]


def _difference(name: str, difference: np.ndarray, ratio: tuple[float, float]) -> Picture:
    picture = _stretched(difference_picture(difference, REACH), ratio, 2 * DETAIL)
    return Picture(f"{name} \u2212 truth", png_address(picture))
