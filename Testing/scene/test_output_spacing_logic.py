"""A voxel size that is asked for in the console: the node that comes out, its name, its place and its model."""

from __future__ import annotations

import pytest
from apply_helpers import add_scan
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.models.folder import DEFAULT_MODEL, user_models_folder
from stub_networks import interpolating_points, register, stub_model


def test_a_node_of_thick_slices_becomes_cubic_with_a_model_that_makes_it(scene, monkeypatch):
    from CBCTSuperResLib.scene.logic import SuperResLogic
    from CBCTSuperResLib.scene.nodes import reportOf

    register(monkeypatch)
    stub_model(interpolating_points(), name="zebra").save(user_models_folder() / "zebra.safetensors")
    node, logic = add_scan("Jaw", (6, 20, 22)), SuperResLogic()
    node.SetSpacing(0.3, 0.3, 0.9)
    output = logic.process(node, inProcess=True, output_spacing="cubic", device="cpu")
    assert output.GetName() == "Jaw SR cubic" and output.GetImageData().GetDimensions() == (22, 20, 18)
    assert output.GetSpacing() == pytest.approx((0.3, 0.3, 0.3))
    bounds = [[0.0] * 6, [0.0] * 6]
    node.GetBounds(bounds[0])
    output.GetBounds(bounds[1])
    assert bounds[0] == pytest.approx(bounds[1], abs=0.61), "centres of voxels differ by half of what became thinner"
    run = reportOf(output)["super_resolution"]
    assert run["scale"] == [1, 1, 3] and run["model"] != DEFAULT_MODEL
    named = logic.process(node, inProcess=True, model="zebra", output_spacing=(0.15, 0.3, 0.45), device="cpu")
    assert named.GetName() == "Jaw SR 0.15x0.3x0.45 mm" and named.GetImageData().GetDimensions() == (44, 20, 12)
    with pytest.raises(OptionError, match="Both a factor and a voxel size"):
        logic.start(node, output_spacing=0.3, scale=2)
    with pytest.raises(OptionError, match="slices by 2, not by 1 x 1 x 3"):
        logic.start(node, model=DEFAULT_MODEL, output_spacing=0.3)
