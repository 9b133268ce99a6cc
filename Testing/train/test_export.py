"""From a run's folder to a model that Apply lists, and the weights that a training begins with."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from CBCTSuperResLib.apply import calibration as calibrate
from CBCTSuperResLib.apply.file import apply_to_file
from CBCTSuperResLib.core.errors import InputError, ModelError, OutputError
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.importers.spsr import export_checkpoint
from CBCTSuperResLib.models.card import read_card
from CBCTSuperResLib.models.folder import FOLDER_VARIABLE, list_models
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.scan.tissue import PHANTOM_LEVELS, TissueLevels
from CBCTSuperResLib.scan.window import Window
from CBCTSuperResLib.train import export
from CBCTSuperResLib.train import export as run_card
from CBCTSuperResLib.train.export import (
    export_run,
    levels_of_source,
    make_run_model,
    save_run_model,
)
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.starting_weights import starting_weights
from fixtures_spsr import official_state, rrdb_state
from helpers import make_volume
from stub_networks import CubicTwice, register, stub_model, tiny_model, tiny_network

FACTS = {
    "step": 1000,
    "data": {
        "mode": "LRHR",
        "images": {"pairs": 12},
        "files": [
            {"role": "LR", "types": ["uint16"], "voxel_size_mm": [0.16, 0.25], "sha256": "0" * 64},
            {"role": "HR", "types": ["uint16"], "voxel_size_mm": [0.08, 0.125], "sha256": "1" * 64},
        ],
        "memory": "12 images in memory",
    },
    "window": (26000.0, 46000.0),
    "levels": TissueLevels(0.1, 0.4, 0.7),
}
RESULTS = {"step": 1000, "psnr": 31.234, "psnr_cubic": 30.5, "ssim": 0.91, "ssim_cubic": 0.9, "images": 3}


def options(root: Path, **changes):
    """Options of a tiny training."""
    values = {
        "name": "Kiefer x2",
        "datasets": {
            "train": {"name": "jaws", "dataroot_HR": "hr", "dataroot_LR": "lr", "normalization_range": [26000, 46000]}
        },
        "path": {"root": str(root)},
        "network_G": {"nf": 4, "nb": 4, "gc": 4},
        "train": {"niter": 5000, "feature_weight": 0},
    }
    return read_options({**values, **changes})


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    """A run's folder as the loop leaves it: two models, of which the earlier is the best."""
    chosen = options(tmp_path_factory.mktemp("runs"))
    models = chosen.run_folder / "models"
    models.mkdir(parents=True)
    (chosen.run_folder / "options.json").write_text(json.dumps(chosen.to_json()), encoding="utf-8")
    for step, name in ((1000, "best"), (2000, "latest")):
        path = models / f"{step}_G.safetensors"
        save_run_model(tiny_network(step), chosen, {**FACTS, "step": step}, RESULTS, path)
        shutil.copyfile(path, models / f"{name}_G.safetensors")
    return chosen.run_folder


