"""Three planes: every axis gets sharper, none is diluted, and blocks join."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib import (
    Grid,
    Options,
    Volume,
    super_resolve,
)
from CBCTSuperResLib.acquisition.scanner import (
    ALL_AXES,
    IN_PLANE,
    P2,
    P3,
    gaussian_blur,
)
from CBCTSuperResLib.apply import tile_sizes
from CBCTSuperResLib.apply.fusion import REACH, PlaneFusion, plane_kernels
from CBCTSuperResLib.apply.tiles import Axis
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.core.interpolate import cubic
from CBCTSuperResLib.core.resources import resource_folder
from CBCTSuperResLib.measure.fidelity import gradient_energy, psnr
from CBCTSuperResLib.models.model import Model
from helpers import position_error_mm
from stub_networks import CubicTwice, Sharpened, stub_model, tiny_model

FINE = 80


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """A random texture of struts, statistically the same along all axes, in [0, 1]."""
    white = np.random.default_rng(5).standard_normal((FINE,) * 3).astype(np.float32)
    bands = gaussian_blur(white, 1.6, ALL_AXES) / 0.06 - gaussian_blur(white, 3.2, ALL_AXES) / 0.03
    return np.clip(0.5 + 0.5 * np.tanh(bands), 0, 1).astype(np.float32)


def volume_of(unit, spacing=(0.2, 0.2, 0.2)) -> Volume:
    return Volume((1000 * unit).astype(np.float32), Grid(unit.shape[::-1], spacing))


def run(unit, model, planes, **options):
    return super_resolve(volume_of(unit), model, Options(window=(0, 1000), blank="none", planes=planes, **options))


def by_cubic(unit, axes) -> np.ndarray:
    sizes = [2 * n if axis - unit.ndim in axes else n for axis, n in enumerate(unit.shape)]
    ranges = [Axis(n, 0, n, m) for n, m in zip(unit.shape, sizes, strict=True)]
    return cubic(unit, [r.positions(slice(0, r.outputs)) if r.scale > 1 else None for r in ranges])


@pytest.fixture(scope="module")
def sharpened(truth):
    coarse = replace(P3, noise=0.0).degrade(truth)
    return run(coarse, stub_model(Sharpened()), "isotropic").voxels / 1000, by_cubic(coarse, ALL_AXES)


def test_an_identity_network_gives_three_dimensional_cubic_interpolation(truth):
    coarse = replace(P3, noise=0.0).degrade(truth)[:14, :12, :13]
    result = run(coarse, stub_model(CubicTwice()), "isotropic")
    volume = volume_of(coarse)
    np.testing.assert_allclose(result.voxels / 1000, by_cubic(coarse, ALL_AXES), atol=1e-5)
    assert position_error_mm(result.grid, volume.grid.resampled([2 * n for n in volume.grid.size])) <= 1e-6


def test_the_gain_is_not_diluted(truth, sharpened):
    """At least 80 % of what the same network gains in-plane on a scan that is blurred only in-plane."""
    coarse = replace(P2, noise=0.0).degrade(truth)
    axial = run(coarse, stub_model(Sharpened()), "axial").voxels / 1000
    axial_gain = psnr(axial, truth) - psnr(by_cubic(coarse, IN_PLANE), truth)
    found, interpolated = sharpened
    gain = psnr(found, truth) - psnr(interpolated, truth)
    assert axial_gain > 1 and gain >= 0.8 * axial_gain


def test_all_three_axes_get_equally_sharp(truth, sharpened):
    found, interpolated = sharpened
    energy = np.array(gradient_energy(found)) / gradient_energy(truth)
    before = np.array(gradient_energy(interpolated)) / gradient_energy(truth)
    assert energy.max() <= 1.1 * energy.min()
    assert (energy > 1.2 * before).all()


def plane_wave(direction, frequency, n=48) -> np.ndarray:
    along = np.asarray(direction, float) / np.linalg.norm(direction)
    z, y, x = np.meshgrid(*[np.arange(n)] * 3, indexing="ij")
    return np.cos(2 * np.pi * frequency * (z * along[0] + y * along[1] + x * along[2])).astype(np.float32)


@pytest.mark.parametrize("frequency", [0.1, 0.15, 0.2, 0.3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_lies_along_an_axis_comes_undiluted_from_the_two_passes_that_saw_it(axis, frequency):
    wave = plane_wave(np.eye(3)[axis], frequency)
    details = [np.zeros_like(wave) if normal == axis else wave for normal in range(3)]
    middle = (slice(REACH, -REACH),) * 3
    fused = PlaneFusion(2).fuse(details)[middle]
    share = (fused * wave[middle]).sum() / (wave[middle] ** 2).sum()
    assert 0.9 <= share <= 1.1


@pytest.mark.parametrize("direction", [(1, 1, 0), (1, 0, 1), (1, 1, 1), (3, 1, 0), (1, 2, 3)])
def test_the_shares_of_sharpness_add_up_in_every_direction(direction):
    wave = plane_wave(direction, 0.2)
    squares = np.square(direction) / np.sum(np.square(direction))
    details = [wave * np.float32(1 - square) for square in squares]
    middle = (slice(REACH, -REACH),) * 3
    fused = PlaneFusion(2).fuse(details)[middle]
    share = (fused * wave[middle]).sum() / (wave[middle] ** 2).sum()
    assert 0.9 <= share <= 1.1


def test_a_constant_change_is_kept_and_the_axes_are_alike():
    kernels = plane_kernels(2)
    assert sum(kernel.sum() for kernel in kernels) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernels[0], kernels[1].swapaxes(0, 1), atol=1e-6)
    np.testing.assert_allclose(kernels[0], kernels[2].swapaxes(0, 2), atol=1e-6)
    for kernel in kernels:
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1, ::-1], atol=1e-6)


def test_noise_is_not_subtracted_more_than_once():
    """Where all passes agree, as they do about noise, at most one and a half times what they say is done."""
    response = sum(np.fft.fftn(kernel, (48,) * 3, (0, 1, 2)) for kernel in plane_kernels(2))
    assert np.abs(response).max() <= 1.6 and np.abs(response).min() >= 0.9


def test_joining_three_planes_takes_no_more_memory_than_planned_with_an_older_numpy_too(monkeypatch):
    """Before 2.0 NumPy transforms float32 in double precision."""
    fusion, details, padded = PlaneFusion(2), [np.zeros((84,) * 3, np.float32)] * 3, 96**3
    for older in (False, True):
        for name in ("rfft", "rfftn") if older else ():
            transform = getattr(np.fft, name)
            monkeypatch.setattr(np.fft, name, lambda a, *more, of=transform: of(a.astype(np.float64), *more))
        tracemalloc.start()
        fusion.fuse(details)
        peak = tracemalloc.get_traced_memory()[1] + sum(detail.nbytes for detail in details)
        tracemalloc.stop()
        largest = tile_sizes.FUSION_MEMORY / (4 * tile_sizes.floats_of_fusion())  # voxels of a piece
        assert 0.8 * tile_sizes.MOST_FOR_FUSION < peak / padded * largest < tile_sizes.MOST_FOR_FUSION


def test_blocks_change_nothing(monkeypatch, truth):
    coarse = P3.degrade(truth)[:17, :9, :34]
    whole = run(coarse, stub_model(Sharpened()), "isotropic")
    monkeypatch.setattr(tile_sizes, "FUSION_MEMORY", 1.0)
    cut = run(coarse, stub_model(Sharpened()), "isotropic")
    assert whole.report["pieces"] == 1 and cut.report["pieces"] == 2 * 1 * 3
    assert np.abs(cut.voxels - whole.voxels).max() <= 1e-5 * 1000


def test_a_roi_is_the_crop_of_the_full_result(truth):
    coarse = P3.degrade(truth)[:14, :24, :12]
    whole = run(coarse, tiny_model(), "isotropic")
    part = run(coarse, tiny_model(), "isotropic", roi=((2, 9), (13, 24), (8, 12)))
    assert np.abs(part.voxels - whole.voxels[16:24, 26:48, 4:18]).max() <= 1e-5 * 1000
    assert position_error_mm(part.grid, whole.grid.cropped((4, 26, 16), (18, 48, 24))) <= 1e-6


def test_a_model_of_unknown_halo_is_not_cut_into_blocks(monkeypatch, truth):
    monkeypatch.setattr(tile_sizes, "FUSION_MEMORY", 1.0)
    result = run(P3.degrade(truth)[:20, :9, :10], tiny_model("unknown"), "isotropic")
    assert result.report["pieces"] == 1


def test_slices_without_data_do_not_shine_through(truth):
    coarse = 0.3 + 0.4 * replace(P3, noise=0.0).degrade(truth)[:16, :20, :20]
    blank = coarse.copy()
    blank[:5] = -30.0
    options = Options(window=(0, 1000), blank=-30000.0, planes="isotropic")
    result = super_resolve(volume_of(blank), stub_model(CubicTwice()), options)
    assert (result.voxels[:10] == -30000).all()
    assert result.voxels[10:].min() > 200


def test_progress_counts_every_slice_of_every_plane(truth):
    seen = []
    coarse = P3.degrade(truth)[:6, :7, :8]
    options = Options(window=(0, 1000), blank="none", planes="isotropic")
    super_resolve(volume_of(coarse), stub_model(CubicTwice()), options, lambda f, message: seen.append(f))
    assert len(seen) == 3 + 6 + 7 + 8 and seen == sorted(seen) and seen[-1] == 1


@pytest.mark.parametrize("spacing", [(0.2, 0.2, 0.31), (0.5, 0.2, 0.3)])
def test_slices_that_are_far_apart_are_refused_with_the_reason(truth, spacing):
    volume = volume_of(truth[:6, :10, :10], spacing)
    with pytest.raises(InputError, match=r"1\.5.*coronal"):
        super_resolve(volume, stub_model(CubicTwice()), Options(window=(0, 1000), planes="isotropic"))


def test_slightly_anisotropic_voxels_are_accepted(truth):
    volume = volume_of(truth[:6, :10, :10], (0.2, 0.2, 0.3))
    result = super_resolve(volume, stub_model(CubicTwice()), Options(window=(0, 1000), planes="isotropic"))
    np.testing.assert_allclose(result.spacing, (0.1, 0.1, 0.15))


def test_the_shipped_model_gains_along_all_three_axes(truth):
    path = resource_folder() / "Models" / "light.safetensors"
    if not path.is_file():
        pytest.skip("the light model is not here")
    model, cube = Model.load(path), truth[:56, :56, :56]
    in_plane, everywhere = P2.degrade(cube, seed=1), P3.degrade(cube, seed=1)
    axial = np.clip(run(in_plane, model, "axial", device="cpu").voxels / 1000, 0, 1)
    found = np.clip(run(everywhere, model, "isotropic", device="cpu").voxels / 1000, 0, 1)
    axial_gain = psnr(axial, cube) - psnr(np.clip(by_cubic(in_plane, IN_PLANE), 0, 1), cube)
    gain = psnr(found, cube) - psnr(np.clip(by_cubic(everywhere, ALL_AXES), 0, 1), cube)
    energy = np.array(gradient_energy(found)) / gradient_energy(cube)
    assert axial_gain > 1 and gain >= 0.8 * axial_gain
    assert energy.max() <= 1.1 * energy.min()
