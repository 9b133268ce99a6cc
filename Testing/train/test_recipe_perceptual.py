"""The recipe of slices that tell how sure they are: its losses, its original's keys, going on where it stopped."""

from __future__ import annotations

import hashlib
import json
import zlib
from math import prod

import numpy as np
import pytest
import torch
from CBCTSuperResLib.core.errors import Cancelled, OptionError
from CBCTSuperResLib.core.resources import resource
from CBCTSuperResLib.io.pictures import write_picture
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks.vgg import VGG16
from CBCTSuperResLib.train import run
from CBCTSuperResLib.train.checkpoints import read_checkpoint
from CBCTSuperResLib.train.checks import missing
from CBCTSuperResLib.train.export import export_run
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.recipes.perceptual import gaussian_nll
from CBCTSuperResLib.train.recipes.recipe import build_recipe
from fixtures_spsr import unit
from tiny_runs import same_payload
from torch.nn import functional as F


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(run, "standard_observers", lambda options: [])


def values_of(root, **changes) -> dict:
    """The JSON of a training of seconds on drawn slices; `changes` are keys by their places."""
    values = {
        "name": "tiny",
        "use_tb_logger": False,
        "model": "perceptual",
        "scale": 2,
        "gpu_ids": [],
        "datasets": {
            "train": {"mode": "HR", "procedural": 4, "HR_size": 16, "batch_size": 2, "n_workers": 0},
            "val": {"mode": "HR", "procedural": 1},
        },
        "path": {"root": str(root)},
        "network_G": {"nf": 4, "nb": 1, "log_variance": True, "dropout": 0.2},
        "train": {"niter": 4, "val_freq": 2, "ema_decay": 0.9, "manual_seed": 3},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "val_images": 0},
    }
    for place, value in changes.items():
        block, _, name = place.rpartition(".")
        target = values
        for part in filter(None, block.split(".")):
            target = target[part]
        target[name] = value
    return values


def options_of(root, **changes):
    return read_options(values_of(root, **changes))


def checkpoint(folder, step: int) -> dict:
    payload = read_checkpoint(folder / "training_state" / f"{step}.state")
    payload["options"]["path"].pop("root")
    return payload


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run to its end, and another that was stopped and went on."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "standard_observers", lambda options: [])
        whole = run.train(options_of(root / "whole"))
        asked, stopped = iter(range(9)), options_of(root / "stopped")
        with pytest.raises(Cancelled, match="after step 3 of 4"):
            run.train(stopped, cancelled=lambda: next(asked) >= 3)
        torch.manual_seed(99)
        return whole, run.train(stopped, resume="auto")


def test_a_training_goes_on_bit_for_bit_where_it_was_stopped(finished):
    whole, resumed = finished
    assert same_payload(checkpoint(resumed.folder, 4), checkpoint(whole.folder, 4))
    assert resumed.results == whole.results
    assert {"psnr", "psnr_cubic", "nll", "coverage"} <= set(whole.results["best"])


def test_its_model_tells_error_bars_which_apply_writes(finished, tmp_path):
    from CBCTSuperResLib import Options, Volume, super_resolve
    from CBCTSuperResLib.core.volume import Grid

    model = Model.load(export_run(finished[0].folder, tmp_path / "m.safetensors", halo=False, device="cpu"))
    assert model.spec.stochastic and "log_variance" in model.spec.outputs.values()
    assert model.card.training["losses"] == {"mse": 1.0, "Gaussian likelihood of the error": 1.0}
    voxels = np.random.default_rng(0).integers(0, 60000, (2, 20, 18)).astype(np.uint16)
    result = super_resolve(Volume(voxels, Grid((18, 20, 2), (0.2,) * 3)), model, Options(uncertainty=3, device="cpu"))
    assert set(result.error_bars) == {"predictive deviation", "intrinsic deviation", "parameter deviation"}
    assert all(volume.voxels.mean() > 0 for volume in result.error_bars.values())


def steps_of(options):
    recipe = build_recipe(options)
    torch.manual_seed(0)
    networks = recipe.build()
    optimizers = recipe.optimizers(networks)
    precision = run.Precision("float32", torch.device("cpu"))
    return recipe, networks, run.Steps(recipe.step, networks, optimizers, precision, run.Processes())


def batch_of(options):
    source = build_recipe(options).open_source()
    return source.batch([0, 1], [np.random.default_rng(n) for n in (0, 1)])


