"""Cubic interpolation: the same as OpenCV's and torch's, in any dimension and for any positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from CBCTSuperResLib.apply.tiles import Axis
from CBCTSuperResLib.core.interpolate import cubic, cubic_weights, enlarge_slice
from hypothesis import given
from hypothesis import strategies as st

SIZES = [((13, 17), (26, 34)), ((13, 17), (39, 68)), ((20, 11), (66, 36)), ((9, 9), (9, 10)), ((3, 2), (6, 4))]


def positions(shape, size):
    return [Axis(n, 0, n, m).positions(slice(0, m)) for n, m in zip(shape, size, strict=True)]


@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_it_equals_opencv_and_torch(shape, size):
    image = np.random.default_rng(0).random(shape, np.float32)
    found = cubic(image, positions(shape, size))
    tensor = torch.from_numpy(image)[None, None].double()
    by_torch = torch.nn.functional.interpolate(tensor, size=size, mode="bicubic")[0, 0].numpy()
    np.testing.assert_allclose(found, by_torch, atol=2e-6)
    np.testing.assert_allclose(enlarge_slice(image, size), found, atol=2e-5)


@given(st.integers(1, 30), st.lists(st.floats(-3, 32, width=32), min_size=1, max_size=8))
def test_weights_of_each_position_sum_to_one(length, places):
    weights = cubic_weights(length, np.array(places))
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.floats(-1e5, 1e5), st.sampled_from([1.5, 2, 3.3]))
def test_a_constant_block_stays_constant(nk, nj, ni, value, scale):
    shape = (nk, nj, ni)
    block = cubic(np.full(shape, value), positions(shape, [max(1, round(n * scale)) for n in shape]))
    np.testing.assert_allclose(block, value, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("scale", [2, 2.5, 3.3])
def test_a_ramp_stays_within_a_twentieth_of_its_step(scale):
    """Keys' kernel is exact for ramps only with a = -0.5; with OpenCV's and torch's a = -0.75 it is off by 0.047."""
    (places,) = positions((40,), (int(40 * scale),))
    inner = (places > 2) & (places < 37)
    error = np.abs(cubic(np.arange(40.0), [places]) - places)[inner]
    assert 0.03 < error.max() < 0.05


def test_grid_points_are_reproduced_and_an_axis_without_positions_is_kept():
    block = np.random.default_rng(1).random((4, 5, 6))
    np.testing.assert_allclose(cubic(block, [np.arange(4.0), None, np.array([2.0, 0.0])]), block[:, :, [2, 0]])


def test_each_axis_is_interpolated_by_itself():
    block = np.random.default_rng(2).random((5, 6, 7))
    at = positions(block.shape, (10, 13, 7))
    expected = block
    for axis, places in enumerate(at):
        expected = np.moveaxis(np.tensordot(cubic_weights(block.shape[axis], places), expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(cubic(block, at), expected, atol=1e-12)
    assert cubic(block.astype(np.float32), at).dtype == np.float32
