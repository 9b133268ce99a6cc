"""Protocol PZ: its scans, the methods, and what is found of a lattice."""

from __future__ import annotations

import numpy as np
import pytest
import stub_networks
from CBCTSuperResLib.acquisition.phantom import FINE_BLUR, jaw_phantom
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, gaussian_blur

from grading.cases import Case
from grading.thick_slices import (
    ALL_ALIKE,
    BASELINES,
    NOISE,
    OTHERS,
    PZ,
    any_size,
    as_table,
    gains,
    grade_case,
    grade_flat,
    lattice_power,
    three_planes,
)


@pytest.fixture(scope="module")
def jaw():
    field = gaussian_blur(jaw_phantom((30, 40, 44), 0.2, 903), FINE_BLUR, ALL_AXES)
    return Case("a jaw", np.clip(0.1 + 0.7 * field, 0, 1), (0.2, 0.2, 0.2))


def test_slices_of_pz_are_means_of_fine_ones_with_noise(jaw):
    for coarser, count in zip(PZ, (3, 5), strict=True):
        means = jaw.truth.reshape(30 // count, count, 40, 44).mean(1)
        noise = coarser.scan(jaw.truth, seed=1) - means
        inside = (means > 4 * NOISE) & (means < 1 - 4 * NOISE)
        assert noise.shape == means.shape and noise[inside].std() == pytest.approx(NOISE, rel=0.05)


def test_a_scan_covers_whole_fine_voxels_whatever_the_factor(jaw):
    for coarser in (*PZ, ALL_ALIKE, *OTHERS):
        part = coarser.part(jaw.truth)
        scan = coarser.scan(part, seed=1)
        factors = [fine / coarse for fine, coarse in zip(part.shape, scan.shape, strict=True)]
        assert np.allclose(factors, coarser.factors, rtol=0.05), coarser
        for name, method in BASELINES.items():
            found = method(scan, coarser, part.shape)
            assert found.shape == part.shape and np.corrcoef(found.ravel(), part.ravel())[0, 1] > 0.8, (name, coarser)


def test_a_network_that_interpolates_is_worth_interpolation_and_the_truth_is_worth_more(jaw, monkeypatch):
    stub_networks.register(monkeypatch)
    model = stub_networks.stub_model(stub_networks.AnyScale(linear=False), window=(0.0, 1.0))
    slices = stub_networks.stub_model(stub_networks.CubicTwice(), window=(0.0, 1.0))
    methods = {
        **BASELINES,
        "light, three planes": three_planes(slices),
        "cubic network": any_size(model),
        "truth": lambda scan, coarser, shape: jaw.truth + 1e-3,
    }
    rows = grade_case(jaw, methods, ALL_ALIKE)
    (psnr,) = (row for row in rows if row["metric"] == "psnr")
    assert psnr["cubic network"] == pytest.approx(psnr["cubic"], abs=0.02)
    assert psnr["light, three planes"] == pytest.approx(psnr["cubic"], abs=0.3)
    ((_, protocol, gain),) = gains(rows, "truth")
    assert protocol == "P3" and gain > 10
    assert "a jaw" in as_table(rows, "psnr") and {"energy_across", "energy_within", "fsc"} <= {
        r["metric"] for r in rows
    }
    few = Case("three slices", jaw.truth[:9])
    assert grade_case(few, methods, PZ[0]) == []


def test_a_pattern_that_repeats_in_every_voxel_is_seen_in_noise(jaw):
    rng = np.random.default_rng(0)
    noise = 0.02 * rng.standard_normal((96, 48, 48)).astype(np.float32)
    lattice = 0.002 * np.cos(2 * np.pi * np.arange(96) / 3).astype(np.float32)[:, None, None]
    assert lattice_power(noise, (3, 1, 1)) < 10 < lattice_power(noise + lattice, (3, 1, 1))
    assert lattice_power(noise + lattice, (1, 1, 1)) < 10, "a wave of three voxels is no pattern of theirs"
    for axis in range(3):
        every_second = 0.001 * (-1.0) ** np.arange(noise.shape[axis])
        shape = [-1 if n == axis else 1 for n in range(3)]
        assert lattice_power(noise + every_second.reshape(shape), (1, 1, 1)) > 10, axis
    rows = grade_flat(BASELINES, PZ[0])
    assert [row["metric"] for row in rows] == ["noise_left", "voxels_beyond", "lattice"]
    assert rows[0]["linear"] < rows[0]["cubic B-spline"] < 2.5 and rows[1]["cubic"] == 0
