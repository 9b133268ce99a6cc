"""The recipe of networks of any real factor: its options, data, step, validation, and going on where it was stopped."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from CBCTSuperResLib.core.errors import Cancelled, InputError, ModelError, OptionError
from CBCTSuperResLib.core.resources import resource
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train import run
from CBCTSuperResLib.train import test as evaluation
from CBCTSuperResLib.train.checkpoints import read_checkpoint
from CBCTSuperResLib.train.export import export_run
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.plan import plan
from CBCTSuperResLib.train.recipes.arssr import visible_lattice
from CBCTSuperResLib.train.recipes.recipe import build_recipe
from tiny_runs import same_payload

SHAPE = (44, 48, 52)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(run, "standard_observers", lambda options: [])


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Folders of volumes: HR, and one whose voxels are larger."""
    root, rng = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    for folder, names in (("HR", ("a",)), ("two", ("a", "b"))):
        (root / folder).mkdir()
        for spacing, name in zip((0.1, 0.3), names, strict=False):
            field = cv2.GaussianBlur(rng.random(SHAPE).transpose(1, 2, 0), (0, 0), 1.5).transpose(2, 0, 1)
            field = (field - field.min()) / (field.max() - field.min())
            voxels = np.rint(field * 3000 - 1000).astype(np.int16)
            Volume(voxels, Grid(SHAPE[::-1], (spacing,) * 3)).write(root / folder / f"{name}.nrrd")
    return root


def values_of(scans, root, **train) -> dict:
    return {
        "name": "tiny",
        "use_tb_logger": False,
        "model": "arssr",
        "gpu_ids": [],
        "datasets": {
            "train": {
                "dataroot_HR": str(scans / "HR"),
                "normalization_range": [-1000, 2000],
                "n_workers": 0,
                "batch_size": 4,
                "micro_batch": 2,
                "HR_size": 24,
            },
            "val": {"dataroot_HR": str(scans / "HR")},
        },
        "path": {"root": str(root)},
        "network_G": {
            "encoder_name": "ResCNN",
            "encoder_width": 4,
            "encoder_blocks": 1,
            "feature_dim": 4,
            "decoder_depth": 4,
            "decoder_width": 8,
            "conditions": ["blur", "noise"],
        },
        "train": {"ss": 216, "niter": 4, "val_freq": 2, "ema_decay": 0.9, "val_size": 24, **train},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2},
    }


def options_of(scans, root, **train):
    return read_options(values_of(scans, root, **train))


def checkpoint(folder, step: int) -> dict:
    payload = read_checkpoint(folder / "training_state" / f"{step}.state")
    payload["options"]["path"].pop("root")
    return payload


def test_a_training_goes_on_bit_for_bit_where_it_was_stopped_and_its_model_knows_its_range(scans, tmp_path):
    whole = run.train(options_of(scans, tmp_path / "whole", lr_G=1e-3))
    asked = iter(range(9))
    stopped = options_of(scans, tmp_path / "stopped", lr_G=1e-3)
    with pytest.raises(Cancelled, match="after step 3 of 4"):
        run.train(stopped, cancelled=lambda: next(asked) >= 3)
    torch.manual_seed(99)
    resumed = run.train(stopped, resume="auto")
    assert same_payload(checkpoint(resumed.folder, 4), checkpoint(whole.folder, 4))
    assert resumed.results == whole.results
    assert {"psnr", "psnr_cubic", "psnr_x3", "psnr_cubic_x3"} <= set(whole.results["best"])

    model = Model.load(export_run(whole.folder, tmp_path / "m.safetensors", halo=False, device="cpu"))
    assert model.spec.scale_range == ((1.0, 4.0),) * 3 and model.spec.conditions == ("blur", "noise")
    card = model.card
    assert card.window == (-1000, 2000) and card.voxel_size_mm == (0.1, 0.4)
    assert "encoder_name ResCNN" in card.summary and "adversarial" not in card.limits
    assert card.training["losses"] == {"pixel": 1.0}


