"""Measures of how close an image is to the truth. Images are float arrays with a stated range; numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..acquisition.scanner import gaussian_blur


def mse(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean squared difference, over the pixels of `mask` where one is given (it may lack leading axes)."""
    error = np.subtract(image, truth, dtype=np.float64) ** 2
    if mask is None:
        return float(error.mean())
    return float(error[np.broadcast_to(mask, error.shape)].mean())


def psnr(image: np.ndarray, truth: np.ndarray, data_range: float = 1.0, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal images.

    Parameters
    ----------
    data_range : float
        Width of the window that both images are given in, never the extremes of one image.
    """
    error = mse(image, truth, mask)
    return float("inf") if error == 0 else 10 * float(np.log10(data_range**2 / error))


def ssim_map(
    image: np.ndarray, truth: np.ndarray, data_range: float = 1.0, axes: Sequence[int] = (-2, -1)
) -> np.ndarray:
    """Structural similarity of each pixel (Wang et al., 2004): Gaussian weights of 1.5 pixels, K1 0.01, K2 0.03."""
    axes = [a % image.ndim for a in axes]
    x, y = (np.asarray(a, np.float64) for a in (image, truth))

    def local(a: np.ndarray) -> np.ndarray:
        return gaussian_blur(a, 1.5, axes, truncate=3.5)

    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return numerator / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def ssim(
    image: np.ndarray,
    truth: np.ndarray,
    data_range: float = 1.0,
    axes: Sequence[int] = (-2, -1),
    mask: np.ndarray | None = None,
) -> float:
    """Mean structural similarity, slice by slice by default; `axes` (-3, -2, -1) is the 3-D form.

    The five pixels next to a border, whose neighbourhood is incomplete, do not count.
    """
    inner = [slice(None)] * image.ndim
    for axis in axes:
        inner[axis] = slice(5, -5)
    similarity = ssim_map(image, truth, data_range, axes)[tuple(inner)]
    if mask is None:
        return float(similarity.mean())
    return float(similarity[np.broadcast_to(mask, image.shape)[tuple(inner)]].mean())


def gradient_energy(image: np.ndarray, spacing: Sequence[float] | None = None) -> tuple[float, ...]:
    """Mean squared difference of neighbours along each axis, divided by the squared spacing (same order) if given."""
    steps = (1.0,) * image.ndim if spacing is None else spacing
    return tuple(
        float(np.mean(np.square(np.diff(image, axis=axis), dtype=np.float64))) / step**2
        for axis, step in enumerate(steps)
    )


def gradient_correlation(image: np.ndarray, truth: np.ndarray) -> float:
    """Pearson correlation of the gradient magnitudes of two images; 0 if one of them is flat."""
    a, b = (np.sqrt(sum(g.astype(np.float64) ** 2 for g in np.gradient(i))).ravel() for i in (image, truth))
    a, b = a - a.mean(), b - b.mean()
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length > 0 else 0.0


def gradient_magnitude(image: np.ndarray) -> np.ndarray:
    """Length of the central difference in the last two axes, without the factor 1/2; one pixel less on every side.

    The gradient map that UNetSPSR learns from (Ma et al., SPSR, CVPR 2020, equation 5), where it needs no border.
    """
    image = np.asarray(image, np.float64)
    down = image[..., 2:, 1:-1] - image[..., :-2, 1:-1]
    right = image[..., 1:-1, 2:] - image[..., 1:-1, :-2]
    return np.hypot(down, right)


def gradient_error(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference of two images' gradient maps, in units of the images: 0 for equal edges."""
    return float(np.abs(gradient_magnitude(image) - gradient_magnitude(truth)).mean())


def psnr_8bit(image: np.ndarray, truth: np.ndarray, border: int = 0) -> float:
    """PSNR as SPSR's and UNetSPSR's published training code states it, for comparison with figures from there.

    Both images, in [0, 1], are clipped and rounded to 8 bits, `border` pixels (the scale) are left out on every side of
    the last two axes, and all channels count together: 20 log10(255 / RMSE). Decisions are made on `psnr`.
    """
    inner = (..., slice(border, -border or None), slice(border, -border or None))
    rounded = [np.rint(np.clip(np.asarray(a, np.float64), 0, 1) * 255)[inner] for a in (image, truth)]
    return psnr(*rounded, data_range=255.0)
