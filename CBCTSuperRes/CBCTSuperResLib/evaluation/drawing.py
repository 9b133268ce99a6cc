"""Curves and pictures as text that can stand in an HTML file: SVG, and PNG as data address. No plotting library."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: told apart by everybody
TRUTH_COLOR = "#555555"
WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 44


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


def with_box(picture: np.ndarray, box: Sequence[slice], color: Sequence[int] = (230, 159, 0)) -> np.ndarray:
    """A grey picture as RGB with the outline of a box of rows and columns."""
    rows, columns = box
    outlined = np.ascontiguousarray(np.repeat(picture[..., None], 3, axis=2))
    thickness = max(1, max(picture.shape) // 250)
    cv2.rectangle(outlined, (columns.start, rows.start), (columns.stop - 1, rows.stop - 1), color, thickness)
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
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} over {escape(x_label)}">'
        f"{''.join(parts)}</svg>{_legend(curves, colors)}"
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


def _legend(names: Sequence[str], colors: Mapping[str, str]) -> str:
    items = (f'<span><i style="background:{colors[name]}"></i>{escape(name)}</span>' for name in names)
    return f'<div class="legend">{"".join(items)}</div>'