def test_a_step_is_the_mean_difference_at_the_places_and_adam_follows_it(scans, tmp_path):
    recipe = build_recipe(options_of(scans, tmp_path))
    torch.manual_seed(0)
    networks = recipe.build()
    steps = run.Steps(
        recipe.step,
        networks,
        recipe.optimizers(networks),
        run.Precision("float32", torch.device("cpu")),
        run.Processes(),
    )
    batch = recipe.open_source().batch([0, 0], [np.random.default_rng(n) for n in (0, 1)])
    assert batch["LR"].shape == (2, 1, 6, 6, 6) and batch["HR"].shape == (2, 1, 6, 6, 6)
    assert batch["positions"].shape == (2, 3, 6) and batch["noise"].shape == (2, 1)
    with torch.no_grad():
        differences = []
        for n in range(2):
            told = {name: batch[name][n : n + 1] for name in ("blur", "noise")}
            found = networks["G"](batch["LR"][n : n + 1], told, list(batch["positions"][n]))["sr"]
            differences.append((found - batch["HR"][n : n + 1]).abs().mean())
    losses = [float(steps.make(number, [batch])["l_g_pix"]) for number in range(1, 30)]
    assert losses[0] == pytest.approx(float(sum(differences) / 2), rel=1e-5)
    assert losses[-1] < losses[0]


def test_errors_that_repeat_with_the_voxels_of_the_scan_are_seen_apart_from_others(scans, tmp_path):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 12, 12, 12, generator=generator)
    positions = (torch.arange(12.0) / 3).expand(1, 3, 12)  # voxels of the scan, four along each axis
    alone = float(visible_lattice(noise, positions))
    for axis in range(3):
        for wavelength in (1, 2):
            along = [1, 1, 1, 1, 1]
            along[axis + 2] = 12
            wave = torch.cos(2 * torch.pi / wavelength * positions[0, axis] + 0.3).view(along)
            assert float(visible_lattice(noise + wave, positions)) > 0.1 > 5 * alone, (axis, wavelength)
    assert float(visible_lattice(noise + 3, positions)) < 0.02

    losses = {}
    for weight in (0.0, 50.0):
        recipe = build_recipe(options_of(scans, tmp_path, lattice_weight=weight))
        torch.manual_seed(0)
        networks = recipe.build()
        precision = run.Precision("float32", torch.device("cpu"))
        steps = run.Steps(recipe.step, networks, recipe.optimizers(networks), precision, run.Processes())
        batch = recipe.open_source().batch([0, 0], [np.random.default_rng(n) for n in (0, 1)])
        losses[weight] = steps.make(1, [batch])
        assert recipe.card_facts()["losses"].get("lattice", 0.0) == weight
    assert losses[0.0]["l_g_pix"] == losses[50.0]["l_g_pix"] and float(losses[50.0]["l_g_lattice"]) > 0
    assert "l_g_lattice" not in losses[0.0]


def test_one_factor_is_drawn_for_a_sample_or_one_for_each_axis(scans, tmp_path):
    found = {}
    for per_axis in (False, True):
        train = {"scale_per_axis": per_axis, "scale_range": [1.5, 3.5]}
        source = build_recipe(options_of(scans, tmp_path, **train)).open_source()
        batch = source.batch([0] * 8, [np.random.default_rng(n) for n in range(8)])
        factors = 1 / (batch["positions"][:, :, 1] - batch["positions"][:, :, 0])
        assert factors.min() >= 1.499 and factors.max() <= 3.501 and factors[:, 0].std() > 0.1
        found[per_axis] = float((factors[:, 0] - factors[:, 2]).abs().max())
    assert found[False] < 1e-3 < 0.1 < found[True]


