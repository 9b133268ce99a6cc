"""MRML nodes as volumes and back, on real MRML."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from hypothesis import given
from hypothesis import strategies as st

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
import vtk  # noqa: E402
from CBCTSuperResLib.io import exchange  # noqa: E402
from CBCTSuperResLib.scene import nodes  # noqa: E402

pytestmark = pytest.mark.usefixtures("mrml")
ROTATED = np.array([[0.8, -0.6, 0, 12.0], [0.6, 0.8, 0, -7.0], [0, 0, 1, 3.0], [0, 0, 0, 1]])


def random_matrix(seed: int, left_handed: bool = False, spacing=(0.3, 0.25, 0.4)) -> np.ndarray:
    """An oblique IJKToRAS."""
    random = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    if (np.linalg.det(rotation) < 0) != left_handed:
        rotation[:, 0] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * spacing
    matrix[:3, 3] = random.uniform(-200, 200, 3)
    return matrix


def make_node(scene, shape=(5, 6, 7), dtype="int16", matrix=None, name="Scan"):
    voxels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return slicer.util.addVolumeFromArray(voxels, ijkToRAS=np.eye(4) if matrix is None else matrix, name=name)


def matrix_of(node) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def add_transform(scene, matrix=ROTATED):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


@given(seed=st.integers(0, 10**6), left_handed=st.booleans())
def test_a_node_and_its_volume_put_every_voxel_at_the_same_place(scene, seed, left_handed):
    matrix = random_matrix(seed, left_handed)
    node = make_node(scene, matrix=matrix)
    volume = nodes.volumeFromNode(node)
    for index in ((0, 0, 0), (6, 5, 4), (2, 3, 1)):
        ras = (matrix @ [*index, 1])[:3]
        assert np.allclose(volume.grid.point(index), ras * [-1, -1, 1], atol=1e-9)
    scene.Clear(0)


@pytest.mark.parametrize("left_handed", [False, True])
def test_a_result_covers_the_input_exactly_in_mrml(scene, left_handed):
    node = make_node(scene, matrix=random_matrix(3, left_handed))
    grid = nodes.gridOfNode(node).resampled((14, 12, 5))
    output = nodes.createOutputNode(node, "Result")
    nodes.updateNode(output, Volume(np.zeros(grid.shape, np.int16), grid))
    corner_in = matrix_of(node) @ [-0.5, -0.5, -0.5, 1]
    corner_out = matrix_of(output) @ [-0.5, -0.5, -0.5, 1]
    assert np.abs(corner_in - corner_out).max() <= 1e-6
    corner_in = matrix_of(node) @ [6.5, 5.5, 4.5, 1]
    corner_out = matrix_of(output) @ [13.5, 11.5, 4.5, 1]
    assert np.abs(corner_in - corner_out).max() <= 1e-6


def test_the_voxels_of_a_node_are_seen_without_a_copy_and_cannot_be_changed(scene):
    node = make_node(scene)
    volume = nodes.volumeFromNode(node)
    assert np.shares_memory(volume.voxels, slicer.util.arrayFromVolume(node))
    with pytest.raises(ValueError, match="read-only"):
        volume.voxels[0, 0, 0] = 1
    slicer.util.arrayFromVolume(node)[0, 0, 0] = 1  # the node itself stays as it was


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_all_types_of_voxels_come_back_as_they_went(scene, dtype):
    values = np.linspace(0, 100, 24).astype(dtype).reshape(2, 3, 4)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    nodes.updateNode(node, Volume(values, Grid((4, 3, 2))))
    back = nodes.volumeFromNode(node).voxels
    assert back.dtype == np.dtype(dtype) and np.array_equal(back, values)


@pytest.mark.parametrize(("dtype", "stored"), [("float16", "float32"), ("bool", "uint8")])
def test_types_that_mrml_lacks_are_stored_in_the_next_wider_one(scene, dtype, stored):
    values = np.array([0, 1, 1, 0] * 6).reshape(2, 3, 4).astype(dtype)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    nodes.updateNode(node, Volume(values, Grid((4, 3, 2))))
    back = slicer.util.arrayFromVolume(node)
    assert back.dtype == np.dtype(stored) and np.array_equal(back, values)


def test_a_node_is_filled_in_slabs_and_changes_only_when_all_is_there(scene, monkeypatch):
    monkeypatch.setattr(exchange, "SLAB_BYTES", 2 * 6 * 7 * 2)
    node = make_node(scene)
    before = slicer.util.arrayFromVolume(node).copy()
    filling = nodes.fillNode(node, Volume(np.full((5, 6, 7), 9, np.int16), Grid((7, 6, 5))))
    fractions = []
    for fraction in filling:
        fractions.append(fraction)
        assert np.array_equal(slicer.util.arrayFromVolume(node), before) == (fraction < 1)
    assert fractions == [0.0, 0.4, 0.8, 1.0]
    assert np.all(slicer.util.arrayFromVolume(node) == 9)


def test_the_output_shares_transform_display_and_units_with_the_input(scene):
    node = make_node(scene, name="Jaw")
    node.CreateDefaultDisplayNodes()
    transform = add_transform(scene)
    node.SetAndObserveTransformNodeID(transform.GetID())
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(1234, 567)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGreen")
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueUnits(units)

    output = nodes.createOutputNode(node, "Jaw SR x2")
    nodes.placeBeside(node, output)
    nodes.updateNode(output, Volume(np.zeros((5, 6, 7), np.int16), Grid((7, 6, 5))))
    assert output.GetName() == "Jaw SR x2"
    assert output.GetTransformNodeID() == transform.GetID()
    assert (output.GetDisplayNode().GetWindow(), output.GetDisplayNode().GetLevel()) == (1234, 567)
    assert not output.GetDisplayNode().GetAutoWindowLevel()
    assert output.GetDisplayNode().GetColorNodeID() == display.GetColorNodeID()
    assert output.GetDisplayNode().GetID() != display.GetID()
    assert output.GetVoxelValueUnits().GetCodeMeaning() == "Hounsfield unit"


def test_a_result_never_chooses_its_window_by_going_through_all_its_voxels(scene):
    node = make_node(scene)
    output = nodes.createOutputNode(node, "Result")
    assert node.GetDisplayNode() is not None
    node.SetAndObserveDisplayNodeID(None)
    nodes.placeBeside(node, output)
    display = output.GetDisplayNode()
    assert not display.GetAutoWindowLevel()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 209)


def test_output_names_are_unique(scene):
    node = make_node(scene, name="Jaw")
    names = [nodes.createOutputNode(node, "Jaw SR x3.3").GetName() for _ in range(2)]
    assert names == ["Jaw SR x3.3", "Jaw SR x3.3_1"]


def test_the_output_lies_beside_the_input_in_the_subject_hierarchy(scene):
    node = make_node(scene)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Patient")
    hierarchy.CreateItem(folder, node)
    output = nodes.createOutputNode(node, "Result")
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), output)  # as the application does
    nodes.placeBeside(node, output)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(output)) == folder


def test_volumes_without_hierarchy_items_are_no_problem(scene):
    node = make_node(scene)
    nodes.placeBeside(node, nodes.createOutputNode(node, "Result"))


def test_provenance_is_kept_on_the_output(scene):
    node = make_node(scene)
    output = nodes.createOutputNode(node, "Result")
    nodes.recordProvenance(node, output, {"model": "tiny"})
    assert output.GetNodeReference("CBCTSuperRes.input") is node
    assert output.GetAttribute("CBCTSuperRes.model") == "tiny"


def label_map(scene):
    node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Teeth")
    slicer.util.updateVolumeFromArray(node, np.zeros((2, 3, 4), np.uint8))
    return node


def colour_image(scene):
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
    slicer.util.updateVolumeFromArray(node, np.zeros((2, 3, 4, 3), np.uint8))
    return node


def sequence_proxy(scene):
    node = make_node(scene)
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    browser = scene.AddNode(slicer.vtkMRMLSequenceBrowserNode())
    sequence.SetDataNodeAtValue(node, "0")
    browser.AddSynchronizedSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(node, sequence, False)
    return node


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda scene: None, "No input volume"),
        (lambda scene: scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing"), "Nothing is empty"),
        (label_map, "Teeth is a label map"),
        (colour_image, "Photo is a vector volume"),
        (lambda scene: scene.AddNewNodeByClass("vtkMRMLModelNode", "Mesh"), "Mesh is not a volume"),
        (sequence_proxy, "one time point of a sequence"),
    ],
)
def test_nodes_that_are_no_plain_volumes_are_refused_in_words(scene, make, words):
    with pytest.raises(InputError, match=words):
        nodes.volumeFromNode(make(scene))


def add_roi(scene, low, high):
    """A ROI around the RAS box from `low` to `high`."""
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    roi.SetCenter(*np.add(low, high) / 2)
    roi.SetSize(*np.subtract(high, low))
    return roi


def test_a_roi_gives_the_voxels_that_it_touches(scene):
    node = make_node(scene, shape=(8, 9, 10))
    assert nodes.roiBox(add_roi(scene, (1.5, 2.5, 0.5), (5.5, 6.5, 7.5)), node) == ((2, 6), (3, 7), (1, 8))
    assert nodes.roiBox(add_roi(scene, (1.4, 2.6, 0.5), (5.6, 6.4, 7.5)), node) == ((1, 7), (3, 7), (1, 8))


def test_a_roi_is_clipped_to_the_volume(scene):
    node = make_node(scene, shape=(8, 9, 10))
    assert nodes.roiBox(add_roi(scene, (-50, 2.5, -50), (50, 4.5, 50)), node) == ((0, 10), (3, 5), (0, 8))


def test_a_roi_outside_the_volume_is_refused(scene):
    with pytest.raises(InputError, match="outside"):
        nodes.roiBox(add_roi(scene, (50, 50, 50), (60, 60, 60)), make_node(scene))


def test_a_roi_under_the_same_rotated_transform_gives_the_same_box(scene):
    node, roi = make_node(scene, shape=(8, 9, 10)), add_roi(scene, (1.5, 2.5, 0.5), (5.5, 6.5, 7.5))
    transform = add_transform(scene)
    for item in (node, roi):
        item.SetAndObserveTransformNodeID(transform.GetID())
    assert nodes.roiBox(roi, node) == ((2, 6), (3, 7), (1, 8))


def test_a_volume_that_is_moved_away_from_its_roi_gives_another_box(scene):
    node, roi = make_node(scene, shape=(8, 9, 10)), add_roi(scene, (1.5, 2.5, 0.5), (5.5, 6.5, 7.5))
    shift = np.eye(4)
    shift[0, 3] = -2.0
    node.SetAndObserveTransformNodeID(add_transform(scene, shift).GetID())
    assert nodes.roiBox(roi, node) == ((4, 8), (3, 7), (1, 8))


def test_a_rotated_roi_is_enclosed(scene):
    node, roi = make_node(scene, shape=(8, 40, 40)), add_roi(scene, (-5, -5, 0.5), (5, 5, 6.5))
    turn = np.eye(4)
    turn[:2, :2] = [[np.sqrt(0.5), -np.sqrt(0.5)], [np.sqrt(0.5), np.sqrt(0.5)]]
    turn[:2, 3] = 20.0
    roi.SetAndObserveTransformNodeID(add_transform(scene, turn).GetID())
    half = 5 * np.sqrt(2)
    expected = (int(np.floor(20 - half + 0.5)), int(np.ceil(20 + half + 0.5)))
    assert nodes.roiBox(roi, node) == (expected, expected, (1, 7))


def test_a_report_in_a_scene_of_somebody_else_may_hold_anything(mrml):
    node = make_node(mrml)
    for text in ("[]", "null", "{", '{"super_resolution": []}', '"x"', "[" * 100_000, '{"a":' * 100_000, "\0", "1e999"):
        node.SetAttribute(nodes.ATTRIBUTES + "report", text)
        assert nodes.reportOf(node) is None
    node.SetAttribute(nodes.ATTRIBUTES + "report", '{"super_resolution": {}}')
    assert nodes.reportOf(node) == {"super_resolution": {}}
