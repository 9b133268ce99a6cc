"""Volumes of the scene as training data: what fits together, what is written, and that nothing of the scene changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from scans import make_scan

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
from CBCTSuperResLib.scene import nodes, training_volumes  # noqa: E402
from CBCTSuperResLib.scene.training_volumes import (  # noqa: E402
    checkPair,
    dataFolder,
    suggestWindow,
    volumeInWorld,
    withVolumes,
)
from CBCTSuperResLib.train.options_file import read_options  # noqa: E402

pytestmark = pytest.mark.usefixtures("mrml")

TURN = np.array([[0.8, -0.6, 0, 12.0], [0.6, 0.8, 0, -7.0], [0, 0, 1, 3.0], [0, 0, 0, 1]])


def add(scene, volume: Volume, name: str):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    nodes.updateNode(node, volume)
    return node


def fine_scan(scale=(2, 2, 1), shape=(4, 24, 28), dtype="uint16") -> Volume:
    """The partner of `make_scan`: the same place, more voxels along (i, j, k)."""
    coarse = make_scan(shape)
    voxels = coarse.voxels
    for axis, factor in zip((2, 1, 0), scale, strict=True):
        voxels = voxels.repeat(factor, axis)
    return Volume(voxels.astype(dtype), coarse.grid.resampled(voxels.shape[::-1]))


@pytest.fixture
def pair(scene):
    return add(scene, make_scan(), "Jaw: coarse/1"), add(scene, fine_scan(), "Jaw: fine/1")


@pytest.fixture
def values(tmp_path) -> dict:
    """Options without images."""
    return {
        "name": "run",
        "scale": 2,
        "path": {"root": str(tmp_path / "Läufe 1")},
        "train": {"feature_weight": 0, "niter": 4},
    }


def put_under(scene, node, matrix) -> None:
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    parent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))
    node.SetAndObserveTransformNodeID(parent.GetID())


def test_a_pair_of_nodes_becomes_two_files_with_their_voxels_and_places(pair, values):
    before = [slicer.util.arrayFromVolume(node).copy() for node in pair]
    options = withVolumes(values, train=[pair])
    train = options.datasets["train"]
    assert train.mode == "LRHR" and len(train.dataroot_HR) == len(train.dataroot_LR) == 1
    for path, node, voxels in zip((*train.dataroot_LR, *train.dataroot_HR), pair, before, strict=True):
        written = Volume.read(path)
        assert np.array_equal(written.voxels, voxels)
        assert np.array_equal(slicer.util.arrayFromVolume(node), voxels)
        assert np.allclose(written.grid.index_to_point, nodes.gridOfNode(node).index_to_point, atol=1e-9)
        assert Path(path).is_relative_to(dataFolder(options)) and Path(path).name.startswith("Jaw_ ")
    assert options == read_options(json.loads(json.dumps(options.to_json())))


def test_the_same_nodes_are_the_same_files_so_that_a_run_can_be_resumed(scene, pair, values):
    first = withVolumes(values, train=[pair])
    stamps = {path: path.stat().st_mtime_ns for path in dataFolder(first).rglob("*.nrrd")}
    assert len(stamps) == 2
    assert withVolumes(values, train=[pair]) == first and first.differences(withVolumes(first, train=[pair])) == []
    assert {path: path.stat().st_mtime_ns for path in dataFolder(first).rglob("*.nrrd")} == stamps
    slicer.util.arrayFromVolume(pair[1])[0, 0, 0] += 1
    assert withVolumes(values, train=[pair]).datasets["train"].dataroot_HR != first.datasets["train"].dataroot_HR


def test_volumes_alone_are_high_resolution_and_their_partners_are_simulated(scene, pair, values):
    options = withVolumes(values, ["train.niter=7"], train=[pair[1]], validation=[pair])
    train, val = options.datasets["train"], options.datasets["val"]
    assert (train.mode, val.mode) == ("HR", "LRHR")
    assert not train.dataroot_LR and val.dataroot_HR == train.dataroot_HR
    assert options.train.niter == 7
    assert options.dataset("val").normalization_range == train.normalization_range


def test_images_that_the_options_name_are_replaced_and_the_rest_is_kept(pair, values):
    named = {"mode": "LRHR", "dataroot_HR": "nowhere", "dataroot_LR": "nowhere", "normalization_range": [5, 3000]}
    options = withVolumes({**values, "datasets": {"train": {**named, "batch_size": 3}}}, train=[pair])
    train = options.datasets["train"]
    assert "nowhere" not in train.dataroot_HR + train.dataroot_LR
    assert train.batch_size == 3 and train.normalization_range == (5, 3000)


def test_a_window_is_estimated_where_the_options_have_none(pair, values):
    low, high = withVolumes(values, train=[pair]).datasets["train"].normalization_range
    assert [low, high] == suggestWindow(pair[1]) and low < 200 and high > 1500


def test_the_window_of_a_large_volume_is_estimated_from_a_part_of_its_slices(scene, monkeypatch):
    node = add(scene, fine_scan(shape=(24, 24, 28)), "Large")
    whole = suggestWindow(node)
    seen = []
    choose = training_volumes.choose_window
    monkeypatch.setattr(training_volumes, "choose_window", lambda *given: seen.append(given[0].size) or choose(*given))
    monkeypatch.setattr(training_volumes, "ENOUGH_VOXELS", 10000)
    assert np.allclose(suggestWindow(node), whole, atol=0.2 * (whole[1] - whole[0]))
    assert 10000 <= seen[0] < 20000


def test_bad_options_are_refused_before_anything_is_written(pair, values, tmp_path):
    with pytest.raises(OptionError, match="niter"):
        withVolumes({**values, "train": {"niter": -1}}, train=[pair])
    assert list(tmp_path.iterdir()) == []


def test_a_pair_whose_sizes_do_not_fit_is_told_with_the_numbers(scene, pair):
    with pytest.raises(InputError, match="28 x 24 x 4 voxels.*must have 112 x 96 x 4; it has 56 x 48 x 4"):
        checkPair(*pair, 4)
    with pytest.raises(InputError, match="prepare"):
        checkPair(pair[1], pair[0], 2)


def test_scans_of_two_scanners_that_nothing_joins_are_taken_as_they_are_where_a_recipe_learns_from_such(scene, values):
    scans = add(scene, make_scan(), "coarse"), add(scene, fine_scan((3, 2, 1)), "fine")
    options = withVolumes({**values, "model": "srcyclegan", "train": {"niter": 4}}, train=[scans])
    train = options.datasets["train"]
    sizes = [Volume.read(path).grid.size for path in (*train.dataroot_LR, *train.dataroot_HR)]
    assert sizes == [(28, 24, 4), (84, 48, 4)] and train.normalization_range is None  # each has its own, estimated
    with pytest.raises(InputError, match="no pair"):
        withVolumes(values, train=[scans])


def test_a_pair_that_lies_elsewhere_is_told_with_the_distance(scene, pair, values):
    moved = nodes.volumeFromNode(pair[1])
    grid = Grid(moved.grid.size, moved.spacing, np.add(moved.origin, moved.direction @ [0.5, 0, 0]), moved.direction)
    elsewhere = add(scene, Volume(moved.voxels, grid), "elsewhere")
    with pytest.raises(InputError, match=r"0\.5 mm apart"):
        withVolumes(values, train=[(pair[0], elsewhere)])
    nearly = Grid(moved.grid.size, moved.spacing, np.add(moved.origin, 0.02), moved.direction)
    checkPair(pair[0], add(scene, Volume(moved.voxels, nearly), "nearly"), 2)


@pytest.mark.parametrize(("axis", "scale"), [("axial", (2, 2, 1)), ("coronal", (2, 1, 2)), ("sagittal", (1, 2, 2))])
def test_the_slices_of_a_pair_may_lie_along_any_axis(scene, pair, axis, scale):
    fine = add(scene, fine_scan(scale), "fine")
    checkPair(pair[0], fine, 2, axis)
    with pytest.raises(InputError, match="no pair"):
        checkPair(pair[0], fine, 2, "axial" if axis != "axial" else "coronal")
    with pytest.raises(OptionError, match="one direction"):
        checkPair(pair[0], fine, 2, "all")


def test_a_pair_is_compared_where_the_scene_shows_it(scene, pair):
    put_under(scene, pair[0], TURN)
    with pytest.raises(InputError, match="do not lie upon each other"):
        checkPair(*pair, 2)
    put_under(scene, pair[1], TURN)
    checkPair(*pair, 2)
    bounds = np.zeros(6)
    pair[0].GetRASBounds(bounds)
    corners = np.array([volumeInWorld(pair[0]).grid.point(index) for index in ((-0.5,) * 3, (27.5, 23.5, 3.5))])
    assert np.all(corners * [-1, -1, 1] >= bounds[::2] - 1e-6) and np.all(corners * [-1, -1, 1] <= bounds[1::2] + 1e-6)


def test_transforms_that_bend_or_shear_are_refused_with_what_to_do(scene, pair):
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    put_under(scene, pair[0], sheared)
    with pytest.raises(InputError, match="shears.*Harden"):
        volumeInWorld(pair[0])
    bent = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    pair[1].SetAndObserveTransformNodeID(bent.GetID())
    if not bent.IsTransformToWorldLinear():
        with pytest.raises(InputError, match="bends.*Harden"):
            volumeInWorld(pair[1])


def test_what_is_no_volume_and_what_is_half_a_pair_is_refused(scene, pair, values):
    with pytest.raises(InputError, match="empty"):
        withVolumes(values, train=[scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")])
    with pytest.raises(InputError, match="partner"):
        withVolumes(values, train=[pair, pair[1]])


def test_paths_may_stand_for_nodes_and_nothing_is_written_for_them(values, scene, tmp_path):
    paths = [tmp_path / "coarse.nrrd", tmp_path / "fine.nrrd"]
    made = withVolumes(values, train=[tuple(paths), tuple(map(str, paths))], validation=[paths[1]])
    train, val = made.datasets["train"], made.datasets["val"]
    assert train.mode == "LRHR" and train.dataroot_HR == (str(paths[1]),) * 2 and train.dataroot_LR[0] == str(paths[0])
    assert val.mode == "HR" and val.dataroot_HR == (str(paths[1]),)
    assert not dataFolder(made).exists() and train.normalization_range is None


def test_a_window_is_suggested_for_a_file_as_for_its_node(scene, tmp_path):
    node = add(scene, make_scan(), "Jaw")
    path = make_scan().write(tmp_path / "Jaw.nrrd")
    assert suggestWindow(path) == suggestWindow(node)