def test_the_keys_of_the_original_stand_for_ours(scans, tmp_path):
    values = values_of(scans, tmp_path)
    for name in ("niter", "ss"):
        values["train"].pop(name)
    for name in ("encoder_name", "decoder_depth", "decoder_width", "feature_dim"):
        values["network_G"].pop(name)
    values["datasets"] = {"train": {"normalization_range": [-1000, 2000]}}
    values["logger"] = {}
    values.pop("gpu_ids")
    original = {
        "encoder_name": "SRResNet",
        "decoder_depth": 6,
        "decoder_width": 32,
        "feature_dim": 16,
        "hr_data_train": str(scans / "HR"),
        "hr_data_val": str(scans / "two"),
        "lr": 2e-4,
        "lr_decay_epoch": 200,
        "epoch": 700,
        "summary_epoch": 100,
        "bs": 10,
        "gpu": 0,
    }
    options = read_options({**values, **original}, ["ss=4000"])
    network, data = options.network_G.options, options.dataset("train")
    assert (network.encoder_name, network.decoder_depth, network.decoder_width, network.feature_dim) == (
        "SRResNet",
        6,
        32,
        16,
    )
    assert data.dataroot_HR == (str(scans / "HR"),) and options.dataset("val").dataroot_HR == (str(scans / "two"),)
    assert options.train.lr_G == 2e-4 and options.train.ss == 4000 and options.gpu_ids == (0,)
    assert data.batch_size == 10 and data.mode == options.dataset("val").mode == "HR"
    epoch = 468  # 4680 patches by tens
    assert options.train.niter == 700 * epoch and options.train.lr_steps == (200 * epoch, 400 * epoch, 600 * epoch)
    assert options.logger.save_checkpoint_freq == 100 * epoch
    own = read_options({**values, **original, "epoch_size": 25}, ["ss=4000"])
    assert own.train.niter == 700 * 3
    assert read_options(options.to_json()) == options
    # what is set last replaces what the file has, whichever of the two names it has there
    assert read_options({**values, **original}, ["train.lr_G=3e-4", "ss=4000"]).train.lr_G == 3e-4
    ours = {**values, "scale": 4, "train": {"lr_G": 1e-4}, "network_G": {"feature_dim": 5, "decoder_width": 7}}
    changed = read_options(ours, [f"hr_data_train={scans / 'HR'}", "lr=2e-4", "feature_dim=9"])
    assert changed.train.lr_G == 2e-4 and changed.network_G.options.feature_dim == 9
    assert changed.network_G.options.decoder_width == 7
    for both in (["lr=2e-4", "train.lr_G=3e-4"], ["train.lr_G=3e-4", "lr=2e-4"]):
        with pytest.raises(OptionError, match=r"train\.lr_G is given twice"):
            read_options({**values, **original}, both)
    with pytest.raises(OptionError, match=r"train\.lr_G is given twice"):
        read_options({**values, **original, "train": {"lr_G": 1e-4}})
    with pytest.raises(OptionError, match=r"train\.niter must be a whole number"):
        read_options({**values, **original, "epoch": "many"})
    for size, value in (("epoch_size", 0), ("bs", 0)):
        with pytest.raises(OptionError) as refused:
            read_options({**values, **original, size: value})
        assert "must be a whole number >= 1, not 0" in str(refused.value) and "lr_steps" not in str(refused.value)


def test_without_anything_else_the_options_are_the_originals(scans, tmp_path):
    options = read_options(
        {"model": "arssr", "hr_data_train": str(scans / "HR"), "datasets": {"train": {"normalization_range": [0, 1]}}}
    )
    data, network = options.dataset("train"), options.network_G
    assert (data.HR_size, options.scale, data.batch_size, options.train.ss) == (40, 4, 15, 8000)
    assert network.which_model_G == "arssr_net" and network.options.encoder_name == "RDN"
    assert (options.train.niter, options.train.lr_G, options.train.lr_steps[0]) == (780000, 1e-4, 62400)


