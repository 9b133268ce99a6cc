"""The 3-D SRGAN's recipe: losses with the published numbers, labels, order of updates, blocks at steps, and the whole
way from volumes to a result and a report.
"""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from CBCTSuperResLib.apply.file import apply_to_file
from CBCTSuperResLib.core.errors import Cancelled, InputError, OptionError
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.resources import resource
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.train import run
from CBCTSuperResLib.train.checkpoints import read_checkpoint
from CBCTSuperResLib.train.data.blocks import Blocks
from CBCTSuperResLib.train.data.patches import Augmentation
from CBCTSuperResLib.train.export import export_run
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.plan import plan
from CBCTSuperResLib.train.recipes.recipe import build_recipe
from CBCTSuperResLib.train.recipes.srgan3d import Labels, SRGAN3DRecipe, gradient_difference
from CBCTSuperResLib.train.test import report_text, test
from CBCTSuperResLib.train.volumes import measure_volume, statistics_of
from fixtures_spsr import unit
from recipe_harness import start
from tiny_runs import same_payload

test.__test__ = False  # it is the function under test

SHAPE = (26, 32, 36)
WINDOW = [-1000, 2000]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(run, "standard_observers", lambda options: [])


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Two volumes of grey values, their coarse scans, and masks of one half of each."""
    root, rng = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    for number in range(2):
        field = cv2.GaussianBlur(rng.random(SHAPE).transpose(1, 2, 0), (0, 0), 1.5).transpose(2, 0, 1)
        field = (field - field.min()) / (field.max() - field.min())
        coarse = field.reshape(13, 2, 16, 2, 18, 2).mean((1, 3, 5))
        mask = np.zeros(SHAPE)
        mask[:, :, :20] = 1
        kinds = {"HR": (field * 3000 - 1000, 0.1), "LR": (coarse * 3000 - 1000, 0.2), "mask": (mask, 0.1)}
        for kind, (values, spacing) in kinds.items():
            (root / kind).mkdir(exist_ok=True)
            voxels = np.rint(values).astype(np.int16)
            Volume(voxels, Grid(voxels.shape[::-1], (spacing,) * 3)).write(root / kind / f"v{number}.nrrd")
    return root


def values_of(scans: Path, root: Path, **train) -> dict:
    return {
        "name": "tiny",
        "use_tb_logger": False,
        "model": "srgan3d",
        "scale": 2,
        "gpu_ids": [],
        "datasets": {
            "train": {
                "mode": "HR",
                "dataroot_HR": str(scans / "HR"),
                "normalization_range": WINDOW,
                "n_workers": 0,
                "batch_size": 4,
                "HR_size": 20,
            },
            "val": {"mode": "HR", "dataroot_HR": str(scans / "HR")},
        },
        "path": {"root": str(root)},
        "network_G": {"feature_size": 2, "residual_blocks": 1},
        "network_D": {"feature_size": 2},
        "train": {"niter": 4, "val_freq": 2, "warmup_iters": 1, "ema_decay": 0.9, "val_size": 20, **train},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "val_images": 1},
    }


def options_of(scans, root, *changes: str, **train):
    return read_options(values_of(scans, root, **train), changes)


PLAIN = ("network_G.batch_norm=false", "network_D.batch_norm=false")


def test_the_losses_have_the_published_numbers():
    g, y = (torch.from_numpy(unit((2, 6, 5, 4, 1), seed) * 2 - 1).movedim(-1, 1) for seed in (64, 65))
    assert float(torch.nn.functional.mse_loss(g, y) * g.numel()) == pytest.approx(163.85134, rel=1e-7)
    assert float(gradient_difference(g, y) * g.numel()) == pytest.approx(256.37627, rel=1e-7)
    said = {"real": torch.from_numpy(unit((2, 1), 66) * 2), "fake": torch.from_numpy(unit((2, 1), 67) * 2 - 0.5)}

    class Said:
        """A run whose discriminator says what it is given."""

        networks = {"D": lambda volume: volume}
        autocast = staticmethod(torch.enable_grad)

    def distance(kind: str, label: float) -> float:
        return float(SRGAN3DRecipe._distance(Said, said[kind], label)[0])

    assert distance("real", 0.95) == pytest.approx(0.24862417, abs=1e-8)
    assert distance("fake", 0.15) == pytest.approx(0.17555004, abs=1e-8)
    assert 0.1 * distance("fake", 0.95) == pytest.approx(0.04791636, abs=1e-8)


def test_labels_call_real_real_and_fake_fake_and_are_exchanged_as_often_as_asked(scans, tmp_path):
    torch.manual_seed(0)
    never = build_recipe(options_of(scans, tmp_path, swapped_labels=0))
    found = [never._labels() for _ in range(200)]
    for name, (low, high) in {"real": (0.7, 1.2), "fake": (0.0, 0.3), "wanted": (0.7, 1.2)}.items():
        values = [getattr(labels, name) for labels in found]
        assert low <= min(values) < low + 0.05 and high - 0.05 < max(values) <= high, name
    swapped = build_recipe(options_of(scans, tmp_path, swapped_labels=0.25))
    found = [swapped._labels() for _ in range(400)]
    share = np.mean([labels.real < labels.fake for labels in found])
    assert 0.18 < share < 0.32 and all(labels.wanted >= 0.7 for labels in found)
    always = build_recipe(options_of(scans, tmp_path, swapped_labels=1))._labels()
    assert always.real <= 0.3 and always.fake >= 0.7


def test_the_discriminator_learns_to_tell_real_from_fake(scans, tmp_path):
    torch.manual_seed(1)
    run_ = start(build_recipe(options_of(scans, tmp_path, *PLAIN, swapped_labels=0, lr_D=1e-2)), torch.float32)
    real = torch.rand(1, 1, 20, 20, 20)
    run_.number, run_.batches = 1, [{"HR": real, "LR": real}]
    for _ in range(20):
        logs = run_.recipe._update_discriminator(run_, [real.flip(0) * 0.3], Labels(1.0, 0.0, 1.0))
    assert float(logs["D_real"]) > float(logs["D_fake"]) + 0.3


def test_a_batch_in_parts_gives_the_same_step_and_each_update_moves_its_own_network(scans, tmp_path):
    recipe = build_recipe(options_of(scans, tmp_path, *PLAIN, gan_weight=0.5))
    batch = {"LR": torch.rand(4, 1, 10, 10, 10), "HR": torch.rand(4, 1, 20, 20, 20)}
    torch.manual_seed(3)
    whole = start(recipe)
    parts = copy.deepcopy(whole)
    parts.optimizers = recipe.optimizers(parts.networks)
    for number in range(2):
        logs = []
        for one, count in ((whole, 1), (parts, 2)):
            torch.manual_seed(number)
            before = {role: next(n.parameters()).detach().clone() for role, n in one.networks.items()}
            logs.append(one.step(batch, count))
            moved = {r for r, n in one.networks.items() if not torch.equal(before[r], next(n.parameters()))}
            assert moved == ({"G"} if number == 0 else {"G", "D"})  # a warm-up of one step
        assert logs[0] == pytest.approx(logs[1], rel=1e-9) and set(logs[0]) >= {"l_g_pix", "l_g_grad_diff"}
        assert ("l_d_real" in logs[0]) is (number == 1)
    assert whole.order == parts.order == ["G", "G", "D"]
    for role, network in whole.networks.items():
        for a, b in zip(network.parameters(), parts.networks[role].parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-8), role


def test_batch_norm_needs_the_whole_batch_and_says_so(scans, tmp_path):
    recipe = build_recipe(options_of(scans, tmp_path))
    assert not recipe.may_be_in_parts and build_recipe(options_of(scans, tmp_path, *PLAIN)).may_be_in_parts
    alone = options_of(scans, tmp_path, "network_G.batch_norm=false", gan_weight=0)
    assert build_recipe(alone).may_be_in_parts and set(build_recipe(alone).build()) == {"G"}
    with pytest.raises(OptionError, match="computed in parts") as error:
        recipe.check(1, "cpu", 2)
    assert "batch_norm false" in str(error.value)
    with pytest.raises(OptionError, match="several processes on the CPU"):
        recipe.check(2, "cpu")
    recipe.check(2, "cuda")


@pytest.fixture(scope="module")
def finished(scans, tmp_path_factory):
    """A run that went to its end, and one that was stopped after step 3 and went on."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "standard_observers", lambda options: [])
        torch.set_num_threads(1)
        whole = run.train(options_of(scans, root / "whole"))
        stopped, asked = options_of(scans, root / "stopped"), iter(range(9))
        with pytest.raises(Cancelled, match="after step 3 of 4"):
            run.train(stopped, cancelled=lambda: next(asked) >= 3)
        torch.manual_seed(99)
        return whole, run.train(stopped, resume="auto")


