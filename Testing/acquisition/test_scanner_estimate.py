"""What is estimated from scans whose blur and noise are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.estimate import estimate
from CBCTSuperResLib.acquisition.phantom import FINE_BLUR, jaw_phantom
from CBCTSuperResLib.acquisition.scan_blocks import ScanBlocks
from CBCTSuperResLib.acquisition.scanner import (
    ALL_AXES,
    IN_PLANE,
    Acquisition,
    block_mean,
    correlate_slices,
    correlated_noise,
    gaussian_blur,
)
from CBCTSuperResLib.io.volume import Volume

SPACING = (0.2, 0.2, 0.1)
FWHM = 2.3548


@pytest.fixture(scope="module")
def fine() -> np.ndarray:
    """A jaw with voxels of 0.1 mm, in units of the window."""
    return gaussian_blur(jaw_phantom((72, 192, 192), 0.1, 901), FINE_BLUR, ALL_AXES)


@pytest.fixture(scope="module")
def scan(fine) -> np.ndarray:
    return Acquisition(blur=1.2, noise=0.02).degrade(fine, 3, clip=False)


def test_blur_is_found_from_sharp_to_soft_and_with_noise(fine):
    errors = []
    for blur in (0.4, 0.85, 1.4, 2.0):
        for noise in (0.0, 0.03):
            found = estimate(Acquisition(blur=blur, noise=noise).degrade(fine, 1, clip=False), SPACING, (0, 1))
            assert found.in_plane_is_sure, (blur, noise, found)
            errors += [2 * axis.sd - blur for axis in found.blur[1:]]
    assert np.median(np.abs(errors)) < 0.08  # fine pixels
    assert np.max(np.abs(errors)) < 0.25


def test_each_axis_has_its_own_blur(fine):
    found = estimate(block_mean(gaussian_blur(fine, (1.0, 1.8), IN_PLANE), IN_PLANE), SPACING, (0, 1))
    k, j, i = (axis.sd for axis in found.blur)
    assert k < 0.2 and j == pytest.approx(0.5, abs=0.1) and i == pytest.approx(0.9, abs=0.1)
    widths = [width for width, _ in found.fwhm_mm()]
    assert widths[0] == pytest.approx(FWHM * i * 0.2) and widths[2] == pytest.approx(FWHM * k * 0.1)


def test_noise_and_what_neighbours_share_of_it_are_found(fine):
    clean = Acquisition(blur=1.2, noise=0).degrade(fine, clip=False)
    for smooth, across in ((0.0, 0.0), (0.6, 0.0), (0.6, 0.7)):
        noise = correlate_slices(correlated_noise(clean.shape, 0.02, smooth, IN_PLANE, 5), across)
        found = estimate(clean + noise, SPACING, (0, 1)).noise
        true = [np.mean(noise * noise), np.mean(noise[..., 1:] * noise[..., :-1]), np.mean(noise[1:] * noise[:-1])]
        assert found.sd == pytest.approx(0.02, rel=0.05), (smooth, across)
        assert found.in_plane == pytest.approx(true[1] / true[0], abs=0.1), (smooth, across)
        assert found.across == pytest.approx(true[2] / true[0], abs=0.1), (smooth, across)


def test_noise_that_a_file_cut_off_does_not_count(fine):
    unit = np.clip(fine, 0, 1)  # air at 0, where half of the noise is cut off
    cut = Acquisition(blur=1.2, noise=0.02).degrade(unit, 3)
    found = estimate(cut, SPACING, (0, 1)).noise
    assert np.mean(cut == 0) > 0.05 and found.sd == pytest.approx(0.02, rel=0.1)


def test_where_all_noise_is_cut_off_what_is_left_of_it_tells_its_strength():
    for level in (0.0, 0.03):  # of which a file has cut off half, or some
        for smooth, across in ((0.0, 0.0), (0.7, 0.6)):
            noise = correlate_slices(correlated_noise((20, 96, 96), 0.05, smooth, IN_PLANE, 3), across)
            found = estimate(np.clip(level + noise, 0, 1), SPACING, (0, 1)).noise
            assert found.sd == pytest.approx(0.05, rel=0.1) and found.error < 0.08 * found.sd, (level, smooth)
            assert abs(found.across - across) < 0.2 and (found.in_plane > 0.3) is (smooth > 0)
    assert estimate(np.zeros((20, 96, 96), np.float32), SPACING, (0, 1)).noise is None


def test_grey_values_may_be_of_any_gain_offset_and_type(scan):
    unit = estimate(scan, SPACING, (0, 1))
    grey = estimate(np.rint(26000 + 20000 * scan).astype(np.uint16), SPACING, (26000, 46000))
    inverted = estimate((1000 - 1000 * scan).astype(np.float64), SPACING, (0, 1000))
    for other, gain in ((grey, 20000), (inverted, 1000)):
        assert [a.sd for a in other.blur] == pytest.approx([a.sd for a in unit.blur], abs=0.02)
        assert other.noise.sd == pytest.approx(gain * unit.noise.sd, rel=0.02)


def test_a_large_scan_is_looked_at_in_as_few_voxels_as_a_small_one(scan):
    large = np.pad(scan, ((64, 64), (96, 96), (96, 96)), mode="symmetric")
    found = estimate(large, SPACING, (0, 1))
    assert found.voxels_read < 4e6
    assert found.blur[2].sd == pytest.approx(0.6, abs=0.1)


def test_blank_voxels_do_not_count(scan):
    blank = np.hypot(*np.ogrid[-48:48, -48:48]) > 40
    cut = np.where(blank, np.float32(-1), scan)
    found = estimate(cut, SPACING, (0, 1), lambda k: blank)
    assert found.blur[1].sd == pytest.approx(0.6, abs=0.1)
    everything = estimate(cut, SPACING, (0, 1), lambda k: np.ones_like(blank))
    assert everything.noise is None and all(axis.sd is None for axis in everything.blur)


def test_without_edges_the_blur_is_unknown_and_the_noise_is_not():
    flat = 0.3 + correlated_noise((40, 80, 80), 0.02, 0.0, IN_PLANE, 1)
    found = estimate(flat, SPACING, (0, 1))
    assert [axis.sd for axis in found.blur] == [None] * 3 and found.finest_spacing_mm is None
    assert "too few edges" in found.sentences(1.0)[0]
    assert found.noise.sd == pytest.approx(0.02, rel=0.1)
    constant = estimate(np.zeros((40, 80, 80), np.int16), SPACING, (0, 1))
    assert constant.noise is None and "no flat tissue" in " ".join(constant.sentences(1.0))


def test_edges_of_metal_do_not_count():
    metal = np.full((60, 90, 90), 0.3, np.float32)
    metal[20:40, 30:60, 30:60] = 6
    metal = gaussian_blur(metal, 0.5, ALL_AXES) + correlated_noise(metal.shape, 0.02, 0.0, IN_PLANE, 1)
    assert all(axis.sd is None for axis in estimate(metal, SPACING, (0, 1)).blur)
    assert estimate(metal, SPACING, (0, 6)).blur[1].edges > 20  # the same edges, if they were those of tissue


def test_one_slice_a_few_slices_and_a_scan_that_is_too_small(scan):
    one = estimate(scan[36:37], SPACING, (0, 1))
    assert one.blur[0].doubt == "a single slice" and one.noise.across == 0
    few = estimate(scan[34:40], SPACING, (0, 1))
    assert few.blur[0].doubt == "too few slices" and few.blur[1].sd == pytest.approx(0.6, abs=0.15)
    tiny = estimate(scan[:4, :10, :10], SPACING, (0, 1))
    assert all(axis.sd is None for axis in tiny.blur) and tiny.noise is None


def test_a_kernel_that_sharpened_the_scan_is_recognised(scan):
    assert not estimate(scan, SPACING, (0, 1)).is_sharpened
    sharpened = scan + 1.2 * (scan - gaussian_blur(scan, 1.5, IN_PLANE))
    found = estimate(sharpened, SPACING, (0, 1))
    assert found.is_sharpened and found.overshoot > 0.03
    assert "sharpened by its reconstruction kernel" in " ".join(found.sentences(1.0))


def test_finer_voxels_are_told_to_be_worth_as_much_as_the_blur_lets_through(scan):
    found = estimate(scan, SPACING, (0, 1))
    assert found.finest_spacing_mm == pytest.approx(1.123 * 0.2 * 0.6, rel=0.1)
    assert f"supports {found.finest_spacing_mm:.2g} mm" in " ".join(found.sentences(1.0))


def spongy(blur: float) -> np.ndarray:
    """A scan, half as fine along all axes, of soft plates that stand close, with grain; `blur` in fine voxels."""
    rng = np.random.default_rng(7)
    cloud, grain = (rng.standard_normal((96, 144, 144), dtype=np.float32) for _ in range(2))
    cloud, grain = gaussian_blur(cloud, 8.0, ALL_AXES), gaussian_blur(grain, 0.9, ALL_AXES)
    plates = gaussian_blur((np.abs(cloud) < 0.5 * cloud.std()).astype(np.float32), 1.5, ALL_AXES)
    fine = 0.15 + 0.7 * plates + 0.06 / grain.std() * grain
    return block_mean(gaussian_blur(fine, blur, ALL_AXES) if blur else fine, ALL_AXES)


def test_grain_between_structures_that_stand_close_tells_a_sharp_scan_of_soft_objects(scan):
    sharp, soft = (estimate(spongy(blur), (0.2, 0.2, 0.2), (0, 1)) for blur in (0.0, 0.85))
    assert min(sharp.crowding, soft.crowding) > 0.22 and sharp.to_json()["crowding"] == round(sharp.crowding, 3)
    assert soft.noise.corner < 0.01 < 0.04 < sharp.noise.corner < 0.12
    assert sharp.is_of_fine_grain and not soft.is_of_fine_grain
    assert not replace(sharp, softness_mm=0.1).is_of_fine_grain and not replace(sharp, noise=None).is_of_fine_grain
    white = scan + correlated_noise(scan.shape, 0.03, 0.0, IN_PLANE, 8)
    jaw = estimate(white, SPACING, (0, 1))
    assert jaw.noise.corner > 0.2 and jaw.crowding < 0.16 and not jaw.is_of_fine_grain
    assert 0 < jaw.fullness < 0.55 and not replace(jaw, crowding=0.4).is_trabecular


def test_micro_ct_of_bone_has_fine_grain_until_it_is_blurred(shared_data):
    bone = Volume.read(shared_data / "trabecular_microct.nrrd").voxels[140:].astype(np.float32)
    low, high = np.percentile(bone, (0.5, 99.5))
    bone = np.clip((bone - low) / (high - low), 0, 1)
    for blur, is_fine in ((0.4, True), (0.85, False)):
        found = estimate(Acquisition(blur=blur).degrade(bone, 2, clip=False), (0.04, 0.04, 0.02), (0, 1))
        assert found.crowding > 0.3 and found.is_of_fine_grain is is_fine, blur
        assert found.is_trabecular and found.to_json()["fullness"] == round(found.fullness, 3), blur


def test_a_cloud_without_surfaces_is_not_told_for_sure():
    cloud = gaussian_blur(np.random.default_rng(0).standard_normal((60, 96, 96), dtype=np.float32), 2.5, ALL_AXES)
    found = estimate(0.5 + 0.25 * cloud / cloud.std(), SPACING, (0, 1))
    assert not found.in_plane_is_sure and found.blur[1].doubt


def test_edges_and_spectrum_must_agree(scan, monkeypatch):
    by_spectrum = ScanBlocks.variance_by_spectrum
    monkeypatch.setattr(ScanBlocks, "variance_by_spectrum", lambda *_: 1.5)
    found = estimate(scan, SPACING, (0, 1))
    assert not found.in_plane_is_sure
    assert "edges and spectrum disagree, 0.6" in " ".join(found.sentences(1.0))
    monkeypatch.setattr(
        ScanBlocks, "variance_by_spectrum", lambda blocks, axis, *more: by_spectrum(blocks, axis, *more) + (axis == 1)
    )
    found = estimate(scan, SPACING, (0, 1))  # along rows
    _, j, i = found.blur
    assert not found.in_plane_is_sure and i.is_sure and not i.doubt
    assert not j.is_sure and j.edges >= 24 and j.doubt.startswith("edges and spectrum disagree")


def test_the_scan_stays_as_it_is(scan):
    before = scan.copy()
    before.flags.writeable = False
    estimate(before, SPACING, (0, 1))
    np.testing.assert_array_equal(before, scan)
