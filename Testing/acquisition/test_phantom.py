"""The procedural jaw: known truth, the same object in both scans, and the shapes the specification asks for."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from CBCTSuperResLib.acquisition import phantom
from CBCTSuperResLib.acquisition.anatomy import (
    STRUT_THRESHOLD,
    JawSection,
    Levels,
    Struts,
    share_inside,
)
from CBCTSuperResLib.acquisition.scanner import Acquisition, block_mean
from CBCTSuperResLib.scan.field_of_view import find_blanks
from CBCTSuperResLib.scan.tissue import PHANTOM_LEVELS, levels_of, sample_voxels
from CBCTSuperResLib.scan.window import Window

SHAPE = (20, 96, 96)


@pytest.fixture(scope="module")
def field() -> np.ndarray:
    return phantom.jaw_phantom(SHAPE, 0.25, seed=3)


@pytest.fixture(scope="module")
def scans():
    return phantom.jaw_scans(SHAPE, 0.25, seed=3)


def test_the_same_seed_gives_the_same_jaw_and_another_seed_another(field):
    assert np.array_equal(field, phantom.jaw_phantom(SHAPE, 0.25, seed=3))
    assert np.abs(field - phantom.jaw_phantom(SHAPE, 0.25, seed=4)).mean() > 0.02


def test_every_tissue_is_there_in_a_believable_share(field):
    levels = Levels()
    tissues = ("air", "bone", "dentin", "enamel")
    shares = {name: np.mean(np.abs(field - getattr(levels, name)) < 0.02) for name in tissues}
    assert 0.05 < shares["air"] < 0.8
    assert 0.03 < shares["bone"] < 0.6
    assert 0.005 < shares["dentin"] < 0.3
    assert 0.002 < shares["enamel"] < 0.2
    assert field.dtype == np.float32 and field.max() <= levels.enamel + 1e-5 and field.min() >= levels.air - 1e-5


def test_a_metal_crown_is_added_only_on_request(field):
    with_metal = phantom.jaw_phantom(SHAPE, 0.25, seed=3, metal=True)
    assert field.max() < 1.2 and with_metal.max() > 1.9
    changed = with_metal != field
    assert 0.001 < changed.mean() < 0.1


def test_trabeculae_are_one_network_of_the_thickness_and_volume_of_human_bone():
    ndimage = pytest.importorskip("scipy.ndimage")
    step = 0.04
    axis = np.arange(90) * step
    z, y, x = (a.ravel().astype(np.float32) for a in np.meshgrid(axis, axis, axis, indexing="ij"))
    bone = (Struts(np.random.default_rng(0)).excess(x, y, z) < STRUT_THRESHOLD).reshape(90, 90, 90)
    labels, _ = ndimage.label(bone)
    depth = ndimage.distance_transform_edt(bone) * step
    ridge = bone & (depth == ndimage.maximum_filter(depth, 3))
    assert bone.mean() == pytest.approx(0.19, abs=0.03)
    assert np.bincount(labels.ravel())[1:].max() / bone.sum() > 0.99
    assert 2 * depth[ridge].mean() == pytest.approx(0.14, abs=0.03)


def test_a_root_canal_has_the_diameter_it_was_given():
    tooth = JawSection(5, (25, 25, 30)).teeth[0]
    axis = np.linspace(-3, 3, 601, dtype=np.float32)
    v, u = np.meshgrid(axis, axis, indexing="ij")
    depth = np.float32(-0.6 * tooth.root_length)
    inside = tooth.pulp(u.ravel(), v.ravel(), np.full(u.size, depth)) < 0
    radius = tooth.canal_radius * 0.4 + 0.075 * 0.6
    expected = tooth.roots * np.pi * radius * 1.35 * radius
    assert inside.mean() * 36 == pytest.approx(expected, rel=0.05)
    assert 0.15 <= 2 * radius <= 0.6


def test_an_anti_aliased_boundary_gives_the_share_of_the_voxel_inside():
    distance = np.array([-1.0, -0.05, 0.0, 0.05, 1.0], np.float32)
    assert share_inside(distance, 0.2) == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_one_point_a_voxel_is_close_to_many_points_a_voxel():
    shape, spacing = (8, 48, 48), 0.3
    once = phantom.jaw_phantom(shape, spacing, seed=1)
    often = phantom.jaw_phantom(shape, spacing, seed=1, supersample=3)
    assert np.sqrt(np.mean((once - often) ** 2)) < 0.06
    assert abs(once.mean() - often.mean()) < 0.006


def test_levels_follow_gain_and_offset_of_the_scanner(field):
    other = phantom.jaw_phantom(SHAPE, 0.25, seed=3, levels=Levels().scaled(0.8, 0.1))
    assert np.allclose(other, 0.8 * field + 0.1, atol=0.01)


def test_both_scans_cover_the_same_space_in_an_oblique_frame(scans):
    fine, coarse = scans
    assert coarse.grid.size == (48, 48, 20) and coarse.spacing == pytest.approx((0.5, 0.5, 0.25))
    assert not np.allclose(fine.direction, np.eye(3))
    assert np.linalg.det(fine.direction) == pytest.approx(1)
    for corner in ((0, 0, 0), (1, 0, 1), (1, 1, 1)):
        faces = [v.grid.point([c * n - 0.5 for c, n in zip(corner, v.grid.size, strict=True)]) for v in scans]
        assert np.allclose(*faces, atol=1e-9)


def test_both_scans_show_the_object_in_the_same_place(scans):
    fine, coarse = (v.voxels.astype(np.float64) for v in scans)
    mask = phantom.cylinder(coarse.shape, 0.85)
    halved = block_mean(fine, (1, 2))
    scores = {
        shift: np.corrcoef(np.roll(halved, shift, (1, 2))[:, mask].ravel(), coarse[:, mask].ravel())[0, 1]
        for shift in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
    }
    assert max(scores, key=scores.get) == (0, 0) and scores[0, 0] > 0.98


def test_an_isotropic_scan_is_halved_along_all_axes():
    fine, coarse = phantom.jaw_scans((16, 48, 48), 0.4, seed=2, planes="isotropic")
    assert coarse.voxels.shape == (8, 24, 24) and coarse.spacing == pytest.approx((0.8, 0.8, 0.8))
    assert np.allclose(fine.grid.point([-0.5] * 3), coarse.grid.point([-0.5] * 3))


def test_the_field_of_view_is_a_cylinder_with_constant_corners(scans):
    for scan in scans:
        outside = ~phantom.cylinder(scan.voxels.shape)
        assert 0.2 < outside.mean() < 0.3
        assert np.all(scan.voxels[:, outside] == 0)
        assert np.all(scan.voxels[:, ~outside] > 0)


def test_grey_values_follow_the_window_and_saturate_at_the_type():
    grey = phantom.to_grey(np.array([0, 0.5, 1, 3], np.float32))
    assert grey.dtype == np.uint16 and grey.tolist() == [26000, 36000, 46000, 65535]
    hounsfield = phantom.to_grey(np.array([0, 1], np.float32), (-1000, 2000), "int16")
    assert hounsfield.tolist() == [-1000, 2000]


def test_the_coarse_scan_has_the_noise_it_was_asked_for():
    field = np.full((4, 64, 64), 0.5, np.float32)
    grid = phantom.oblique_grid(field.shape, 0.2)
    coarse = phantom.coarse_scan(field, grid, 0, Acquisition(noise=0.03), None, window=(0, 1), dtype="float32")
    assert coarse.voxels.std() == pytest.approx(0.03, rel=0.08)


@pytest.mark.parametrize("seed", [0, 1])
def test_tissues_are_found_at_the_levels_that_are_written_down(seed):
    scan = phantom.jaw_scans((48, 192, 192), 0.15, seed, metal=seed == 1)[1]
    found = levels_of(sample_voxels(scan.voxels, find_blanks(scan))).in_window(Window(*phantom.WINDOW))
    assert astuple(found) == pytest.approx(astuple(PHANTOM_LEVELS), abs=0.01)
