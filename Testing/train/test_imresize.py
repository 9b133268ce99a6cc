"""The antialiased bicubic reduction: the documented values, and that a part gives the pixels of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.train.data.degradation import imresize, mirrored, reach
from hypothesis import given
from hypothesis import strategies as st


def documented_numbers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """`unit` of the specification, section 9.1: numbers in [0, 1) without a random generator."""
    x = (np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed * 0x9E3779B9 % 2**32)) % 2**32
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor) % 2**32
    return (x / 2**32).reshape(shape)


@pytest.mark.parametrize(
    ("scale", "shape", "mean", "sd", "first", "middle", "last"),
    [
        (1 / 2, (12, 10), 0.49298601, 0.10699444, 0.32456926, 0.47241586, 0.577057),
        (1 / 4, (6, 5), 0.49298601, 0.0556911, 0.39123973, 0.51609904, 0.55054164),
    ],
)
def test_the_documented_values_come_out(scale, shape, mean, sd, first, middle, last):
    small = imresize(documented_numbers((24, 20), 17).astype(np.float32), scale)
    assert small.shape == shape and small.dtype == np.float32
    flat = small.ravel().astype(np.float64)
    found = flat.mean(), flat.std(), flat[0], flat[flat.size // 2], flat[-1]
    assert found == pytest.approx((mean, sd, first, middle, last), abs=5e-7)


def test_a_step_overshoots_as_the_kernel_does_and_is_not_clipped():
    step = np.repeat([0.0, 1.0], 20) * np.ones((4, 1))
    small = imresize(step, 1 / 2)
    assert small.min() == pytest.approx(-0.01171875) and small.max() == pytest.approx(1.01171875)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 2, 4])
def test_a_constant_stays_and_channels_do_not_mix(scale):
    image = np.stack([np.full((12, 24), level) for level in (0.25, 0.5, 1.0)])
    resized = imresize(image, scale)
    assert resized.shape == (3, 12 * scale, 24 * scale)
    assert np.allclose(resized, image[:, :1, :1], atol=1e-15)


def test_it_is_the_product_with_a_matrix_for_each_axis():
    image = np.random.default_rng(0).random((14, 18))
    left = np.stack([imresize(np.outer(e, np.ones(18)), 1 / 2)[:, 0] for e in np.eye(14)], 1)
    right = np.stack([imresize(np.outer(np.ones(14), e), 1 / 2)[0] for e in np.eye(18)], 1)
    assert np.allclose(left.sum(1), 1) and np.allclose(imresize(image, 1 / 2), left @ image @ right.T)


@given(
    factor=st.integers(1, 4),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    place=st.tuples(*[st.floats(0, 0.99)] * 2),
)
def test_a_part_with_its_margin_gives_the_pixels_of_the_whole_to_the_last_bit(factor, rows, columns, place):
    image = np.random.default_rng(rows * 10 + columns).random((rows * factor, columns * factor), np.float32)
    whole, edge = imresize(image, 1 / factor), reach(factor)
    top, left = int(place[0] * rows), int(place[1] * columns)
    part = image.take(mirrored(np.arange(top * factor - edge, rows * factor + edge), image.shape[0]), 0)
    part = part.take(mirrored(np.arange(left * factor - edge, columns * factor + edge), image.shape[1]), 1)
    inner = slice(edge // factor, -edge // factor)
    assert np.array_equal(imresize(part, 1 / factor)[inner, inner], whole[top:, left:])


def test_mirroring_repeats_the_edge_pixel_and_goes_on_for_ever():
    assert mirrored(np.arange(-7, 9), 3).tolist() == [0, 0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1, 2]
