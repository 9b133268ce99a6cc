"""Networks that are told blur and noise of the scan, from the training to the model that is applied."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from CBCTSuperResLib.acquisition.phantom import FINE_BLUR, jaw_phantom  # noqa: E402
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, Acquisition, gaussian_blur  # noqa: E402
from CBCTSuperResLib.apply.conditions import cautious  # noqa: E402
from CBCTSuperResLib.apply.engine import Engine  # noqa: E402
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles  # noqa: E402
from CBCTSuperResLib.core.errors import ModelError  # noqa: E402
from CBCTSuperResLib.core.volume import Grid  # noqa: E402
from CBCTSuperResLib.io.volume import Volume  # noqa: E402
from CBCTSuperResLib.models.model import Model  # noqa: E402
from CBCTSuperResLib.networks import build_network  # noqa: E402
from CBCTSuperResLib.train.data.source import open_images, open_source  # noqa: E402
from CBCTSuperResLib.train.export import export_run  # noqa: E402
from CBCTSuperResLib.train.options_file import read_options  # noqa: E402
from CBCTSuperResLib.train.run import train  # noqa: E402
from CBCTSuperResLib.train.starting_weights import starting_weights  # noqa: E402
from options_files import tiny  # noqa: E402
from stub_networks import stub_model  # noqa: E402

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


def test_a_model_that_was_told_nothing_begins_one_that_is_and_hears_nothing_yet(tmp_path):
    silent = {name: value for name, value in NETWORK.items() if name not in ("which_model_G", "conditions")}
    silent, hears = {**silent, "slices": 1}, {"conditions": ["blur", "noise"]}
    for unshuffle in (1, 2):
        first = build_network("residual", **{**silent, "unshuffle": unshuffle})
        path = stub_model(first).save(tmp_path / f"first{unshuffle}.safetensors")
        network = build_network("residual", **{**silent, "unshuffle": unshuffle, **hears})
        report = starting_weights(network, path)
        assert "told no blur and noise: head.weight begins deaf" in str(report) and report.used == report.total
        image, found = torch.rand(1, 3, 12, 12), {}
        for blur in (0.1, 0.9):
            told = {"blur": torch.full((1, 2), blur), "noise": torch.full((1, 1), 0.03)}
            found[blur] = network(image, told)["sr"]
        assert torch.equal(found[0.1], found[0.9])
        assert torch.allclose(found[0.1], first(image)["sr"], atol=1e-6)
    with pytest.raises(ModelError, match="do not fit"):
        starting_weights(build_network("residual", **{**silent, "nf": 3, **hears}), path)


def test_a_network_of_more_features_begins_as_the_narrower_one_and_uses_the_others_after_a_step(tmp_path):
    options = {name: value for name, value in NETWORK.items() if name != "which_model_G"} | {"slices": 1}
    narrow = build_network("residual", **options)
    path = stub_model(narrow).save(tmp_path / "narrow.safetensors")
    wide = build_network("residual", **{**options, "nf": 7})
    assert "It has 4 features: 3 more begin unused" in str(starting_weights(wide, path))
    image, told = torch.rand(1, 3, 12, 12), {"blur": torch.full((1, 2), 0.4), "noise": torch.full((1, 1), 0.03)}
    assert torch.allclose(wide(image, told)["sr"], narrow(image, told)["sr"], atol=1e-6)
    optimizer = torch.optim.SGD(wide.parameters(), 0.1)
    wide(image, told)["sr"].square().mean().backward()
    optimizer.step()
    assert all(wide.state_dict()[name][:4, 4:7].any() for name in ("blocks.0.conv1.weight", "tail.weight"))
    others = {"nb": 2}, {"scale": 3}, {"scale": 1}, {"unshuffle": 1}, {"in_nc": 5, "slices": 2}
    for other in others:
        network = build_network("residual", **{**options, "nf": 7, **other})
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with pytest.raises(ModelError, match="do not fit"):
            starting_weights(network, path)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items()), other


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A fine jaw and its scan of blur 0.7 and noise 2 %, in files."""
    folder = tmp_path_factory.mktemp("pairs")
    fine = gaussian_blur(jaw_phantom((6, 160, 160), 0.1, 901), FINE_BLUR, ALL_AXES)
    for name, voxels in (("HR", fine), ("LR", Acquisition(blur=1.4, noise=0.02).degrade(fine, 1, clip=False))):
        path = folder / name / "jaw.nrrd"
        path.parent.mkdir()
        spacing = (0.2, 0.2, 0.1) if name == "LR" else (0.1,) * 3
        Volume((1000 + 1000 * voxels).astype(np.float32), Grid(voxels.shape[::-1], spacing)).write(path)
    return {"mode": "LRHR", "dataroot_HR": str(folder / "HR"), "dataroot_LR": str(folder / "LR")}


def test_of_pairs_of_scans_a_network_is_told_what_each_lr_tells(pairs):
    pairs = {**pairs, "normalization_range": [1000, 2000]}
    train = {**pairs, "batch_size": 4, "HR_size": 32, "use_contrast": False}
    read = read_options(tiny(network_G=NETWORK, train=LOSSES, datasets={"train": train, "val": {**pairs, "name": "v"}}))
    source = open_source(read.dataset("train"), read)
    batch = source.batch([2, 3], [np.random.default_rng(n) for n in range(2)])
    assert batch["blur"].shape == (2, 2) and batch["noise"].shape == (2, 1)
    np.testing.assert_allclose(batch["blur"], cautious(np.array(0.7)), atol=0.15)
    np.testing.assert_allclose(batch["noise"], 0.02, rtol=0.2)
    image = open_images(read.dataset("val"), read)[2]
    assert image.blur == pytest.approx(batch["blur"][0].tolist())
    assert image.noise == pytest.approx(float(batch["noise"][0]))
