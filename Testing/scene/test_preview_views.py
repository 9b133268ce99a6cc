"""Which slice of a volume a view shows, and a preview in its foreground: drawn by Slicer's own slice logic."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError
from scans import make_scan
from slice_view import SliceViews

SHAPE = (30, 34, 38)
NAMES = {"TestRed": 2, "TestGreen": 1, "TestYellow": 0}


@pytest.fixture(scope="module")
def views(mrml):
    views = SliceViews(mrml)
    yield views
    views.remove()


@pytest.fixture
def volume(scene):
    return add_volume(straight(make_scan(SHAPE)))


def add_volume(volume, name="Jaw"):
    import slicer
    from CBCTSuperResLib.scene.nodes import updateNode

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    updateNode(node, volume)
    node.CreateDefaultDisplayNodes()
    return node


def straight(volume):
    """The volume without its rotation, as most scans are."""
    from CBCTSuperResLib.core.volume import Grid, Volume

    return Volume(volume.voxels, Grid(volume.grid.size, volume.spacing, volume.origin, np.diag([1.0, 1.0, 1.0])))


def put_under_transform(node, rotation=(20.0, (1.0, 2.0, 3.0))):
    import slicer
    import vtk

    transform = vtk.vtkTransform()
    transform.Translate(5, -7, 11)
    transform.RotateWXYZ(rotation[0], *rotation[1])
    parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    parent.SetMatrixTransformToParent(transform.GetMatrix())
    node.SetAndObserveTransformNodeID(parent.GetID())
    return parent


def world_of(node, ijk) -> np.ndarray:
    """RAS position in mm of a voxel, parent transform included."""
    import slicer
    import vtk

    matrix, parent = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(node.GetParentTransformNode(), None, parent)
    return np.array(parent.MultiplyPoint(matrix.MultiplyPoint([*ijk, 1.0])))[:3]


def see(view, node, *more):
    from CBCTSuperResLib.scene.slice_views import sliceInView

    return sliceInView(view.node, node, *more)


@pytest.mark.parametrize("transformed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_slice_of_a_view_is_found_whatever_the_view(views, scene, name, transformed):
    volume = add_volume(straight(make_scan(SHAPE)))
    if transformed:
        put_under_transform(volume)
    view = views(name)
    view.show(volume)
    position = world_of(volume, (9, 12, 7))
    view.node.JumpSliceByOffsetting(*position)
    seen = see(view, volume, position)
    assert seen.normal == NAMES[name] and seen.isAtCrosshair and seen.focus == (9, 12, 7)
    whole = [(0, n) for n in SHAPE[::-1]]
    whole[seen.normal] = (seen.focus[seen.normal],) * 2
    whole[seen.normal] = (whole[seen.normal][0], whole[seen.normal][0] + 1)
    assert seen.visible == tuple(whole)
    assert seen.thickness == pytest.approx(1.02, abs=0.01)


def test_only_what_is_in_view_is_visible_and_its_middle_counts_without_a_crosshair(views, scene, volume):
    view = views()
    view.show(volume)
    fov = view.node.GetFieldOfView()
    view.node.SetFieldOfView(fov[0] / 4, fov[1] / 4, fov[2])
    position = world_of(volume, (10, 12, 7))
    view.node.JumpSliceByCentering(*position)
    seen = see(view, volume)
    for axis, at in ((0, 10), (1, 12)):
        start, stop = seen.visible[axis]
        assert 0 < start < at < stop < SHAPE[2 - axis] and abs((start + stop - 1) / 2 - at) <= 1
        assert abs(seen.focus[axis] - at) <= 1
    assert seen.visible[2] == (7, 8) and not seen.isAtCrosshair
    beside = see(view, volume, world_of(volume, (37, 33, 7)))
    assert not beside.isAtCrosshair and beside.focus == seen.focus


def test_the_crosshair_may_lie_before_or_behind_the_slice(views, scene, volume):
    view = views()
    view.show(volume)
    view.node.JumpSliceByOffsetting(*world_of(volume, (9, 12, 7)))
    seen = see(view, volume, world_of(volume, (20, 5, 25)))
    assert seen.focus == (20, 5, 7) and seen.isAtCrosshair


def test_only_the_roi_counts(views, scene, volume):
    view = views()
    view.show(volume)
    view.node.JumpSliceByOffsetting(*world_of(volume, (9, 12, 7)))
    box = ((5, 20), (8, 30), (4, 9))
    assert see(view, volume, None, box).visible == ((5, 20), (8, 30), (7, 8))
    with pytest.raises(InputError, match="does not show the ROI in Jaw"):
        see(view, volume, None, ((5, 20), (8, 30), (8, 9)))


def test_a_view_beside_the_volume_is_told_in_words(views, scene, volume):
    view = views()
    view.show(volume)
    view.node.JumpSliceByOffsetting(*world_of(volume, (9, 12, 40)))
    with pytest.raises(InputError, match="TestRed does not show Jaw. Scroll"):
        see(view, volume)
    view.node.JumpSliceByCentering(*world_of(volume, (500, 12, 7)))
    with pytest.raises(InputError, match="TestRed does not show Jaw"):
        see(view, volume)


def tilt(view, degrees: float) -> None:
    import vtk

    turned = vtk.vtkTransform()
    turned.SetMatrix(view.node.GetSliceToRAS())
    turned.RotateY(degrees)
    view.node.GetSliceToRAS().DeepCopy(turned.GetMatrix())
    view.node.UpdateMatrices()


def test_a_tilted_view_is_told_with_its_angle_and_can_be_aligned(views, scene, volume):
    from CBCTSuperResLib.scene.slice_views import TiltedView

    view = views()
    view.show(volume)
    tilt(view, 7.0)
    with pytest.raises(TiltedView, match="tilted by 7 degrees"):
        see(view, volume)
    view.node.RotateToVolumePlane(volume)
    assert see(view, volume).normal == 2


def test_a_transform_that_bends_is_told_in_words(views, scene, volume):
    import vtk

    spline = vtk.vtkThinPlateSplineTransform()
    points = [vtk.vtkPoints(), vtk.vtkPoints()]
    for n, point in enumerate(((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50))):
        points[0].InsertNextPoint(point)
        points[1].InsertNextPoint([x + n for x in point])
    spline.SetSourceLandmarks(points[0])
    spline.SetTargetLandmarks(points[1])
    parent = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    parent.SetAndObserveTransformToParent(spline)
    view = views()
    view.show(volume)
    volume.SetAndObserveTransformNodeID(parent.GetID())
    with pytest.raises(InputError, match="bends"):
        see(view, volume)


def test_the_views_of_the_layout_are_offered(views, scene):
    from CBCTSuperResLib.scene.slice_views import compositeNodeOf, sliceViews

    red, green = views("TestRed"), views("TestGreen")
    assert not {red.node, green.node} & set(sliceViews(scene))
    red.node.SetMappedInLayout(False)
    green.node.SetMappedInLayout(True)
    assert green.node in sliceViews(scene) and red.node not in sliceViews(scene)
    assert compositeNodeOf(red.node) is red.composite and compositeNodeOf(green.node) is green.composite


def test_a_crosshair_that_nobody_put_anywhere_does_not_count(views, scene):
    from CBCTSuperResLib.scene.slice_views import crosshairPosition

    assert crosshairPosition(scene) is None
    node = scene.AddNewNodeByClass("vtkMRMLCrosshairNode")
    assert crosshairPosition(scene) is None
    node.SetCrosshairMode(node.ShowBasic if hasattr(node, "ShowBasic") else 1)
    assert crosshairPosition(scene).tolist() == [0, 0, 0]
    node.SetCrosshairMode(node.NoCrosshair)
    node.SetCrosshairRAS(1.0, 2.0, 3.0)
    assert crosshairPosition(scene).tolist() == [1, 2, 3]


class Preview:
    """A preview of a volume in a view, computed here."""

    def __init__(self, tmp_path, view, node, crosshair=None):
        from CBCTSuperResLib.apply.preview import Canvas, Scan
        from CBCTSuperResLib.apply.preview_request import PreviewRequest
        from CBCTSuperResLib.core.options import Options
        from CBCTSuperResLib.io.exchange import read_exchange, write_exchange
        from CBCTSuperResLib.scene.nodes import volumeFromNode
        from CBCTSuperResLib.scene.preview import PreviewDisplay
        from stub_networks import Sharpened, stub_model

        self.options = Options(window=(0.0, 4000.0), device="cpu")
        self.model = stub_model(Sharpened())
        self.seen = see(view, node, crosshair)
        request = PreviewRequest("", self.options, self.seen.normal, self.seen.visible, self.seen.focus)
        scan = Scan(write_exchange(volumeFromNode(node), tmp_path / "volume.npy"))
        picture = Canvas(tmp_path / "canvas.npy", scan, self.model, request)
        self.boxes = [picture.fill(area, lambda: False) for area in picture.areas(request.visible, request.focus)]
        self.canvas = read_exchange(tmp_path / "canvas.npy")
        self.display = PreviewDisplay(view.node, node, self.seen.normal, self.seen.thickness)

    def result(self, node):
        """The result of the whole volume."""
        from CBCTSuperResLib.apply.run import super_resolve
        from CBCTSuperResLib.scene.nodes import volumeFromNode

        return super_resolve(volumeFromNode(node), self.model, self.options)


@pytest.fixture
def preview_of(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    return lambda *arguments: Preview(tmp_path, *arguments)


@pytest.mark.parametrize("transformed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_preview_is_drawn_where_the_result_will_be(views, scene, preview_of, name, transformed):
    """Oblique, under a transform, in every view: the view draws the preview as it draws the whole result."""
    volume = add_volume(make_scan(SHAPE) if transformed else straight(make_scan(SHAPE)))
    parent = put_under_transform(volume) if transformed else None
    view = views(name)
    view.show(volume)
    view.node.JumpSliceByOffsetting(*world_of(volume, (14, 15, 16)))
    preview = preview_of(view, volume)
    preview.display.show(preview.canvas, 1.0)
    drawn = view.foreground()

    result = add_volume(preview.result(volume), "whole")
    if parent:
        result.SetAndObserveTransformNodeID(parent.GetID())
    view.composite.SetForegroundVolumeID(result.GetID())
    expected = view.foreground()
    assert np.count_nonzero(expected) > 5000
    difference = np.abs(drawn - expected)
    # The result is interpolated between slices, the preview is one slice: they agree where the view cuts its middle.
    assert np.mean(difference[expected > 0] > 2) < 0.02
    preview.display.remove()


def test_all_of_a_preview_is_drawn_although_the_view_is_slightly_tilted(views, scene, volume, preview_of):
    view = views()
    view.show(volume)
    view.node.JumpSliceByOffsetting(*world_of(volume, (14, 15, 16)))
    tilt(view, 1.9)
    preview = preview_of(view, volume)
    assert preview.seen.thickness > 1.05
    preview.display.show(preview.canvas, 1.0)
    assert np.array_equal(view.foreground() > 0, view.background() > 0)
    preview.display.remove()


def test_a_preview_between_two_slices_has_no_holes(views, scene, preview_of):
    volume = add_volume(straight(make_scan(SHAPE)))
    view = views()
    view.show(volume)
    view.node.JumpSliceByOffsetting(*world_of(volume, (14, 15, 15.5)))
    preview = preview_of(view, volume)
    preview.display.show(preview.canvas, 1.0)
    assert np.array_equal(view.foreground() > 0, view.background() > 0)
    preview.display.remove()


def volumes_and_displays(scene) -> set[str]:
    nodes = (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()))
    return {node.GetID() for node in nodes if node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLVolumeDisplayNode")}


def test_a_preview_leaves_no_trace(views, scene, volume, preview_of):
    other = add_volume(make_scan(SHAPE), "Other")
    view = views()
    view.show(volume)
    view.composite.SetForegroundVolumeID(other.GetID())
    view.composite.SetForegroundOpacity(0.3)
    before = volumes_and_displays(scene)
    preview = preview_of(view, volume)
    preview.display.show(preview.canvas, 0.8)
    node = preview.display.node
    assert view.composite.GetForegroundVolumeID() == node.GetID() and view.composite.GetForegroundOpacity() == 0.8
    assert node.GetHideFromEditors() and not node.GetSaveWithScene() and not node.GetDisplayNode().GetSaveWithScene()
    preview.display.setOpacity(0.5)
    assert view.composite.GetForegroundOpacity() == 0.5
    preview.display.remove()
    preview.display.remove()
    assert volumes_and_displays(scene) == before
    assert view.composite.GetForegroundVolumeID() == other.GetID() and view.composite.GetForegroundOpacity() == 0.3


def test_what_others_put_into_the_foreground_stays(views, scene, volume, preview_of):
    view = views()
    view.show(volume)
    preview = preview_of(view, volume)
    preview.display.show(preview.canvas, 1.0)
    other = add_volume(make_scan(SHAPE), "Other")
    view.composite.SetForegroundVolumeID(other.GetID())
    view.composite.SetForegroundOpacity(0.4)
    preview.display.setOpacity(0.9)
    preview.display.remove()
    assert view.composite.GetForegroundVolumeID() == other.GetID() and view.composite.GetForegroundOpacity() == 0.4


def test_a_foreground_that_is_gone_by_then_is_not_brought_back(views, scene, volume, preview_of):
    other = add_volume(make_scan(SHAPE), "Other")
    view = views()
    view.show(volume)
    view.composite.SetForegroundVolumeID(other.GetID())
    preview = preview_of(view, volume)
    preview.display.show(preview.canvas, 1.0)
    scene.RemoveNode(other)
    preview.display.remove()
    assert view.composite.GetForegroundVolumeID() is None


def test_a_preview_looks_like_its_input(views, scene, volume, preview_of):
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevel(700, 400)
    view = views()
    view.show(volume)
    preview = preview_of(view, volume)
    preview.display.show(preview.canvas, 1.0)
    shown = preview.display.node.GetDisplayNode()
    assert (shown.GetWindow(), shown.GetLevel()) == (700, 400)
    volume.GetDisplayNode().SetWindowLevel(800, 500)
    parent = put_under_transform(volume)
    preview.display.followInput()
    assert (shown.GetWindow(), shown.GetLevel()) == (800, 500)
    assert preview.display.node.GetParentTransformNode() is parent
    preview.display.remove()


def test_a_block_that_comes_is_shown(views, scene, volume, preview_of):
    view = views()
    view.show(volume)
    preview = preview_of(view, volume)
    preview.display.show(preview.canvas, 1.0)
    before = view.foreground()
    from CBCTSuperResLib.io.volume import Volume

    brighter = Volume(preview.canvas.voxels + 500, preview.canvas.grid)
    rows, columns = preview.canvas.voxels.shape[1:]
    preview.display.update(brighter, (slice(0, 1), slice(0, rows // 2), slice(0, columns)))
    added = view.foreground() - before
    assert 0.3 < np.mean(added[before > 0] > 400) < 0.7
    preview.display.remove()


def test_a_scene_that_closed_takes_the_preview_with_it(views, scene, volume, preview_of):
    view = views()
    view.show(volume)
    preview = preview_of(view, volume)
    preview.display.show(preview.canvas, 1.0)
    scene.Clear(0)
    preview.display.update(preview.canvas, preview.boxes[0])
    preview.display.setOpacity(0.2)
    preview.display.followInput()
    preview.display.remove()
    assert preview.display.node is None
