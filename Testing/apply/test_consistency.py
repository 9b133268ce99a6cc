"""Results are corrected until they agree with their scan, and its noise stays out of them."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.phantom import jaw_phantom
from CBCTSuperResLib.acquisition.scanner import IN_PLANE, block_mean, correlated_noise, gaussian_blur
from CBCTSuperResLib.apply.consistency import Consistency
from CBCTSuperResLib.core.interpolate import enlarge_slice
from CBCTSuperResLib.measure.fidelity import psnr


@pytest.fixture(scope="module")
def jaw() -> np.ndarray:
    return np.clip(0.1 + 0.7 * jaw_phantom((1, 240, 240), 0.12, 904)[0], 0, 1).astype(np.float32)


def scan_of(fine: np.ndarray, blur: float, noise: float = 0.0) -> np.ndarray:
    coarse = block_mean(gaussian_blur(fine, blur, IN_PLANE), IN_PLANE)
    return coarse + correlated_noise(coarse.shape, noise, 0.0, IN_PLANE, seed=1) if noise else coarse


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def test_the_scanner_is_that_of_the_acquisition(jaw):
    for blur in (0.0, 0.4, 0.85, 2.0):
        found = Consistency((2, 2), (blur / 2,) * 2, 0.01).scanned(jaw)
        expected = block_mean(gaussian_blur(jaw, blur, IN_PLANE) if blur else jaw, IN_PLANE)
        assert np.abs(found - expected).max() < 1e-5, blur


def test_without_noise_a_softer_and_a_sharper_result_both_become_the_scan_and_nearer_to_the_truth(jaw):
    scan = scan_of(jaw, 0.85)
    cubic = enlarge_slice(scan, jaw.shape)
    for wrong in (cubic, jaw + 0.8 * (jaw - gaussian_blur(jaw, 1.0, IN_PLANE))):
        keep = Consistency((2, 2), (0.425, 0.425), 1e-4)
        better = keep.correct(wrong, scan)
        before, after = (rms(scan - keep.scanned(image)) for image in (wrong, better))
        assert after < 0.25 * before
        assert psnr(better, jaw) > psnr(wrong, jaw) + 1.5


def test_a_true_result_of_a_noisy_scan_is_left_alone_and_judged_as_agreeing(jaw):
    for noise in (0.01, 0.05):
        scan = scan_of(jaw, 0.85, noise)
        keep = Consistency((2, 2), (0.425, 0.425), noise)
        kept = keep.correct(jaw, scan)
        assert rms(kept - jaw) < 0.05 * noise
        keep.judge(jaw, scan)
        assert keep.agreement.pixels == scan.size and keep.agreement.share_beyond < 0.01


def test_structure_that_the_scan_does_not_have_is_taken_back_and_counted(jaw):
    noise = 0.01
    scan, invented = scan_of(jaw, 0.85, noise), jaw.copy()
    invented[100:108, 100:108] += 0.2
    keep = Consistency((2, 2), (0.425, 0.425), noise)
    keep.judge(invented, scan)
    assert keep.agreement.beyond > 9 and keep.agreement.worst > 6 and "everywhere but in" in str(keep.agreement)
    kept = keep.correct(invented, scan)
    assert np.abs(kept - jaw)[100:108, 100:108].mean() < 0.06
    again = Consistency((2, 2), (0.425, 0.425), noise)
    again.judge(kept, scan)
    assert again.agreement.worst < 0.6 * keep.agreement.worst


def test_what_the_window_clipped_is_no_contradiction(jaw):
    scan = scan_of(jaw, 0.85)
    cut = np.zeros(scan.shape, bool)
    cut[20:40] = True
    wrong = scan + np.float32(0.3) * cut
    keep = Consistency((2, 2), (0.425, 0.425), 0.01)
    kept = keep.correct(jaw, wrong, ~cut)
    assert np.abs(kept - jaw)[48:72].max() < 1e-3
    keep.judge(kept, wrong, ~cut)
    assert keep.agreement.pixels == np.count_nonzero(~cut)


def test_beyond_its_reach_nothing_changes_a_pixel(jaw):
    scan = scan_of(jaw, 1.6)
    wrong = enlarge_slice(scan, jaw.shape)
    keep = Consistency((2, 2), (0.8, 0.8), 1e-4)
    whole = keep.correct(wrong, scan)
    reach, inner = keep.reach, slice(40, 60)
    part = slice(inner.start - reach, inner.stop + reach)
    fine = slice(2 * part.start, 2 * part.stop)
    assert part.start > 0 and part.stop < len(scan)
    found = keep.correct(wrong[fine, fine].copy(), scan[part, part])
    kept = slice(2 * reach, 2 * reach + 40)
    assert np.abs(found[kept, kept] - whole[80:120, 80:120]).max() < 1e-5


def test_unequal_factors_and_blurs_go_along_their_axes(jaw):
    fine = jaw[:, :236]
    blurred = gaussian_blur(fine, (0.6, 1.5), IN_PLANE)
    scan = block_mean(block_mean(blurred, (-2,), 2), (-1,), 4)
    keep = Consistency((2, 4), (0.3, 0.375), 1e-4)
    assert np.abs(keep.scanned(fine) - scan).max() < 1e-5
    cubic = enlarge_slice(scan, fine.shape)
    assert rms(scan - keep.scanned(keep.correct(cubic, scan))) < 0.4 * rms(scan - keep.scanned(cubic))


# In a whole run


@pytest.fixture(scope="module")
def sharp_scan():
    """A drawn jaw as a scanner of little blur and noise shows it, and the jaw."""
    from CBCTSuperResLib.core.volume import Grid
    from CBCTSuperResLib.io.volume import Volume

    fine = np.clip(0.1 + 0.7 * jaw_phantom((6, 192, 192), 0.12, 905), 0, 1).astype(np.float32)
    coarse = block_mean(gaussian_blur(fine, 0.6, IN_PLANE), IN_PLANE)
    coarse += correlated_noise(coarse.shape, 0.002, 0.0, IN_PLANE, seed=3)
    return Volume(np.rint(1000 + 4000 * coarse).astype(np.int16), Grid((96, 96, 6), (0.24, 0.24, 0.12))), fine


BLUR_MM = 0.3 * 0.24 * 2.3548


def run(scan, model, **options):
    from CBCTSuperResLib.apply.run import super_resolve
    from CBCTSuperResLib.core.options import Options

    given = {"window": (600.0, 5400.0), "blank": "none", "scanner_blur": BLUR_MM, "smooth": 0.0, "device": "cpu"}
    return super_resolve(scan, model, Options(**{**given, **options}))


@pytest.fixture(scope="module")
def model(tiny_model):
    from CBCTSuperResLib.models.model import Model

    return Model.load(tiny_model)


def test_even_a_network_that_draws_nonsense_is_brought_back_to_the_scan(sharp_scan, model):
    scan, fine = sharp_scan
    plain, kept = (run(scan, model, back_projection=choice) for choice in ("off", "auto"))
    assert plain.report["back_projection"] is False and kept.report["back_projection"] is True
    before, after = (psnr((result.voxels - 1000) / 4000.0, fine) for result in (plain, kept))
    assert after > before + 3
    figures = {figure["key"]: figure for figure in kept.report["quality"]["figures"]}
    assert "agrees with the scan" in figures["certificate"]["text"]
    assert kept.report["agreement"]["pixels"] == scan.voxels.size


def test_a_region_of_a_corrected_result_is_the_crop_of_the_whole(sharp_scan, model):
    scan, _ = sharp_scan
    whole = run(scan, model)
    part = run(scan, model, roi=((40, 62), (35, 50), (1, 4)))
    assert part.report["back_projection"] is True
    assert np.array_equal(part.voxels, whole.voxels[1:4, 70:100, 80:124])


def test_where_the_blur_is_not_sure_nothing_is_corrected_unless_it_is_asked_for(model):
    from CBCTSuperResLib.core.errors import OptionError
    from CBCTSuperResLib.core.volume import Grid
    from CBCTSuperResLib.io.volume import Volume

    noise = np.random.default_rng(0).normal(2000, 50, (3, 48, 48)).astype(np.int16)
    flat = Volume(noise, Grid((48, 48, 3), (0.2, 0.2, 0.2)))
    assert run(flat, model, scanner_blur=None).report["back_projection"] is False
    assert run(flat, model, scanner_blur=None, back_projection="on").report["back_projection"] is True
    with pytest.raises(OptionError, match="whole factors"):
        run(flat, model, planes="isotropic", back_projection="on")
