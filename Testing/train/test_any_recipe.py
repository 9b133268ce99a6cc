"""Recipes that do not exist yet go through `train` as it is: blocks, any factor, stochastic layers, unpaired kinds."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import stub_networks
import stub_recipes
import torch
from CBCTSuperResLib.core.errors import Cancelled, InputError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train import run
from CBCTSuperResLib.train.checkpoints import read_checkpoint
from CBCTSuperResLib.train.data.block_scan import scan_weights
from CBCTSuperResLib.train.export import export_run
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.plan import plan
from CBCTSuperResLib.train.recipes.recipe import build_recipe
from tiny_runs import same_payload

SHAPE = (30, 36, 40)
NO_TERMS = dict.fromkeys(
    ("feature_weight", "gan_weight", "gradient_gan_weight", "gradient_pixel_weight", "pixel_branch_weight"), 0
)


@pytest.fixture(autouse=True)
def _families(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(run, "standard_observers", lambda options: [])
    stub_networks.register(monkeypatch)
    stub_recipes.register(monkeypatch)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Volumes, and slices of two kinds: grey values of a scanner, and bytes."""
    root, rng = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    field = cv2.GaussianBlur(rng.random(SHAPE).transpose(1, 2, 0), (0, 0), 1.5).transpose(2, 0, 1)
    field = (field - field.min()) / (field.max() - field.min())
    voxels = np.rint(field * 3000 - 1000).astype(np.int16)
    for name, step, spacing in (("HR", 1, 0.1), ("LR", 2, 0.2)):
        part = np.ascontiguousarray(voxels[::step, ::step, ::step])
        (root / name).mkdir()
        Volume(part, Grid(part.shape[::-1], (spacing,) * 3)).write(root / name / "v.nrrd")
    for kind, size, scale, dtype in (("A", 24, 60000, np.uint16), ("B", 80, 250, np.uint8)):
        (root / kind).mkdir()
        for number in range(3 if kind == "A" else 4):
            image = cv2.GaussianBlur(rng.random((size, size)), (0, 0), 2)
            image = (image - image.min()) / (image.max() - image.min()) * scale
            cv2.imwrite(str(root / kind / f"{kind}{number}.png"), image.astype(dtype))
    return root


def options_of(name: str, scans, root, **train):
    data = {"HR_size": 16, "batch_size": 4, "n_workers": 2, "micro_batch": 2}
    blocks = {**data, "mode": "HR", "dataroot_HR": str(scans / "HR"), "normalization_range": [-1000, 2000]}
    families = {
        "stub_blocks": (2, blocks),
        "stub_points": (2, {**blocks, "HR_size": 12}),
        "stub_uncertain": (4, {**blocks, "micro_batch": None}),
        "stub_translator": (
            8,
            {
                **data,
                "HR_size": 64,
                "mode": "LRHR",
                "dataroot_LR": str(scans / "A"),
                "dataroot_HR": str(scans / "B"),
                "normalization_range": [0, 60000],
            },
        ),
    }
    scale, dataset = families[name]
    return read_options(
        {
            "name": name,
            "use_tb_logger": False,
            "model": name,
            "scale": scale,
            "gpu_ids": [],
            "datasets": {"train": dataset},
            "path": {"root": str(root)},
            "network_G": {"which_model_G": f"{name}_net"},
            "train": {**NO_TERMS, "pixel_weight": 1, "niter": 4, "val_freq": 2, "ema_decay": 0.9, **train},
            "logger": {"print_freq": 1, "save_checkpoint_freq": 2},
        }
    )


def checkpoint(folder, step: int) -> dict:
    payload = read_checkpoint(folder / "training_state" / f"{step}.state")
    payload["options"]["path"].pop("root")
    return payload


@pytest.mark.parametrize("name", stub_recipes.FAMILIES)
def test_a_training_is_validated_saved_and_goes_on_bit_for_bit_where_it_was_stopped(scans, tmp_path, name):
    whole = run.train(options_of(name, scans, tmp_path / "whole"))
    assert whole.finished and set(checkpoint(whole.folder, 4)["networks"]) == set(
        build_recipe(options_of(name, scans, tmp_path)).build()
    )
    asked = iter(range(9))
    stopped = options_of(name, scans, tmp_path / "stopped")
    with pytest.raises(Cancelled, match="after step 3 of 4"):
        run.train(stopped, cancelled=lambda: next(asked) >= 3)
    torch.manual_seed(99)
    resumed = run.train(stopped, resume="auto")
    assert same_payload(checkpoint(resumed.folder, 4), checkpoint(whole.folder, 4))
    assert resumed.results == whole.results


