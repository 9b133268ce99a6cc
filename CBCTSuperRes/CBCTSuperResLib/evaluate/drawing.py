"""The pictures and curves of one study, as text that can stand in an HTML file: SVG, and PNG as data address."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from ..measure.edges import STEP, profiles_across, strongest_edges
from .study import Study

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: told apart by everybody
TRUTH_COLOR = "#555555"
WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 44
DETAIL = 96  # voxels of the reference along the edge of a detail
REACH = 0.2  # of the window: difference that is drawn in full color
OVERVIEW = 360  # pixels
PROFILE_REACH = 10.0  # voxels
LEAST_SPAN = 0.05
EDGES = 40  # strongest ones, of which the clearest is shown
LINE_COLOR, BOX_COLOR = (86, 180, 233), (230, 159, 0)
TRUTH, SCAN = "truth", "scan"
LEAST_DEPTH = 24  # slices from which on a plane across them is worth a picture


def png_address(picture: np.ndarray) -> str:
    """A grey (rows, columns) or color (rows, columns, RGB) picture of uint8 as address for `img`."""
    picture = picture[..., ::-1] if picture.ndim == 3 else picture
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode("ascii")


def grey_picture(image: np.ndarray) -> np.ndarray:
    """An image in [0, 1] as uint8."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def difference_picture(difference: np.ndarray, reach: float) -> np.ndarray:
    """White for none, red where there is too much, blue where too little; saturated from `reach` on."""
    t = np.clip(difference / reach, -1, 1)[..., None]
    red, blue = np.array([178, 24, 43.0]), np.array([33, 102, 172.0])
    return np.rint(255 + np.abs(t) * (np.where(t > 0, red, blue) - 255)).astype(np.uint8)