def test_what_the_recipe_has_no_use_for_is_told(scans, tmp_path):
    values = values_of(scans, tmp_path)
    values["train"] |= {"gan_weight": 0.1}
    assert "train.gan_weight has no effect beside model arssr." in read_options(values).notes
    assert not read_options(values).train.gan_weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network_G": {"which_model_G": "residual_net"}}, "must be arssr_net.* with model arssr"),
        ({"model": "unetspsr"}, "arssr_net is one of blocks and any real factor"),
        ({"train": {"noise": [0.1, 0.0]}}, r"train\.noise must be the smaller and the larger number"),
        ({"network_G": {"decoder_depth": 2}}, "decoder_depth"),
    ],
)
def test_what_does_not_fit_together_is_refused(scans, tmp_path, change, message):
    values = values_of(scans, tmp_path)
    values["network_G"] = {**values["network_G"], "which_model_G": "arssr_net"}
    for block, changed in change.items():
        values[block] = {**values[block], **changed} if isinstance(changed, dict) else changed
    with pytest.raises(OptionError, match=message):
        read_options(values)


def test_data_that_cannot_be_learned_from_are_refused_with_the_figures(scans, tmp_path):
    def opened(what: str, block: str, **changes):
        values = values_of(scans, tmp_path)
        target = values["datasets"][block] if block in values["datasets"] else values[block]
        target |= changes
        recipe = build_recipe(read_options(values))
        return recipe.open_source() if what == "source" else recipe.open_validation()

    with pytest.raises(
        InputError, match=r"different voxel sizes: .*0\.1 x 0\.1 x 0\.1 mm, .*b\.nrrd 0\.3 x 0\.3 x 0\.3 mm"
    ):
        opened("source", "train", dataroot_HR=str(scans / "two"))
    with pytest.raises(InputError, match="52 x 48 x 44 voxels, and a block takes 64 x 64 x 64"):
        opened("source", "train", HR_size=64)
    with pytest.raises(InputError, match="at a factor of 4 needs blocks of 16 voxels"):
        values = values_of(scans, tmp_path)
        values["datasets"]["val"]["slices"] = [0, 12]
        build_recipe(read_options(values)).open_validation()
    with pytest.raises(OptionError, match="1 to 6, and the network offers 1 to 4"):
        build_recipe(options_of(scans, tmp_path, scale_range=[1, 6]))


def test_the_cost_is_counted_and_a_small_block_compares_fewer_voxels(scans, tmp_path):
    planned = plan(options_of(scans, tmp_path), "cpu")
    assert planned.problems == [] and planned.memory_bytes > 0
    more, less = (plan(options_of(scans, tmp_path, ss=ss), "cpu").work.flops(2)["G"] for ss in (216, 27))
    assert more > less
    source = build_recipe(options_of(scans, tmp_path, ss=8000)).open_source()
    assert any("216 voxels of each sample are compared, not the 8000" in text for text in source.warnings)


def test_the_shipped_file_of_options_has_the_originals_sizes_and_schedule():
    options = read_options(resource("Configurations/arssr.json"))
    network, train, data = options.network_G.options, options.train, options.dataset("train")
    assert options.notes == () and network.conditions == ("blur", "noise") and train.scale_per_axis
    assert (network.encoder_name, network.decoder_depth, network.decoder_width, network.feature_dim) == (
        "RDN",
        8,
        256,
        128,
    )
    assert (train.niter, train.ss, train.lr_G, data.batch_size, data.HR_size) == (780000, 8000, 1e-4, 15, 40)
    assert plan(options, "cpu").missing


def test_a_model_of_any_factor_is_tested_at_a_whole_one_that_it_offers(scans, tmp_path):
    folder = run.train(options_of(scans, tmp_path, niter=1, val_freq=9)).folder
    values = values_of(scans, tmp_path)
    values["path"]["pretrain_model_G"] = str(folder / "models" / "latest_G.safetensors")
    values["datasets"] = {
        "test_fine": {
            "mode": "HR",
            "dataroot_HR": str(scans / "HR"),
            "normalization_range": [-1000, 2000],
            "slices": [0, 18],
        }
    }
    report = evaluation.test(read_options({**values, "scale": 3}, is_train=False), device="cpu")
    (found,) = report["datasets"].values()
    assert found["measured"] == 1 and found["means"]["psnr"] > 5 and found["means"]["psnr_cubic"] > 5
    with pytest.raises(ModelError, match="its scale is x1-4, not 8"):
        evaluation.test(read_options({**values, "scale": 8}, is_train=False), device="cpu")