def test_a_training_goes_on_bit_for_bit_where_it_was_stopped(finished):
    whole, resumed = (read_checkpoint(one.folder / "training_state" / "4.state") for one in finished)
    for payload in (whole, resumed):
        payload["options"]["path"].pop("root")
    assert set(whole["networks"]) == {"G", "D"} and same_payload(whole, resumed)
    assert finished[0].results == finished[1].results
    assert {"psnr", "psnr_cubic", "ssim", "ssim_cubic", "images"} <= set(finished[0].results["best"])
    assert len(list((finished[0].folder / "val_images").rglob("*.png"))) == 2  # of one volume, twice


@pytest.fixture(scope="module")
def model(finished, tmp_path_factory) -> Path:
    return export_run(finished[0].folder, tmp_path_factory.mktemp("model") / "m.safetensors", halo=False, device="cpu")


def test_the_model_says_what_it_is(model):
    card = Model.load(model).card
    assert card.spec.network == "srgan3d" and card.spec.scale == (2.0, 2.0, 2.0) and card.spec.context <= 6
    assert card.training["losses"] == {"pixel": 1.0, "gradient difference": 1.0, "GAN": 0.001}
    assert "adversarial" in card.limits and card.window == tuple(map(float, WINDOW))
    assert "feature_size 2, residual_blocks 1" in card.summary and card.voxel_size_mm == (0.2, 0.2)