def with_box(picture: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    """A grey picture as RGB with the outline of a box of rows and columns."""
    rows, columns = box
    outlined = np.ascontiguousarray(np.repeat(picture[..., None], 3, axis=2))
    thickness = max(1, max(picture.shape) // 250)
    cv2.rectangle(outlined, (columns.start, rows.start), (columns.stop - 1, rows.stop - 1), BOX_COLOR, thickness)
    return outlined


def chart(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    x_label: str,
    y_label: str,
    *,
    colors: Mapping[str, str],
    y_range: tuple[float, float] | None = None,
    level: float | None = None,
    dashed: Sequence[str] = (),
) -> str:
    """Curves in a frame, as SVG.

    Parameters
    ----------
    curves : mapping of str to (x, y)
    colors : mapping of str to str
        One for each curve.
    y_range : (low, high), optional
        What the y axis spans; otherwise the values.
    level : float, optional
        Where to draw a thin horizontal line.
    dashed : sequence of str
        Curves that are drawn with gaps.
    """
    xs, ys = (np.concatenate([np.asarray(curve[n], float) for curve in curves.values()]) for n in (0, 1))
    x_range, y_range = _span(xs, 0.0), y_range or _span(ys[np.isfinite(ys)], 0.06)

    def place(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        across = LEFT + (np.asarray(x, float) - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT)
        up = TOP + (y_range[1] - np.asarray(y, float)) / (y_range[1] - y_range[0]) * (HEIGHT - TOP - BOTTOM)
        return across, np.clip(up, TOP - 2, HEIGHT - BOTTOM + 2)

    parts = [_frame(x_range, y_range, place, x_label, y_label)]
    if level is not None:
        (x0, x1), (y0, _) = place(np.array(x_range), np.array([level, level]))
        parts.append(f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y0:.1f}" class="level"/>')
    for name, (x, y) in curves.items():
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(*place(x, y), strict=True))
        gaps = ' stroke-dasharray="5 3"' if name in dashed else ""
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colors[name]}" stroke-width="2"{gaps}/>')
    items = (f'<span><i style="background:{colors[name]}"></i>{escape(name)}</span>' for name in curves)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} over {escape(x_label)}">'
        f'{"".join(parts)}</svg><div class="legend">{"".join(items)}</div>'
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within a range."""
    rough = (high - low) / about
    power = 10 ** np.floor(np.log10(rough))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
    first = int(np.ceil(low / step - 1e-9))
    return [n * step for n in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def _span(values: np.ndarray, margin: float) -> tuple[float, float]:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    more = margin * (high - low) if high > low else 0.5
    return low - more, high + more


def _frame(x_range, y_range, place, x_label: str, y_label: str) -> str:
    """Grid lines, numbers and the names of the axes."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}" class="frame"/>']
    for x in ticks(*x_range):
        across = float(place(x, y_range[0])[0])
        parts.append(f'<line x1="{across:.1f}" y1="{TOP}" x2="{across:.1f}" y2="{bottom}" class="grid"/>')
        parts.append(f'<text x="{across:.1f}" y="{bottom + 15}" text-anchor="middle">{x:.4g}</text>')
    for y in ticks(*y_range):
        up = float(place(x_range[0], y)[1])
        parts.append(f'<line x1="{LEFT}" y1="{up:.1f}" x2="{right}" y2="{up:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up + 4:.1f}" text-anchor="end">{y:.4g}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y_label)}</text>'
    )
    return "".join(parts)


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
    volumes = {} if study.scan is None else {SCAN: study.scan}
    volumes |= {**study.images, TRUTH: study.truth}
    size = f"{DETAIL} voxels" if study.spacing is None else f"{DETAIL * study.spacing[2]:.3g} mm"
    rows = []
    for axis, name in enumerate(("slice", "plane across the slices")):
        if axis == 1 and len(study.truth) < LEAST_DEPTH:
            break
        ratio = (1.0, 1.0)  # by which rows and columns are stretched to have the same scale
        if study.spacing is not None:
            steps = [step for n, step in enumerate(study.spacing) if n != axis]
            ratio = steps[0] / min(steps), steps[1] / min(steps)
        slices = {key: volume.take(study.truth.shape[axis] // 2, axis) for key, volume in volumes.items()}
        low, high = (float(value) for value in np.percentile(slices[TRUTH], (0.5, 99.5)))
        if high - low < LEAST_SPAN:
            low, high = 0.0, 1.0
        slices = {key: (image - low) / (high - low) for key, image in slices.items()}
        detail = liveliest(slices[TRUTH], DETAIL)
        shown = {key: image[detail] for key, image in slices.items()}

        overview = _overview(slices[TRUTH], detail, clearest_edge(study) if axis == 0 else None, ratio)
        details = [Picture(key, _enlarged(grey_picture(image), ratio)) for key, image in shown.items()]
        title = f"Middle {name}, and a detail of {size}; grey from {low:.2g} to {high:.2g} of the window"
        rows.append((title, [overview, *details]))

        differences = []
        for key, image in shown.items():
            picture = difference_picture((high - low) * (image - shown[TRUTH]), REACH)
            picture = Picture(f"{key} \u2212 truth", _enlarged(picture, ratio))
            differences.append(None if key in (TRUTH, SCAN) else picture)
        title = (
            f"Difference from the truth, {name}: red too bright, blue too dark, up to {100 * REACH:g} % of the window"
        )
        rows.append((title, [None, *differences]))
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
    quarter = lines[TRUTH].shape[1] // 4
    low, high = lines[TRUTH][:, :quarter], lines[TRUTH][:, -quarter:]
    best = int(np.argmax(high.mean(1) - low.mean(1) - 2 * (high.std(1) + low.std(1))))
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


def _enlarged(picture: np.ndarray, ratio: tuple[float, float]) -> str:
    """The address of a detail whose pixels are repeated, and square where voxels are not."""
    times = max(1, round(2 * DETAIL / picture.shape[1]))
    size = (round(picture.shape[1] * ratio[1] * times), round(picture.shape[0] * ratio[0] * times))
    return png_address(cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST))


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


def liveliest(image: np.ndarray, edge: int) -> tuple[slice, slice]:
    """The square of `edge` pixels, or what the image has of it, with the strongest gradients; begins on even pixels."""
    strength = sum(np.square(g) for g in np.gradient(image.astype(np.float64)))
    total = np.pad(strength.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows, columns = (min(edge, n - n % 2) for n in image.shape)
    sums = total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]
    top, left = np.unravel_index(np.argmax(sums[::2, ::2]), sums[::2, ::2].shape)
    return slice(2 * top, 2 * top + rows), slice(2 * left, 2 * left + columns)
