"""Windows of the two scans, and what was cut off by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from ...grey.choice import WindowChoice, choose_window
from ...grey.window import Window
from .images import Scan, block_means
from .options import PrepareOptions

_TOLERANCE = 0.02  # of the window: below it two scans count as of one grey scale
_SHARE = 0.1  # of the voxels, those farthest from the line, that it disregards
UINT16 = 65535


@dataclass(frozen=True)
class Line:
    """LR grey value = gain * HR grey value + offset, as far as both show the same."""

    gain: float
    offset: float
    correlation: float


def fit_line(hr: np.ndarray, lr: np.ndarray, measured: np.ndarray) -> Line:
    """The line through the grey values of two aligned images of one grid, without the tenth that fits worst.

    Both are averaged over blocks first: their different sharpness would tilt the line. The line is that of the first
    principal axis of the standardised values, so that noise in either does not.

    Raises
    ------
    InputError
        If one of them is constant.
    """
    steps = [max(1, min(4, n // 6)) for n in hr.shape[::-1]]
    blocks = [block_means(part, steps) for part in (hr, lr, measured)]
    inside = blocks[2] > 0.999
    x, y = blocks[0][inside].astype(np.float64), blocks[1][inside].astype(np.float64)
    if x.size < 8 or min(np.ptp(x), np.ptp(y)) == 0:
        raise InputError("The region that both scans show is of one grey value.", "Check that the scans were read.")
    keep = np.ones(x.size, bool)
    for _ in range(3):
        gain = np.std(y[keep]) / np.std(x[keep])
        offset = np.mean(y[keep]) - gain * np.mean(x[keep])
        residual = np.abs(y - gain * x - offset)
        keep = residual <= np.quantile(residual, 1 - _SHARE)
    return Line(float(gain), float(offset), float(np.corrcoef(x, y)[0, 1]))


def window_of_hr(hr: Scan, options: PrepareOptions) -> WindowChoice:
    """The window of the HR scan."""
    return choose_window(hr.volume.voxels, hr.blank, "auto" if options.window is None else options.window, None)


def window_of_lr(window: Window, line: Line, options: PrepareOptions) -> tuple[Window, str]:
    """The window of the LR scan, given the HR scan's, and a sentence for the user."""
    matched = Window(*(line.gain * bound + line.offset for bound in (window.lo, window.hi)), source="matched")
    apart = max(abs(matched.lo - window.lo), abs(matched.hi - window.hi)) / window.width
    if options.intensity == "same" or (options.intensity == "auto" and apart <= _TOLERANCE):
        return window, "Both scans have the same window."
    return matched, (
        f"The LR scan's grey values are {line.gain:.4g} times the HR scan's {line.offset:+.4g}, "
        f"so its window is [{matched.lo:.5g}, {matched.hi:.5g}]."
    )


def to_uint16(values: np.ndarray, window: Window) -> np.ndarray:
    """Grey values with 0 and 65535 at the window's bounds."""
    return np.rint(window.to_unit(values) * np.float32(UINT16)).astype(np.uint16)