@pytest.mark.parametrize("name", stub_recipes.FAMILIES)
def test_a_model_is_exported_with_a_card_that_fits_its_network(scans, tmp_path, name):
    folder = run.train(options_of(name, scans, tmp_path, niter=2)).folder
    model = Model.load(export_run(folder, tmp_path / "m.safetensors", halo=name != "stub_translator", device="cpu"))
    recipe = build_recipe(options_of(name, scans, tmp_path))
    described = recipe.build()[recipe.exported].describe()
    assert (model.spec.network, model.spec.options, model.spec.domain) == (
        described.network,
        described.options,
        described.domain,
    )
    average = checkpoint(folder, 2)["average"]
    assert all(torch.equal(value, average[key]) for key, value in model.network.state_dict().items())
    card = model.card
    if name == "stub_translator":
        assert card.window == (0, 60000) and card.output_window == (0, 255)
        assert "adversarial" in card.limits and card.training["losses"] == {"cycle": 10.0, "GAN": 1.0}
    else:
        assert card.window == (-1000, 2000) and card.output_window is None and "adversarial" not in card.limits
    assert {path.name for path in (folder / "models").iterdir()} >= {f"latest_{recipe.exported}.safetensors"}


def test_what_best_means_is_the_recipes_word(scans, tmp_path):
    result = run.train(options_of("stub_translator", scans, tmp_path, niter=6, val_freq=1))
    best, latest = result.results["best"], result.results["latest"]
    assert set(best) == {"step", "cycle_error", "images"} and best["cycle_error"] <= latest["cycle_error"]
    status = json.loads((result.folder / "status.json").read_text(encoding="utf-8"))
    assert status["best"] == best
    blocks = run.train(options_of("stub_blocks", scans, tmp_path, niter=2, val_freq=1)).results
    assert blocks["best"]["psnr"] >= blocks["latest"]["psnr"] > 5


def test_a_pool_of_images_is_part_of_the_checkpoint(scans, tmp_path):
    folder = run.train(options_of("stub_translator", scans, tmp_path)).folder
    (state,) = checkpoint(folder, 4)["recipe"]
    assert {role: len(images) for role, images in state.items()} == {"D_A": 3, "D_B": 3}
    assert state["D_B"][0].shape == (1, 64, 64) and state["D_A"][0].shape == (1, 8, 8)


def test_one_update_trains_all_its_roles_and_no_other(scans, tmp_path):
    recipe = build_recipe(options_of("stub_translator", scans, tmp_path))
    source, networks = recipe.open_source(), recipe.build()
    batch = source.batch([0, 1], [np.random.default_rng(n) for n in (0, 1)])
    changed, before = [], {}

    def differing() -> set[str]:
        return {
            role
            for role, network in networks.items()
            if any(not torch.equal(a, b) for a, b in zip(network.parameters(), before[role], strict=True))
        }

    class Watched(run.Steps):
        def update(self, *roles):
            before.update({r: [p.detach().clone() for p in n.parameters()] for r, n in networks.items()})
            return super().update(*roles)

    precision = run.Precision("float32", torch.device("cpu"))
    steps = Watched(recipe.step, networks, recipe.optimizers(networks), precision, run.Processes())
    step = steps._step

    def watched(update) -> None:
        step(update)
        changed.append((set(update.roles), differing()))

    steps._step = watched
    logs = steps.make(1, [batch])
    assert changed == [({"G_AB", "G_BA"},) * 2, ({"D_A", "D_B"},) * 2]
    assert {"grad_norm_G_AB", "grad_norm_G_BA", "grad_norm_D_A", "grad_norm_D_B"} <= set(logs)
    assert steps.stepped == set(networks)


def test_a_dropout_layer_draws_while_it_learns_and_not_while_it_is_measured(scans, tmp_path):
    folder = run.train(options_of("stub_uncertain", scans, tmp_path)).folder
    model = Model.load(folder / "models" / "latest_G.safetensors")
    image = torch.rand(1, 1, 9, 9)
    assert torch.equal(model.network.eval()(image)["sr"], model.network(image)["sr"])
    assert model.spec.stochastic and model.spec.outputs["log_variance"] == "log_variance"


def test_the_cost_of_a_recipe_is_counted_by_what_it_says(scans, tmp_path):
    planned = plan(options_of("stub_uncertain", scans, tmp_path), "cpu")
    assert planned.micro_batch == 4 and planned.memory_bytes > 0 and planned.problems == []