def test_a_coarse_scan_is_enlarged_in_tiles_as_in_one_piece(model, scans, tmp_path):
    options = Options(device="cpu", window=tuple(WINDOW))
    loaded, source = Model.load(model), scans / "LR" / "v0.nrrd"
    apply_to_file(source, tmp_path / "whole.nrrd", loaded, options)
    apply_to_file(source, tmp_path / "tiles.nrrd", loaded, Options(**{**vars(options), "tile": 6}))
    whole, tiles = (Volume.read(tmp_path / f"{name}.nrrd") for name in ("whole", "tiles"))
    assert whole.voxels.shape == SHAPE
    assert np.abs(whole.voxels.astype(float) - tiles.voxels).max() <= 1  # of 3000 grey values: rounding
    assert whole.grid.spacing == pytest.approx((0.1,) * 3) and whole.grid.origin == pytest.approx((-0.05,) * 3)


def test_options_of(scans, root, model, **dataset):
    values = {
        "name": "report",
        "model": "srgan3d",
        "scale": 2,
        "gpu_ids": [],
        "datasets": {"test_1": {"name": "set", "normalization_range": WINDOW, **dataset}},
        "path": {"root": str(root), "pretrain_model_G": str(model)},
        "logger": {"val_images": 1},
    }
    return read_options(values, is_train=False)


test_options_of.__test__ = False


