"""A result as a run leaves it in the scene, and what the slice views show of it."""

from __future__ import annotations

import json

import numpy as np

FIGURES = [
    {"key": "noise", "label": "Noise", "text": "30 before, 10 after", "hint": "Less is calmer.", "attention": False},
    {"key": "consistency", "label": "Agreement", "text": "3 x noise", "hint": "About 1 is good.", "attention": True},
]
REPORT = {
    "warnings": ["The pixels are not square."],
    "seconds": {"reading": 1.0, "computing": 41.0},
    "super_resolution": {
        "model": "tiny",
        "planes": "axial",
        "window": [0, 4000],
        "output_size": [56, 48, 4],
        "output_spacing_mm": [0.125, 0.125, 0.3],
        "device": "CPU",
        "quality": {"figures": FIGURES, "warnings": ["It contradicts the scan."], "assumptions": "On 4 slices."},
    },
}


def make_result(name="Jaw SR x2", report=REPORT):
    import slicer
    from CBCTSuperResLib.io.volume import Volume
    from CBCTSuperResLib.scene.nodes import (
        createOutputNode,
        fillNode,
        placeBeside,
        recordProvenance,
        volumeFromNode,
    )

    scan = slicer.util.getNode("Jaw")
    volume = volumeFromNode(scan)
    voxels = np.repeat(np.repeat(volume.voxels, 2, axis=1), 2, axis=2)
    node = createOutputNode(scan, name)
    placeBeside(scan, node)
    for _ in fillNode(node, Volume(voxels, volume.grid.resampled((56, 48, 4)))):
        pass
    recordProvenance(scan, node, {"report": json.dumps(report)})
    return node


def views():
    """What every slice view shows, and how."""
    import slicer

    shown = {}
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        shown[composite.GetName()] = (
            composite.GetBackgroundVolumeID(),
            composite.GetForegroundVolumeID(),
            composite.GetLabelVolumeID(),
            composite.GetForegroundOpacity(),
            composite.GetCompositing(),
            composite.GetLinkedControl(),
            composite.GetHotLinkedControl(),
        )
    for place in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        matrix = slicer.util.arrayFromVTKMatrix(place.GetSliceToRAS())
        shown[f"{place.GetName()} place"] = (matrix.tolist(), place.GetFieldOfView(), place.GetXYZOrigin())
    return shown


def view(name):
    import slicer

    logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
    return logic.GetSliceNode(), logic.GetSliceCompositeNode()


def arrange(layout, background):
    """Make the views look as no default does."""
    layout.setLayout(6)
    place, composite = view("Yellow")
    place.SetOrientation("Coronal")
    place.SetFieldOfView(31.0, 17.0, 1.0)
    composite.SetForegroundVolumeID(background.GetID())
    composite.SetForegroundOpacity(0.3)
    composite.SetCompositing(1)
    place, composite = view("Red")
    composite.SetBackgroundVolumeID(background.GetID())
    composite.SetLinkedControl(True)
    place.SetFieldOfView(40.0, 40.0, 1.0)
    place.SetSliceOffset(12.5)
