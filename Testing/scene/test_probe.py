"""The value at the mouse cursor with its error bar."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("slicer")

from CBCTSuperResLib.io.volume import Volume  # noqa: E402
from CBCTSuperResLib.scene.nodes import (  # noqa: E402
    MAP_ROLES,
    createOutputNode,
    deviationOf,
    fillNode,
    marksOf,
    voxelAt,
)
from CBCTSuperResLib.scene.probe import Probe, valueText  # noqa: E402
from helpers import make_grid  # noqa: E402


def volume_node(scene, name: str, voxels: np.ndarray):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    for _ in fillNode(node, Volume(voxels, make_grid(voxels.shape[::-1], (0.2, 0.2, 0.2)))):
        pass
    return node


@pytest.fixture
def result(scene):
    """A result of 31187 everywhere, with a deviation of 250 in its first slice and none in the others."""
    import slicer

    if not scene.GetFirstNodeByClass("vtkMRMLCrosshairNode"):
        scene.AddNode(slicer.vtkMRMLCrosshairNode())
    node = volume_node(scene, "Jaw SR x2", np.full((3, 6, 5), 31187, np.uint16))
    spread = np.zeros((3, 6, 5), np.float32)
    spread[0] = 250
    deviation = volume_node(scene, "Jaw SR x2 predictive deviation", spread)
    report = {"super_resolution": {"error_bars": {"holds": True}}}
    node.SetAttribute("CBCTSuperRes.report", json.dumps(report))
    node.SetNodeReferenceID(MAP_ROLES["predictive deviation"], deviation.GetID())
    return node


def world(node, index):
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return (slicer.util.arrayFromVTKMatrix(matrix) @ [*index, 1.0])[:3]


def test_the_value_at_the_cursor_comes_with_its_error_bar(scene, result):
    texts = []
    probe, cursor = Probe(texts.append), scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    probe.follow(result)
    cursor.SetCursorPositionRAS(world(result, (2, 3, 0)).tolist())
    assert texts[-1] == "31\u202f200 \u00b1 400"  # 1.645 x 250 = 411
    cursor.SetCursorPositionRAS(world(result, (2, 3, 1)).tolist())
    assert texts[-1] == "31\u202f187"
    cursor.SetCursorPositionRAS(world(result, (2, 3, 40)).tolist())
    assert texts[-1] == ""
    result.SetAttribute("CBCTSuperRes.report", json.dumps({"super_resolution": {"error_bars": {"holds": False}}}))
    cursor.SetCursorPositionRAS(world(result, (1, 1, 0)).tolist())
    assert texts[-1].endswith("400 ?")
    probe.close()
    told = len(texts)
    cursor.SetCursorPositionRAS(world(result, (0, 0, 0)).tolist())
    assert len(texts) == told


def test_a_result_without_error_bars_says_nothing(scene, result):
    texts = []
    plain = createOutputNode(result, "Plain")
    Probe(texts.append).follow(plain)
    scene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCursorPositionRAS(world(result, (2, 3, 0)).tolist())
    assert texts == [] and deviationOf(plain) is None and marksOf(result) is deviationOf(result)


def test_places_are_those_of_the_nearest_voxel_within_the_volume(result):
    assert voxelAt(result, world(result, (4.4, 5.4, 2.4))) == (4, 5, 2)
    assert voxelAt(result, world(result, (4.6, 5, 2))) is None and voxelAt(result, world(result, (-0.6, 0, 0))) is None


def test_error_bars_are_rounded_as_measurements_are():
    found = [valueText(*pair).replace("\u202f", " ") for pair in ((31187, 411), (31187, 120.4), (0.123456, 0.0367))]
    assert found == ["31 200 \u00b1 400", "31 190 \u00b1 120", "0.12 \u00b1 0.04"]
    assert valueText(31187.0, 0.0).replace("\u202f", " ") == "31 187"