def test_a_report_has_mean_variance_smallest_largest_and_median_inside_a_mask(model, scans, tmp_path):
    pairs = {"dataroot_LR": str(scans / "LR"), "dataroot_HR": str(scans / "HR")}
    masked = {**pairs, "dataroot_mask": str(scans / "mask")}
    report = test(test_options_of(scans, tmp_path / "masked", model, **masked))
    found = report["datasets"]["set"]
    folder = Path(found["folder"])
    rows = list(csv.DictReader((folder / "measures.csv").open(encoding="utf-8")))
    assert [row["image"] for row in rows] == ["v0", "v1", "mean"]
    values = [float(row["psnr"]) for row in rows[:2]]
    told = found["statistics"]["psnr"]
    expected = {"mean": np.mean(values), "variance": np.var(values), "min": min(values), "max": max(values)}
    assert told == pytest.approx({**expected, "median": np.median(values)}, abs=1e-5)
    for number, value in enumerate(values):  # inside the mask, without a border as wide as the factor
        sr = Volume.read(folder / f"v{number}.nrrd").voxels
        truth = Volume.read(scans / "HR" / f"v{number}.nrrd").voxels
        inner = (slice(2, -2), slice(2, -2), slice(2, 20))
        error = (np.clip(sr[inner], *WINDOW) - truth[inner].astype(float)) / 3000
        assert value == pytest.approx(-10 * np.log10(np.mean(error**2)), abs=1e-3)
    table = list(csv.reader((folder / "statistics.csv").open(encoding="utf-8")))
    assert table[0] == ["measure", "mean", "variance", "min", "max", "median"]
    assert [row[0] for row in table[1:]] == ["psnr", "psnr_cubic", "ssim", "ssim_cubic"]
    text = report_text(report)
    assert "variance" in text and "SSIM, cubic" in text and f"{told['median']:.3f}" in text
    assert json.loads((folder.parent / "results.json").read_text(encoding="utf-8")) == report
    assert len(list((folder / "comparisons").glob("*.png"))) == 1
    unmasked = test(test_options_of(scans, tmp_path / "all", model, **pairs))["datasets"]["set"]
    assert unmasked["statistics"]["psnr"] != told


def test_coarse_scans_that_are_simulated_are_written_beside_the_results(model, scans, tmp_path):
    report = test(test_options_of(scans, tmp_path, model, mode="HR", dataroot_HR=str(scans / "HR" / "v0.nrrd")))
    folder = Path(report["datasets"]["set"]["folder"])
    coarse, sr = Volume.read(folder / "simulated LR" / "v0.nrrd"), Volume.read(folder / "v0.nrrd")
    assert coarse.voxels.shape == (13, 16, 18) and sr.voxels.shape == SHAPE
    assert coarse.grid.spacing == pytest.approx((0.2,) * 3) and sr.grid.origin == pytest.approx((0,) * 3)
    assert report["datasets"]["set"]["measured"] == 1
    only = test(test_options_of(scans, tmp_path / "only", model, dataroot_LR=str(scans / "LR"), slices=[2, 6]))
    found = only["datasets"]["set"]
    assert (found["images"], found["measured"], found["statistics"]) == (2, 0, {})
    assert Volume.read(Path(found["folder"]) / "v1.nrrd").voxels.shape == (8, *SHAPE[1:])


def test_statistics_are_those_of_the_images():
    rows = [{"psnr": value} for value in (20.0, 22.0, 30.0, float("inf"))]
    assert statistics_of(rows)["psnr"] == {"mean": 43.0, "variance": 1097.0, "min": 20.0, "max": 100.0, "median": 26.0}
    assert statistics_of([]) == {}
    truth = np.random.default_rng(0).random((14, 15, 16)).astype(np.float32)
    off = truth.copy()
    off[:, :, 8:] = 0
    half = np.zeros(truth.shape, bool)
    half[:, :, :8] = True
    assert measure_volume(off, truth, 2, half)["psnr"] == np.inf > measure_volume(off, truth, 2)["psnr"]
    with pytest.raises(InputError, match="leaves no voxel"):
        measure_volume(off, truth, 2, np.zeros(truth.shape, bool))