def test_unpaired_images_are_of_two_folders_and_of_two_windows(scans, tmp_path):
    source = build_recipe(options_of("stub_translator", scans, tmp_path)).open_source()
    assert len(source) == 3 and source.describe()["images"] == {"LR": 3, "HR": 4}
    assert (source.window.lo, source.window.hi) == (0, 60000)
    assert (source.output_window.lo, source.output_window.hi) == (0, 255)
    batch = source.batch([0, 1], [np.random.default_rng(n) for n in (0, 1)])
    assert batch["LR"].shape == (2, 1, 8, 8) and batch["HR"].shape == (2, 1, 64, 64)
    for values in batch.values():
        assert values.min() >= 0 and values.max() <= 1 and values.std() > 0.02
    alone = source.batch([1], [np.random.default_rng(1)])
    assert all(torch.equal(alone[role], batch[role][1:]) for role in batch)


def test_pairs_of_volumes_are_cut_at_the_same_place(scans, tmp_path):
    options = options_of("stub_blocks", scans, tmp_path).to_json()
    options["datasets"]["train"] |= {"mode": "LRHR", "dataroot_LR": str(scans / "LR"), "use_contrast": False}
    source = build_recipe(read_options(options)).open_source()
    batch = source.batch([0] * 6, [np.random.default_rng(n) for n in range(6)])
    assert batch["LR"].shape == (6, 1, 8, 8, 8) and batch["HR"].shape == (6, 1, 16, 16, 16)
    for low, high in zip(batch["LR"], batch["HR"], strict=True):
        corners = [
            high[0, k::2, j::2, i::2] for k in (0, 1) for j in (0, 1) for i in (0, 1)
        ]  # a flip moves the voxel that LR has from one end of its two to the other
        assert any(torch.equal(low[0], corner) for corner in corners)


def test_places_of_a_sample_are_those_of_its_fine_voxels(scans, tmp_path):
    options = options_of("stub_points", scans, tmp_path).to_json()
    options["datasets"]["train"] |= {"use_flip": False, "use_rot": False, "use_contrast": False}
    source = build_recipe(read_options(options)).open_source()
    voxels = Volume.read(scans / "HR" / "v.nrrd").voxels
    unit = ((voxels + 1000.0) / 3000).astype(np.float32)
    found = set()
    for n in range(4):
        batch = source.batch([0], [np.random.default_rng(n)])
        truth, positions = batch["HR"][0, 0].numpy(), batch["positions"][0].numpy()
        assert truth.shape == (5, 5, 5) and positions.shape == (3, 5)
        factors = 1 / (positions[:, 1] - positions[:, 0])
        assert (factors >= 0.999).all() and (factors <= (2.001, 3.301, 3.301)).all()
        found.add(tuple(np.round(factors, 3)))
        places = np.argwhere(np.isclose(unit, truth[0, 0, 0], atol=1e-6)).tolist()
        blocks = [unit[tuple(slice(start, start + 5) for start in place)] for place in places]
        assert any(block.shape == truth.shape and np.allclose(block, truth, atol=1e-6) for block in blocks)
        assert positions.min() > -0.5 and positions.max() < 5.5 and batch["LR"].shape == (1, 1, 6, 6, 6)
    assert len(found) == 4


@pytest.mark.parametrize("factor", [1.0, 2.0, 2.5, 3.3])
def test_a_coarse_voxel_is_the_mean_of_what_it_covers(factor):
    margin, outputs = 20, 6
    inputs = int(outputs * factor) + 2 * margin
    ramp = np.arange(inputs) - margin
    sharp = scan_weights(outputs, factor, 0.0, inputs, margin)
    blurred = scan_weights(outputs, factor, 0.5, inputs, margin)
    centres = factor * (np.arange(outputs) + 0.5) - 0.5
    for weights in (sharp, blurred):
        assert weights.sum(1) == pytest.approx(np.ones(outputs))
        assert weights @ ramp == pytest.approx(centres, abs=0.26 if weights is sharp else 1e-3)
    variance = blurred @ ramp**2 - (blurred @ ramp) ** 2
    assert variance == pytest.approx(np.full(outputs, (0.5 * factor) ** 2 + factor**2 / 12), rel=0.05, abs=0.09)


def test_slices_are_no_volumes_and_volumes_may_be_too_small(scans, tmp_path):
    options = options_of("stub_blocks", scans, tmp_path).to_json()
    options["datasets"]["train"] |= {"dataroot_HR": str(scans / "A"), "normalization_range": None}
    with pytest.raises(InputError, match="is a slice, and blocks are cut from volumes"):
        build_recipe(read_options(options)).open_source()
    options["datasets"]["train"] |= {"dataroot_HR": str(scans / "HR"), "HR_size": 64, "normalization_range": None}
    with pytest.raises(InputError, match="40 x 36 x 30 voxels, and a block takes 64 x 64 x 64"):
        build_recipe(read_options(options)).open_source()
