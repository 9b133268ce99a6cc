"""Networks that are told blur and noise of the scan, from the training to the model that is applied."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from CBCTSuperResLib.apply.engine import Engine  # noqa: E402
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles  # noqa: E402
from CBCTSuperResLib.core.errors import OptionError  # noqa: E402
from CBCTSuperResLib.models.model import Model  # noqa: E402
from CBCTSuperResLib.train.export import export_run  # noqa: E402
from CBCTSuperResLib.train.options_file import read_options  # noqa: E402
from CBCTSuperResLib.train.run import train  # noqa: E402
from options_files import tiny  # noqa: E402

NETWORK = {"which_model_G": "residual_net", "nf": 4, "nb": 1, "in_nc": 3, "out_nc": 1}
NETWORK |= {"unshuffle": 2, "conditions": ["blur", "noise"]}
LOSSES = {"pixel_branch_weight": 0, "gan_weight": 0, "gradient_gan_weight": 0, "feature_weight": 0, "niter": 3}


def options(tmp_path, **changes):
    values = tiny(path={"root": str(tmp_path)}, network_G=NETWORK, train={**LOSSES, "val_freq": 3}, **changes)
    values["datasets"]["train"] |= {"degradation": "physical", "degradation_options": {"blur": [0.2, 2.0]}}
    values["datasets"]["val"] |= {"degradation": "physical"}
    return read_options(values)


def test_a_network_that_is_told_is_trained_validated_exported_and_run(tmp_path):
    result = train(options(tmp_path))
    assert result.step == 3 and result.results["latest"]["psnr"] > 10
    model = Model.load(export_run(result.folder, tmp_path / "told.safetensors", "latest"))
    assert model.spec.conditions == ("blur", "noise") and model.card.usual_conditions[0] == pytest.approx(0.425)
    with torch.no_grad():  # three steps leave hardly a trace of what was told
        model.network.head.weight.mul_(8)
        model.network.tail.weight.mul_(8)
    image = np.random.default_rng(0).random((3, 20, 20), np.float32)
    found = {}
    for blur, noise in ((0.3, 0.0), (0.9, 0.0), (0.3, 0.05)):
        axes = [Axis(20, 0, 20, 40, blur=blur)] * 2
        engine = Engine(model.network, model.spec, "cpu", "fp32", noise=noise)
        found[blur, noise] = engine.run(image, axes, *plan_tiles(axes, None, 0))
    first, *others = found.values()
    assert first.shape == (40, 40) and all(np.abs(first - other).max() > 1e-4 for other in others)


def test_pairs_of_scans_cannot_tell_a_network_their_blur(tmp_path):
    pairs = {"mode": "LRHR", "dataroot_LR": "a", "dataroot_HR": "b", "batch_size": 4, "HR_size": 32}
    with pytest.raises(OptionError, match=r"network_G\.conditions"):
        read_options(tiny(network_G=NETWORK, train=LOSSES, datasets={"train": pairs}))
