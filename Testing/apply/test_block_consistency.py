"""Results of blocks are corrected until they agree with their scan, whatever the factors and however they are cut."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.acquisition.anatomy import Waves
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, block_mean, correlated_noise, gaussian_blur
from CBCTSuperResLib.apply import tile_sizes
from CBCTSuperResLib.apply.block_consistency import BlockConsistency, scanning
from CBCTSuperResLib.apply.prepare import Prepared
from CBCTSuperResLib.apply.tile_sizes import BYTES_OF_AGREEMENT
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.core.errors import Cancelled
from CBCTSuperResLib.core.interpolate import enlarge
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.measure.fidelity import psnr
from stub_networks import interpolating_points, stub_model

NOISE = 0.01


def places(shape) -> list[np.ndarray]:
    return np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")


@pytest.fixture(scope="module")
def body() -> np.ndarray:
    """Bone with a wavy surface, and a canal through it."""
    k, j, i = places((48, 60, 56))
    depth = j - 26 - 6 * Waves(np.random.default_rng(3), 30)(k, j, i)
    canal = np.hypot(k - 22, j - 44) - 5
    return (0.15 + 0.6 / (1 + np.exp(-np.minimum(depth, canal) / 0.6))).astype(np.float32)


def axes_of(scan, fine) -> list[Axis]:
    return [Axis(n, 0, n, m) for n, m in zip(scan.shape, fine.shape, strict=True)]


def kept(axes, estimate, scan, blur, noise=NOISE, judged=None, edge=None) -> tuple[np.ndarray, BlockConsistency]:
    """A result, corrected, and what corrected it."""
    keep = BlockConsistency(axes, blur, noise)
    tiles = plan_tiles(axes, edge, 0)
    for tile in tiles:
        keep.add(tile, estimate[tile.write])
    excess = None if judged is None else (~judged).astype(np.float32)
    keep.find(lambda box: Prepared(scan[box], None if excess is None else excess[box], scan[box], []))
    found = estimate.copy()
    for tile in tiles:
        change = keep.change(tile.write)
        if change is not None:
            found[tile.write] += change
    return found, keep


def through(image, axes) -> np.ndarray:
    """What a scanner without blur makes of an image."""
    for axis in range(3):
        image = np.moveaxis(np.tensordot(scanning(axes[axis], 0.0), image, (1, axis)), 0, axis)
    return image


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def test_the_scanner_is_that_of_the_acquisition(body):
    for factors, blur in (((2, 2, 2), 0.425), ((3, 1, 1), 0.0), ((4, 2, 1), 0.3)):
        blurred = body
        for axis, factor in enumerate(factors):
            width = tuple(blur * factor if n == axis else 0.0 for n in range(3))
            blurred = gaussian_blur(blurred, width, ALL_AXES) if blur else blurred
        expected = blurred
        for axis, factor in enumerate(factors):
            expected = block_mean(expected, (axis,), factor) if factor > 1 else expected
        axes = axes_of(expected, body)
        found = body
        for axis in range(3):
            found = np.moveaxis(np.tensordot(scanning(axes[axis], blur), found, (1, axis)), 0, axis)
        assert np.abs(found - expected)[2:-2, 2:-2, 2:-2].max() < 0.02, factors


def test_a_real_factor_keeps_the_mean_and_ends_are_repeated_only_where_the_volume_ends():
    whole, region = scanning(Axis(10, 0, 10, 33), 0.4), scanning(Axis(30, 10, 20, 33), 0.4)
    assert np.allclose(whole.sum(1), 1, atol=1e-5)
    assert np.allclose(region[3:-3].sum(1), 1, atol=1e-4) and region[0].sum() < 0.95
    ramp = (np.arange(33) + 0.5) / 3.3 - 0.5
    assert np.allclose((whole @ ramp)[3:-3], np.arange(10)[3:-3], atol=1e-4)


def test_a_soft_result_becomes_the_scan_and_nearer_to_the_truth(body):
    for factors in ((3, 1, 1), (2, 2, 2)):
        scan = body
        for axis, factor in enumerate(factors):
            scan = block_mean(scan, (axis,), factor) if factor > 1 else scan
        axes, soft = axes_of(scan, body), gaussian_blur(enlarge(scan, body.shape), 1.0, ALL_AXES)
        better, keep = kept(axes, soft, scan, (0.0,) * 3, noise=1e-3)
        assert psnr(better, body) > psnr(soft, body) + 1, factors
        assert keep.agreement.pixels == scan.size
        before, after = (rms(through(image, axes) - scan) for image in (soft, better))
        assert after < 0.3 * before, factors


def test_noise_stays_out_and_a_true_result_is_left_alone(body):
    scan = block_mean(body, (0,), 3)
    scan = scan + correlated_noise(scan.shape, NOISE, 0.0, ALL_AXES, seed=2)
    same, keep = kept(axes_of(scan, body), body, scan, (0.0,) * 3)
    assert rms(same - body) < 0.1 * NOISE and keep.agreement.share_beyond < 0.01


def test_what_the_scan_does_not_have_is_taken_back_wherever_blocks_are_cut(body):
    scan = block_mean(body, (0,), 3)
    invented = body.copy()
    invented[20:27, 8:14, 30:36] += 0.3
    axes = axes_of(scan, body)
    whole, keep = kept(axes, invented, scan, (0.0,) * 3)
    assert np.abs(whole - body)[20:27, 8:14, 30:36].mean() < 0.15
    assert np.abs(whole - body)[:, 40:].max() < 1e-3, "nothing happens far away"
    cut, again = kept(axes, invented, scan, (0.0,) * 3, edge=(4, 9, 17))
    assert np.abs(cut - whole).max() < 1e-5 and again.agreement.beyond == keep.agreement.beyond


def test_slabs_are_corrected_as_the_whole_is(body, monkeypatch):
    scan = block_mean(body, (0,), 2)
    soft, axes = gaussian_blur(body, 1.5, ALL_AXES), axes_of(scan, body)
    whole, _ = kept(axes, soft, scan, (0.0,) * 3)
    monkeypatch.setattr("CBCTSuperResLib.apply.block_consistency.SLAB", 1.0)
    slabs, _ = kept(axes, soft, scan, (0.0,) * 3)
    assert np.abs(slabs - whole).max() < 1e-5 and np.abs(whole - soft).max() > 0.01


def test_no_more_is_held_for_a_voxel_of_the_scan_than_the_plan_counts():
    scan = np.zeros((96, 96, 96), np.float32)
    axes = axes_of(scan, scan)
    (tile,) = plan_tiles(axes, None, 0)
    tracemalloc.start()
    keep = BlockConsistency(axes, (0.0,) * 3, NOISE)
    keep.add(tile, scan + np.float32(0.1))
    keep.find(lambda box: Prepared(scan[box], None, scan[box], []))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.abs(keep.change(tile.write) + 0.1).max() < 0.05
    matrices = 12 * 4 * 96**2
    assert held - matrices < 1.05 * BYTES_OF_AGREEMENT * scan.size


def test_what_the_window_clipped_and_what_was_not_computed_is_no_contradiction(body):
    scan = block_mean(body, (0,), 3)
    judged = np.ones(scan.shape, bool)
    judged[:, 30:] = False
    wrong = np.where(judged, scan, 1.0).astype(np.float32)
    same, keep = kept(axes_of(scan, body), body, wrong, (0.0,) * 3, judged=judged)
    assert np.array_equal(same, body) and keep.agreement.pixels == judged.sum()
    keep = BlockConsistency(axes_of(scan, body), (0.0,) * 3, NOISE)
    tiles = plan_tiles(axes_of(scan, body), (8, None, None), 0)
    keep.add(tiles[0], body[tiles[0].write] + 0.5)
    keep.find(lambda box: Prepared(scan[box], None, scan[box], []))
    assert keep.agreement.pixels == scan[:8].size
    everywhere = tiles[0].write[1:]
    assert keep.change((slice(0, 24), *everywhere)) is not None and keep.change((slice(36, 48), *everywhere)) is None
    with pytest.raises(Cancelled):
        keep.find(lambda box: Prepared(scan[box], None, scan[box], []), lambda: True)


# In a whole run


@pytest.fixture(scope="module")
def thick(body) -> Volume:
    scan = block_mean(body, (0,), 3)
    scan = scan + correlated_noise(scan.shape, 0.004, 0.0, ALL_AXES, seed=2)
    return Volume(np.rint(1000 * scan).astype(np.int16), Grid(scan.shape[::-1], (0.2, 0.2, 0.6)))


@pytest.fixture(scope="module")
def wrong():
    """Linear interpolation that is too bright by a tenth of the window."""
    network = interpolating_points()
    network.tail.bias.data.fill_(0.1)
    return stub_model(network, window=(0.0, 1000.0))


def run(scan, model, **options) -> Volume:
    given = {"window": (0.0, 1000.0), "blank": "none", "scanner_blur": (0.0, 0.0, 0.0), "device": "cpu"}
    return super_resolve(scan, model, Options(**{"output_spacing": 0.2, **given, **options}))


def test_a_run_of_blocks_is_brought_back_to_the_scan_and_says_so(thick, body, wrong, monkeypatch):
    plain, better = (run(thick, wrong, back_projection=choice) for choice in ("off", "auto"))
    assert plain.report["back_projection"] is False and better.report["back_projection"] is True
    errors = [np.abs(np.mean(result.voxels / 1000.0 - body)) for result in (plain, better)]
    assert errors[0] > 0.09 and errors[1] < 0.02
    figures = {figure["key"]: figure for figure in better.report["quality"]["figures"]}
    assert "agrees with the scan" in figures["certificate"]["text"]
    assert better.report["agreement"]["pixels"] == thick.voxels.size
    monkeypatch.setattr(tile_sizes, "BAND_VOXELS", 20_000)
    monkeypatch.setattr(tile_sizes, "BLOCK_MEMORY", 1.0)
    cut = run(thick, wrong)
    assert cut.report["pieces"] > 3 and np.abs(cut.voxels.astype(int) - better.voxels).max() <= 1
    half = run(thick, wrong, sharpness=50)
    assert half.report["back_projection"] is True


def test_a_region_is_the_crop_of_the_whole(thick, wrong):
    whole = run(thick, wrong)
    part = run(thick, wrong, roi=((6, 50), (4, 58), (2, 14)))
    assert (
        part.report["back_projection"] and np.abs(part.voxels.astype(int) - whole.voxels[6:42, 4:58, 6:50]).max() <= 1
    )


def test_a_blank_region_stays_blank(thick, wrong):
    blank = thick.voxels.copy()
    blank[:, :, 40:] = -1000
    result = run(Volume(blank, thick.grid), wrong, blank=-1000.0)
    assert result.report["back_projection"] is True
    assert (result.voxels[:, :, 44:] == -1000).all() and np.abs(result.voxels[:, :, :36]).max() < 1200