def test_the_image_learns_by_squared_differences_and_the_bars_by_the_likelihood_of_its_error(tmp_path):
    options = options_of(tmp_path, **{"network_G.dropout": 0.0})
    _, networks, steps = steps_of(options)
    batch = batch_of(options)
    with torch.no_grad():
        output = networks["G"](batch["LR"])
    logs = [steps.make(number, [batch]) for number in range(1, 40)]
    assert float(logs[0]["l_g_pix"]) == pytest.approx(float(F.mse_loss(output["sr"], batch["HR"])), rel=1e-5)
    expected = gaussian_nll(output["sr"], output["log_variance"], batch["HR"])
    assert float(logs[0]["l_g_nll"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(logs[-1]["l_g_total"]) < float(logs[0]["l_g_total"])


def test_the_likelihood_takes_the_image_as_given_while_both_learn_the_features_they_share(tmp_path):
    found = []
    for has_bars in (False, True):
        options = options_of(tmp_path, **{"network_G.dropout": 0.0, "network_G.log_variance": has_bars})
        _, networks, steps = steps_of(options)
        with torch.no_grad():
            for name, parameter in networks["G"].named_parameters():
                values = unit(parameter.shape, zlib.crc32(name.encode())) - 0.5
                parameter.copy_(torch.from_numpy(0.2 * values))
        steps.make(1, [batch_of(options)])
        found.append(networks["G"].state_dict())
    assert torch.equal(found[0]["head.weight"], found[1]["head.weight"])
    assert not torch.equal(found[0]["stem.conv.weight"], found[1]["stem.conv.weight"])


def test_the_gaussian_likelihood_is_least_where_the_variance_is_the_errors():
    truth = torch.from_numpy(unit((1, 1, 40, 40), 5) - 0.5)
    image, spread = torch.zeros_like(truth), float(truth.square().mean().log())
    values = [float(gaussian_nll(image, torch.full_like(truth, spread + off), truth)) for off in (-0.1, 0, 0.1)]
    assert values[1] == pytest.approx(0.5 + 0.5 * spread) and min(values) == values[1]


def test_bars_alone_leave_the_image_of_a_finished_model_bit_for_bit(tmp_path):
    plain = options_of(tmp_path / "plain", **{"network_G.log_variance": False, "network_G.dropout": 0.0})
    folder = run.train(plain).folder
    start = tmp_path / "plain.safetensors"
    export_run(folder, start, halo=False, device="cpu")
    changes = {"network_G.dropout": 0.0, "train.bars_alone": True, "path.pretrain_model_G": str(start)}
    found = run.train(options_of(tmp_path / "bars", **changes))
    bars, before = Model.load(found.folder / "models" / "latest_G.safetensors"), Model.load(start)
    x = torch.rand(1, 1, 20, 20)
    assert torch.equal(bars.network(x)["sr"], before.network(x)["sr"])
    assert "nll" in found.results["best"]
    with pytest.raises(OptionError, match="no model is named"):
        build_recipe(options_of(tmp_path, **{"train.bars_alone": True}))
    with pytest.raises(OptionError, match="has no log-variance"):
        build_recipe(options_of(tmp_path, **{"train.bars_alone": True, "network_G.log_variance": False}))


def filled_vgg() -> VGG16:
    network = VGG16().double()
    for name, tensor in network.features.state_dict().items():
        u = unit(tensor.shape, zlib.crc32(name.encode())) - 0.5
        values = u * 2 * np.sqrt(2) * np.sqrt(3 / prod(tensor.shape[1:])) if tensor.ndim > 1 else 0.1 * u
        tensor.copy_(torch.from_numpy(values.astype(np.float32)))
    return network


def test_the_feature_networks_layers_give_the_published_numbers():
    """Through the layers alone: the published program subtracts other means, and gives blue first."""
    network = filled_vgg()
    assert sum(p.numel() for p in network.parameters()) == 260160

    def seen(image):
        image = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 1)))
        return network.features((image - torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1).double()).flip(1))

    y = unit((2, 48, 40, 3), 93) * 255
    p = 0.8 * y + 0.2 * 255 * unit((2, 48, 40, 3), 94)
    features = seen(y)
    flat = features.flatten()
    numbers = [float(v) for v in (flat.mean(), flat.std(correction=0), flat[0], flat[flat.numel() // 2], flat[-1])]
    assert numbers == pytest.approx([51.733983, 75.117077, 62.196491, 22.269983, 199.01036], rel=1e-7)
    assert float(F.mse_loss(seen(p), features)) == pytest.approx(589.63473, rel=1e-7)


def test_the_perceptual_loss_compares_features_and_is_refused_without_their_weights(tmp_path):
    without = options_of(tmp_path, **{"train.loss": "perceptual"})
    (text,) = missing(without)
    assert "vgg16-397923af.pth" in text and "train.loss=mse" in text
    with pytest.raises(OptionError, match="perceptual loss.*VGG16"):
        build_recipe(without)
    file = tmp_path / "vgg.pth"
    torch.save({f"features.{name}": t.float() for name, t in filled_vgg().features.state_dict().items()}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    file = file.rename(tmp_path / f"vgg16-{digest}.pth")
    changes = {"train.loss": "perceptual", "path.feature_weights": str(file), "network_G.dropout": 0.0}
    options = options_of(tmp_path, **changes)
    recipe, networks, steps = steps_of(options)
    batch, vgg = batch_of(options), recipe.frozen["feature"]
    with torch.no_grad():
        expected = F.mse_loss(vgg(networks["G"](batch["LR"])["sr"]), vgg(batch["HR"]))
    logs = steps.make(1, [batch])
    assert float(logs["l_g_fea"]) == pytest.approx(float(expected), rel=1e-4) and "l_g_pix" not in logs


def test_the_keys_of_the_original_stand_for_ours(tmp_path):
    for folder, kind, size in (("train", "bssfp", 96), ("train", "bssfp_lowres", 24)):
        (tmp_path / folder / kind).mkdir(parents=True)
        for number in range(5):
            write_picture(np.full((size, size), 1000, np.uint16), tmp_path / folder / kind / f"{number}.png")
    given = {
        **{"mode": "TS", "loss": "mse", "upscale_factor": 4, "LR_input_size": 24, "batch_size": 2},
        **{"init_epoch": 1, "num_epoch": 3, "train_data_dir": str(tmp_path / "train"), "load_weight_dir": "None"},
        **{"save_weight_dir": str(tmp_path / "out"), "log_dir": str(tmp_path / "log")},
    }
    options = read_options({"model": "perceptual", **given})
    train = options.dataset("train")
    assert (options.scale, train.HR_size, train.batch_size) == (4, 96, 2)
    assert options.network_G.options.upsampling == "TS" and options.train.loss == "mse"
    assert options.train.niter == 2 * 3  # two epochs of five images, two at a time
    assert train.dataroot_HR == (f"{tmp_path}/train/bssfp",) and train.dataroot_LR == (
        f"{tmp_path}/train/bssfp_lowres",
    )
    assert options.path.root == str(tmp_path / "out") and options.path.log_dir == str(tmp_path / "log")
    assert options.path.pretrain_model_G is None
    test = read_options({"model": "perceptual", "test_data_dir": "data", "HR_folder": "fine"}, is_train=False)
    assert test.dataset("test_1").dataroot_HR == ("data/fine",)
    for wrong, words in (
        ({"mode": "XX"}, "upsampling"),
        ({"upscale_factor": 3}, "2, 4 or 8"),
        ({"init_epoch": 9}, "niter"),
        ({"train": {"loss": "mse"}}, "given twice"),
    ):
        with pytest.raises(OptionError, match=words):
            read_options({"model": "perceptual", **given, **wrong})


def test_colour_images_are_refused(tmp_path):
    with pytest.raises(OptionError, match="in_nc"):
        options_of(tmp_path, **{"network_G.in_nc": 3, "network_G.out_nc": 3})


def test_the_four_models_of_the_table_are_ready_files():
    found = {}
    for name in ("vgg-ts", "vgg-nn", "mse-ts", "mse-nn"):
        options = read_options(resource(f"Configurations/perceptual-{name}.json"))
        network = options.network_G.options
        found[name] = options.train.loss, network.upsampling
        assert (network.layout, options.scale, options.train.niter) == ("published", 4, 20 * 63)
        assert json.loads(json.dumps(options.to_json())) == options.to_json()
    assert found == {
        "vgg-ts": ("perceptual", "TS"), "vgg-nn": ("perceptual", "NN"), "mse-ts": ("mse", "TS"), "mse-nn": ("mse", "NN")
    }  # fmt: skip


def test_batch_norm_is_not_computed_in_parts(tmp_path):
    changes = {"network_G.layout": "published", "network_G.log_variance": False, "network_G.dropout": 0.0}
    recipe = build_recipe(options_of(tmp_path, **changes))
    assert not recipe.may_be_in_parts and build_recipe(options_of(tmp_path)).may_be_in_parts
    with pytest.raises(OptionError, match="batch norm"):
        recipe.check(2, "cpu")