@pytest.fixture()
def run(finished_run, tmp_path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(finished_run, tmp_path / "experiments" / finished_run.name)


def steps_of(path: Path) -> int:
    return read_card(path).training["iterations"]


def test_the_card_of_prepared_images_gives_the_window_in_the_scanners_grey_values(tmp_path):
    chosen = options(tmp_path)
    train = replace(chosen.datasets["train"], scanner_window=(20000, 50000))
    chosen = replace(chosen, datasets={**chosen.datasets, "train": train})
    prepared = {**FACTS, "window": (0, 65535)}
    assert make_run_model(tiny_network(), chosen, prepared, RESULTS).card.window == (20000, 50000)


def test_the_card_says_what_the_model_was_trained_on_and_how_good_it_is(tmp_path):
    card = make_run_model(tiny_network(), options(tmp_path), FACTS, RESULTS).card
    assert card.name == "Kiefer x2" and card.licence == "not stated"
    assert card.window == (26000, 46000) and card.levels == TissueLevels(0.1, 0.4, 0.7)
    assert card.voxel_size_mm == (0.16, 0.25) and card.spec.context == "unknown"
    assert "1,000 of 5,000 iterations" in card.summary and "jaws" in card.summary
    training = card.training
    assert training["losses"] == {
        "pixel": 0.3, "gradient": 0.01, "gradient branch": 0.5, "GAN": 0.005, "gradient GAN": 0.005
    }  # fmt: skip
    assert training["seed"] == 6 and training["data"]["images"] == {"pairs": 12} and "memory" not in training["data"]
    psnr = {"data": "validation set of the run, 3 images", "metric": "PSNR (dB)", "cubic": 30.5, "model": 31.23}
    assert card.results[0] == psnr and len(card.results) == 2
    assert "31.23 dB, cubic interpolation 30.50 dB" in card.limits and "adversarial" in card.limits


def test_texts_that_the_options_state_go_before_those_that_are_made(tmp_path):
    texts = {"name": "mine", "title": "Mine", "licence": "CC0-1.0", "limits": "Only jaws.", "voxel_size_mm": [0.1, 0.3]}
    card = make_run_model(tiny_network(), options(tmp_path, card=texts), FACTS, RESULTS).card
    assert (card.name, card.title, card.licence, card.limits) == ("mine", "Mine", "CC0-1.0", "Only jaws.")
    assert card.voxel_size_mm == (0.1, 0.3) and "1,000 of 5,000" in card.summary


def test_texts_may_be_changed_in_the_runs_options_after_training(run, tmp_path):
    path = run / "options.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "card": {"title": "Später benannt"}}), encoding="utf-8")
    assert read_card(export_run(run, tmp_path / "m.safetensors", halo=False)).title == "Später benannt"


def test_no_path_of_the_computer_gets_into_the_card(tmp_path):
    card = make_run_model(tiny_network(), options(tmp_path / "geheim"), FACTS, RESULTS).card
    assert "geheim" not in card.dumps()


def test_a_model_that_was_never_measured_says_so(tmp_path):
    quiet = options(tmp_path, train={"niter": 10, "feature_weight": 0, "gan_weight": 0, "gradient_gan_weight": 0})
    card = make_run_model(tiny_network(), quiet, {"step": 10}).card
    assert "Never measured" in card.limits and "adversarial" not in card.limits
    assert card.results == [] and card.window is None and card.voxel_size_mm is None


def test_simulated_lr_has_voxels_larger_by_the_scale():
    files = [{"role": "HR", "voxel_size_mm": [0.08, 0.1]}]
    assert run_card.voxel_sizes(files, (2, 2)) == (0.16, 0.2)
    assert run_card.voxel_sizes([{"role": "HR", "voxel_size_mm": None}], (2, 2)) is None


def test_saving_a_model_leaves_training_and_random_state_alone(tmp_path):
    network = tiny_network().train().requires_grad_(True)
    state = torch.get_rng_state()
    save_run_model(network, options(tmp_path), FACTS, RESULTS, tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.requires_grad for p in network.parameters()) and network.training


def test_the_best_the_latest_or_any_kept_model_can_be_exported(run, tmp_path):
    for which, step in (("best", 1000), ("latest", 2000), (2000, 2000)):
        assert steps_of(export_run(run, tmp_path / f"{which}.safetensors", which, halo=False)) == step


def test_without_validation_the_latest_is_the_best_and_it_is_said(run, tmp_path, caplog):
    (run / "models" / "best_G.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        assert steps_of(export_run(run, tmp_path / "m.safetensors", halo=False)) == 2000
    assert "never validated" in caplog.text


def test_what_is_not_there_is_refused_with_what_is(run, tmp_path):
    with pytest.raises(InputError, match=r"no model 500\. There are: 1000, 2000, best, latest"):
        export_run(run, tmp_path / "m.safetensors", 500)
    with pytest.raises(InputError, match="not the folder of a run"):
        export_run(tmp_path, tmp_path / "m.safetensors")
    with pytest.raises(OutputError, match="no name of a model file"):
        export_run(run, tmp_path / "m.pth")


def test_an_exported_model_is_listed_calibrated_and_applied(run, tmp_path, monkeypatch):
    models = tmp_path / "Modelle für alle"
    monkeypatch.setenv(FOLDER_VARIABLE, str(models))
    monkeypatch.setattr(calibrate, "HALOS", (8, 16, 24))
    told = []
    export_run(run, models / "kiefer.safetensors", device="cpu", progress=lambda fraction, text: told.append(fraction))
    entry = next(entry for entry in list_models() if entry.name == "Kiefer x2")
    assert entry.card.spec.context > 0 and entry.problem == ""
    assert told == sorted(told) and told[-1] == 1
    make_volume((2, 20, 22)).write(tmp_path / "scan.nrrd")
    report = apply_to_file(tmp_path / "scan.nrrd", tmp_path / "out.nrrd", "Kiefer x2", Options(device="cpu"))
    assert report["output"]["size"] == (44, 40, 2) and report["super_resolution"]["model"] == "Kiefer x2"


def test_texts_of_the_card_can_be_given_at_export(run, tmp_path):
    texts = {"name": "mine", "title": "Mine", "licence": "CC-BY-4.0", "voxel_size_mm": [0.1, 0.2]}
    path = export_run(run, tmp_path / "m.safetensors", texts=texts, halo=False)
    card = read_card(path)
    assert (card.name, card.title, card.licence, card.voxel_size_mm) == ("mine", "Mine", "CC-BY-4.0", (0.1, 0.2))
    assert card.results and card.window == (26000, 46000)


def test_weights_can_be_exported_in_half_precision(run, tmp_path):
    full = export_run(run, tmp_path / "full.safetensors", halo=False)
    half = export_run(run, tmp_path / "half.safetensors", halo=False, half=True)
    assert half.stat().st_size < 0.7 * full.stat().st_size
    Model.load(half)


class Phantoms:
    """A source of patches with three tissues, of changing contrast."""

    window = Window(26000, 46000)
    drawn = 0

    def describe(self) -> dict:
        return {"images": {"procedural": self.drawn}}

    def __len__(self) -> int:
        return 200

    def batch(self, images, draws):
        tissue = draws[0].choice([0.08, 0.36, 0.70], size=(1, 1, 24, 24), p=[0.3, 0.5, 0.2])
        changed = tissue + draws[0].normal(0, 0.02, tissue.shape) + draws[0].uniform(-0.05, 0.05)
        return {"LR": torch.from_numpy(changed.astype(np.float32))}


def test_tissue_levels_are_found_in_patches_the_same_every_time():
    levels = levels_of_source(Phantoms())
    assert levels == levels_of_source(Phantoms())
    assert (levels.air, levels.soft, levels.bone) == pytest.approx((0.08, 0.36, 0.70), abs=0.02)


def test_drawn_slices_have_the_levels_of_their_scanner():
    source = Phantoms()
    source.drawn = 4
    assert levels_of_source(source) == PHANTOM_LEVELS


def test_images_without_contrast_have_no_levels():
    class Flat(Phantoms):
        def batch(self, images, draws):
            return {"LR": torch.zeros(1, 1, 8, 8)}

    assert export.levels_of_source(Flat()) is None


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_model_of_ours_can_be_the_beginning(tmp_path):
    model = tiny_model(seed=1)
    path = model.save(tmp_path / "start.safetensors")
    network, state = tiny_network(2), torch.get_rng_state()
    report = starting_weights(network, path)
    assert equal(network, model.network) and report.used == report.total
    assert "model stub" in str(report) and torch.equal(torch.get_rng_state(), state)


def test_an_spsr_generator_can_be_the_beginning(tmp_path):
    model = tiny_model(seed=1)
    path = export_checkpoint(model, tmp_path / "Größe 100_G.pth")
    network = tiny_network(2)
    report = starting_weights(network, path)
    assert equal(network, model.network) and "SPSR generator" in str(report)


def test_weights_of_a_network_that_adds_to_an_interpolation_begin_no_other(tmp_path):
    """Their shapes are the same; what one gives is the image, what the other gives is added to one."""
    model, adding = tiny_model(seed=1), stub_model(tiny_network(skip=True))
    files = [model.save(tmp_path / "whole.safetensors"), export_checkpoint(model, tmp_path / "whole_G.pth")]
    for network, path, wanted in (
        *((tiny_network(2, skip=True), path, "false") for path in files),
        (tiny_network(2), adding.save(tmp_path / "adds.safetensors"), "true"),
    ):
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with pytest.raises(ModelError, match=f"skip from input to output.*skip to {wanted}"):
            starting_weights(network, path)
        assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    network = tiny_network(2, skip=True)
    starting_weights(network, tmp_path / "adds.safetensors")
    assert equal(network, adding.network)


def test_an_official_file_fits_a_network_of_its_size(tmp_path):
    torch.save(official_state(nf=8, nb=5, gc=4), tmp_path / "G.pth")
    network = tiny_network(nf=8, nb=5, taps=(1, 2, 3, 5))
    starting_weights(network, tmp_path / "G.pth")
    assert torch.equal(network.head.weight, official_state(nf=8, nb=5, gc=4)["model.0.weight"])


@pytest.mark.parametrize("sizes", [{"nf": 8}, {"nb": 5}, {"nb": 3}, {"gc": 2}])
def test_weights_of_another_size_are_refused_with_a_list(tmp_path, sizes):
    torch.save(official_state(**{"nf": 4, "nb": 4, "gc": 4, **sizes}), tmp_path / "G.pth")
    network = tiny_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ModelError, match=r"nb is 3|(?s:do not fit.*(trunk|fusion))"):
        starting_weights(network, tmp_path / "G.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_an_esrgan_generator_begins_trunk_and_enlargement(tmp_path):
    torch.save(rrdb_state(nf=4, nb=4, channels=1) | {}, tmp_path / "RRDB.pth")
    network = tiny_network(gc=32, scale=4)
    report = starting_weights(network, tmp_path / "RRDB.pth")
    assert report.total - report.used == 2 and any("model.10" in note for note in report.notes)
    assert torch.equal(network.head.weight, rrdb_state(nf=4, nb=4, channels=1)["model.0.weight"])


def test_only_a_model_of_its_own_kind_begins_another_network(tmp_path, monkeypatch):
    register(monkeypatch)
    torch.save(official_state(nf=4, nb=4, gc=4), tmp_path / "G.pth")
    with pytest.raises(ModelError, match="no other program's weights fit the network cubic"):
        starting_weights(CubicTwice(), tmp_path / "G.pth")
    path = stub_model(CubicTwice()).save(tmp_path / "cubic.safetensors")
    with pytest.raises(ModelError, match="is of the network cubic, not unetspsr"):
        starting_weights(tiny_network(), path)


def test_weights_of_other_kinds_are_refused_in_words(tmp_path):
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="missing: head"):
        starting_weights(tiny_network(), tmp_path / "other.pth")
    with pytest.raises(ModelError, match="does not exist"):
        starting_weights(tiny_network(), tmp_path / "none.pth")
    model = tiny_model()
    text = replace(model.card, name="odd")
    path = Model(model.network, text).save(tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match="do not fit"):
        starting_weights(tiny_network(nf=8), path)
