"""What a scanner does to an object, effect by effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.artefacts import (
    Scanner,
    cupping,
    metal_streaks,
    mid_band_noise,
    rings,
    scan,
)
from noise_spectrum import mean_frequency, noise_spectrum

PERFECT = Scanner(noise=0.0, cupping=0.0, rings=0.0, streaks=0.0)


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((12, 48, 48)).astype(np.float32)


def test_a_flat_object_stays_flat_and_planes_decide_which_axes_are_halved():
    flat = np.full((8, 32, 36), 0.3, np.float32)
    assert scan(flat, PERFECT, 0, planes="axial").shape == (8, 16, 18)
    isotropic = scan(flat, PERFECT, 0)
    assert isotropic.shape == (4, 16, 18)
    assert isotropic == pytest.approx(0.3, abs=1e-5)


def test_it_is_sharper_along_its_axis_than_across():
    point = np.zeros((25, 25, 25), np.float32)
    point[12, 12, 12] = 1
    seen = scan(point, replace(PERFECT, factor=1), 0)
    widths = [np.sqrt((seen.sum(axis=tuple({0, 1, 2} - {a})) * (np.arange(25) - 12) ** 2).sum()) for a in range(3)]
    assert widths[1] == pytest.approx(np.sqrt(0.75**2 + 1.4**2 / 12), abs=0.1)
    assert widths[0] < 0.8 * widths[1] and widths[2] == pytest.approx(widths[1], rel=1e-3)


def test_a_shift_moves_what_is_seen(texture):
    whole = scan(texture, replace(PERFECT, factor=1), 0)
    moved = scan(texture, replace(PERFECT, factor=1, shift=(0.0, 0.0, 3.0)), 0)
    assert moved[:, 8:-8, 8:-12] == pytest.approx(whole[:, 8:-8, 11:-9], abs=1e-4)


def test_the_noise_is_as_strong_as_said_at_the_edge_stronger_in_the_middle_and_of_the_middle_band():
    noise = mid_band_noise((16, 128, 128), 0.02, seed=3)
    assert noise[:, :12, :12].std() == pytest.approx(0.02, rel=0.15)
    assert noise[:, 56:72, 56:72].std() == pytest.approx(0.03, rel=0.15)
    spectrum = noise_spectrum(noise)
    assert spectrum.value[0] < 0.1 * spectrum.value.max() and spectrum.value[-1] < 0.2 * spectrum.value.max()
    assert 0.4 < mean_frequency(spectrum) < 0.6
    assert np.array_equal(noise, mid_band_noise((16, 128, 128), 0.02, seed=3))
    assert not mid_band_noise((2, 16, 16), 0.0, seed=3).any()


def test_cupping_darkens_the_middle_and_rings_are_the_same_all_around():
    assert cupping((1, 65, 65), 0.04)[0, 32, 32] == pytest.approx(-0.04)
    assert cupping((1, 65, 65), 0.04)[0, 0, 0] == 0
    found = rings((1, 65, 65), 0.01, seed=1)[0]
    assert found[32, 32 + 20] == pytest.approx(found[32 + 20, 32]) == pytest.approx(found[32 - 20, 32])
    assert 0.005 < found.std() < 0.015


def test_two_pieces_of_metal_have_a_dark_band_between_them_and_one_slice_without_metal_has_none():
    metal = np.zeros((2, 80, 80), bool)
    metal[0, 36:44, 15:23] = metal[0, 36:44, 57:65] = True
    streaks = metal_streaks(metal, 0.2)
    between, beside = streaks[0, 36:44, 28:52].mean(), streaks[0, 5:15, 30:50].mean()
    assert between < -0.05 and abs(beside) < abs(between) / 3
    assert streaks[0].min() == pytest.approx(-0.2, abs=1e-4) and not streaks[1].any()


def test_both_scans_of_an_object_agree_where_it_has_no_detail(texture):
    smooth = np.broadcast_to(np.linspace(0.2, 0.8, 48, dtype=np.float32), (12, 48, 48))
    fine = scan(smooth, PERFECT.sharpest, 0, planes="axial")
    coarse = scan(smooth, PERFECT, 0, planes="axial")
    assert coarse[:, 4:-4, 4:-4] == pytest.approx(fine[:, ::2, ::2][:, 4:-4, 4:-4] + 0.3 / 47, abs=0.01)