def test_blocks_at_steps_cover_a_volume_once_and_end_where_it_does():
    blocks = Blocks((46, 64, 64), (30, 48, 48))  # of the published code, in voxels of LR
    assert blocks.count((76, 112, 112)) == 8
    starts = [tuple(blocks.start((76, 112, 112), n, None)) for n in range(8)]
    assert starts[0] == (0, 0, 0) and starts[-1] == (30, 48, 48) and len(set(starts)) == 8
    odd = Blocks((4, 5, 5), (3, 4, 4))
    covered = np.zeros((9, 11, 5), int)
    for number in range(odd.count(covered.shape)):
        k, j, i = odd.start(covered.shape, number, None)
        covered[k : k + 4, j : j + 5, i : i + 5] += 1
    assert covered.min() >= 1 and covered.shape[0] - 4 in [
        odd.start(covered.shape, n, None)[0] for n in range(odd.count(covered.shape))
    ]
    draws = [Blocks((4, 5, 6)).change(Augmentation(True, True), np.random.default_rng(n))[0].flips for n in range(20)]
    assert not any(flips[2] for flips in draws) and any(flips[0] for flips in draws)
    assert any(odd.change(Augmentation(True, True), np.random.default_rng(n))[0].flips[2] for n in range(20))


@pytest.mark.parametrize("mode", ["HR", "LRHR"])
def test_an_epoch_of_blocks_at_steps_is_every_block_of_every_volume(scans, tmp_path, mode):
    values = values_of(scans, tmp_path, noise=[0, 0], blur=[0, 0])
    values["datasets"]["train"] |= {
        "mode": mode,
        "block_size": [20, 20, 16],
        "block_step": [16, 12, 10],
        "use_flip": False,
        "use_rot": False,
        "use_contrast": False,
        **({"dataroot_LR": str(scans / "LR")} if mode == "LRHR" else {}),
    }
    source = build_recipe(read_options(values)).open_source()
    assert len(source) == 16 and source.names[0] == "v0, block 1" and source.names[-1] == "v1, block 8"
    truth = (Volume.read(scans / "HR" / "v0.nrrd").voxels + 1000.0) / 3000
    for number in range(8):
        batch = source.batch([number], [np.random.default_rng(number)])
        assert batch["LR"].shape == (1, 1, 8, 10, 10) and batch["HR"].shape == (1, 1, 16, 20, 20)
        k, j, i = (n // f % 2 for n, f in ((number, 4), (number, 2), (number, 1)))
        place = slice(10 * k, 10 * k + 16), slice(12 * j, 12 * j + 20), slice(16 * i, 16 * i + 20)
        assert np.allclose(batch["HR"][0, 0], truth[place], atol=1e-6), number
        means = batch["HR"][0, 0].numpy().reshape(8, 2, 10, 2, 10, 2).mean((1, 3, 5))
        assert np.allclose(batch["LR"][0, 0], means, atol=1e-3), number


def test_a_plan_counts_both_networks_of_a_step(scans, tmp_path):
    planned = plan(options_of(scans, tmp_path), "cpu")
    assert planned.problems == [] and planned.micro_batch == 4
    assert set(planned.work.flops(4)) == {"G", "D"} and set(planned.work.flops(4, in_warm_up=True)) == {"G"}
    text = planned.text()
    assert "4 blocks of 20 x 20 x 20 fine voxels" in text and "discriminator" in text
    dense = options_of(scans, tmp_path, "network_D.judge=dense", "datasets.train.block_size=[20, 18, 34]")
    assert dense.network_D.options.size == (20, 18, 34)
    assert plan(dense, "cpu").work.costs["D"].parameters > planned.work.costs["D"].parameters


def test_the_keys_of_the_original_program_are_read(scans, tmp_path):
    values = values_of(scans, tmp_path)
    del values["path"], values["scale"]
    values |= {"residual_blocks": 8, "upsampling_factor": 4, "subpixel_NN": True, "checkpoint_dir": "runs"}
    values["network_G"], values["restore"] = {}, "auto"
    options = read_options(values, ["feature_size=64", "nn=false"])
    network = options.network_G.options
    assert (network.residual_blocks, network.feature_size, network.subpixel_NN, network.nn) == (8, 64, True, False)
    assert (options.scale, network.scale, options.path.root, options.path.resume_state) == (4, 4, "runs", "auto")


WRONG = {
    "HR_size": (["datasets.train.HR_size=21"], "multiple of scale 2"),
    "a size": (["datasets.train.block_size=[20, 21, 20]"], "block_size must be multiples of scale 2, not 20 x 21 x 20"),
    "a step": (["datasets.train.block_step=[24, 10, 10]"], "block_step must not exceed the blocks, 20 x 20 x 20"),
    "scale 3": (["scale=3"], "scale is 3; it must be 2 or 4"),
    "two ways": (["network_G.nn=true", "network_G.subpixel_NN=true"], "two ways of enlarging"),
    "2-D generator": (["network_G.which_model_G=residual_net", "network_G.feature_size=null"], "must be srgan3d_net"),
    "2-D judge": (["network_D.which_model_D=discriminator_unet_128"], "must be discriminator_srgan3d with srgan3d_net"),
    "small blocks": (["datasets.train.HR_size=16"], "at least 17 for discriminator_srgan3d"),
    "no losses": (
        ["train.pixel_weight=0", "train.gradient_difference_weight=0", "train.gan_weight=0", "train.warmup_iters=0"],
        "all weights of losses are 0",
    ),
    "an empty warm-up": (
        ["train.pixel_weight=0", "train.gradient_difference_weight=0"],
        "warmup_iters needs pixel_weight or gradient_difference_weight above 0",
    ),
    "labels": (["train.real_label=[1.2, 0.7]"], "real_label must be the smaller and the larger"),
    "a text": (["nn=false it is"], "nn must be true or false"),
    "the test": (["evaluate=true"], "evaluate is no option here; a trained model is evaluated by the command"),
}


def test_what_does_not_fit_together_is_told(scans, tmp_path):
    for what, (changes, message) in WRONG.items():
        with pytest.raises(OptionError) as error:
            options_of(scans, tmp_path, *changes)
        assert message in str(error.value), (what, str(error.value))
    options_of(scans, tmp_path, pixel_weight=0, gan_weight=0)  # edges alone are something to learn
    chosen = options_of(scans, tmp_path, "subpixel_NN=True", "nn=False").network_G.options  # as on its command line
    assert chosen.subpixel_NN is True and chosen.nn is False
    other = values_of(scans, tmp_path)
    other |= {"model": "unetspsr", "network_G": {"which_model_G": "srgan3d_net"}, "network_D": {}, "train": {}}
    with pytest.raises(OptionError, match="must be unetspsr_net or .* with model unetspsr"):
        read_options(other)
    other |= {"network_G": {}}
    other["datasets"]["train"]["block_size"] = [16, 16, 16]
    with pytest.raises(OptionError, match=r"datasets.train.block_size has no meaning with model unetspsr"):
        read_options(other)


def test_the_scanner_of_a_training_with_given_coarse_volumes_is_said_to_have_no_effect(scans, tmp_path):
    low = f'dataroot_LR="{scans / "LR"}"'
    pairs = [f"datasets.{key}.{of}" for key in ("train", "val") for of in ("mode=LRHR", low)]
    scanner = {"blur": (0.3, 0.3), "noise": (0.0, 0.01)}
    (said,) = options_of(scans, tmp_path, *pairs, **scanner).notes
    assert said.startswith("train.blur and noise: not used")
    assert options_of(scans, tmp_path, *pairs).notes == options_of(scans, tmp_path, *pairs[2:], **scanner).notes == ()


def test_volumes_that_are_too_small_are_refused_with_the_numbers(scans, tmp_path):
    large = ["scale=4", "datasets.train.HR_size=64"]
    with pytest.raises(InputError, match=r"v0 has 36 x 32 x 26 voxels, and a block takes 64 x 64 x 64"):
        build_recipe(options_of(scans, tmp_path, *large)).open_source()
    long = [*large, "datasets.train.block_size=[64, 32, 24]"]
    with pytest.raises(InputError, match=r"36 x 32 x 26 voxels, and a block takes 64 x 32 x 24 .*block_size"):
        build_recipe(options_of(scans, tmp_path, *long)).open_source()
    Volume(np.arange(768, dtype=np.int16).reshape(3, 16, 16), Grid((16, 16, 3), (0.1,) * 3)).write(
        tmp_path / "thin.nrrd"
    )
    thin = options_of(scans, tmp_path, "scale=4", f'datasets.val.dataroot_HR="{tmp_path / "thin.nrrd"}"')
    with pytest.raises(InputError, match="needs blocks of 4 voxels, and of thin there are 3 along an axis"):
        build_recipe(thin).open_validation()


def test_masks_and_coarse_volumes_of_other_sizes_are_refused(model, scans, tmp_path):
    wrong = {"dataroot_LR": str(scans / "LR" / "v0.nrrd"), "dataroot_HR": str(scans / "LR" / "v1.nrrd")}
    with pytest.raises(InputError, match="18 x 16 x 13 voxels and LR 18 x 16 x 13: HR is not 2 times LR"):
        test(test_options_of(scans, tmp_path, model, **wrong))
    pairs = {"dataroot_LR": str(scans / "LR"), "dataroot_HR": str(scans / "HR")}
    with pytest.raises(InputError, match=r"mask .*v0.nrrd has 18 x 16 x 13 voxels and its volume 36 x 32 x 26"):
        test(test_options_of(scans, tmp_path, model, **pairs, dataroot_mask=str(scans / "LR")))
    larger = Volume(np.ones((27, 32, 36), np.uint8), Grid((36, 32, 27), (0.1,) * 3))
    (tmp_path / "larger").mkdir()
    for name in ("v0", "v1"):
        larger.write(tmp_path / "larger" / f"{name}.nrrd")
    with pytest.raises(InputError, match=r"v0.nrrd has 36 x 32 x 27 voxels and its volume 36 x 32 x 26"):
        test(test_options_of(scans, tmp_path, model, **pairs, dataroot_mask=str(tmp_path / "larger")))
    with pytest.raises(InputError, match="v1.nrrd without mask"):
        test(test_options_of(scans, tmp_path, model, **pairs, dataroot_mask=str(scans / "mask" / "v0.nrrd")))


def test_the_shipped_configuration_needs_no_data_and_little_memory():
    options = read_options(resource("Configurations/srgan3d.json"))
    planned = plan(options, "cpu")
    assert planned.missing == planned.problems == [] and planned.memory_bytes < 1e9 and options.notes == ()
    assert planned.work.costs["G"].parameters == 90729
    train, val = options.dataset("train"), options.dataset("val")
    assert train.procedural_seed != val.procedural_seed and 0 < options.train.warmup_iters < options.train.niter


def test_a_network_of_factor_four_takes_volumes_of_a_few_voxels(tmp_path):
    torch.manual_seed(5)
    network = build_network("srgan3d", feature_size=2, residual_blocks=1, scale=4)
    voxels = np.random.default_rng(0).integers(0, 900, (4, 16, 5)).astype(np.int16)
    Volume(voxels, Grid((5, 16, 4), (0.4,) * 3)).write(tmp_path / "small.nrrd")
    model = Model(network, ModelCard(name="x4", spec=network.describe(), window=(0.0, 1000.0)))
    apply_to_file(tmp_path / "small.nrrd", tmp_path / "large.nrrd", model, Options(device="cpu", window=(0, 1000)))
    large = Volume.read(tmp_path / "large.nrrd")
    assert large.voxels.shape == (16, 64, 20) and large.grid.spacing == pytest.approx((0.1,) * 3)
