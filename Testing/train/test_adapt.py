"""A model adapted to one scan: from its own fine directions, and kept only where a part it never saw gets better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from CBCTSuperResLib.cli import main
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.train import adapt as adapting
from CBCTSuperResLib.train.adapt import adapt
from CBCTSuperResLib.train.data.drawn_volumes import solids


@pytest.fixture(scope="module")
def scan():
    """Thick slices: means of three."""
    torch.set_num_threads(1)
    fine = np.clip(solids(np.random.default_rng(5), 48), 0, 1)
    thick = fine.reshape(16, 3, 48, 48).mean(1)
    noisy = thick + 0.02 * np.random.default_rng(1).standard_normal(thick.shape)
    return Volume(np.rint(1000 * noisy).clip(0).astype(np.uint16), Grid((48, 48, 16), (0.2, 0.2, 0.6)))


@pytest.fixture(scope="module")
def model():
    """Interpolates, and is 5 % of the window too bright."""
    torch.manual_seed(0)
    network = build_network("any_size", nf=8, nb=1, decoder_features=6, conditions=("blur", "noise")).eval()
    network.tail.bias.data += 0.05
    return Model(network, ModelCard("general", network.describe(), window=(0.0, 1000.0)))


def test_what_is_held_out_is_not_learned_from_and_both_fine_axes_teach():
    unit = np.arange(4 * 10 * 15, dtype=np.float32).reshape(4, 10, 15)
    learned, held_out = adapting._parts(unit, thick=0)
    assert [part.shape for part in learned] == [(10, 4, 12), (12, 4, 10)] and held_out.shape == (10, 4, 3)
    assert not np.isin(held_out, np.concatenate([part.ravel() for part in learned])).any()


def test_a_model_that_is_wrong_learns_from_a_scan_and_the_old_one_stays(scan, model, monkeypatch):
    monkeypatch.setattr(adapting, "LEARNING_RATE", 5e-3)
    old = {name: value.clone() for name, value in model.network.state_dict().items()}
    told = []
    done = adapt(scan, model, "ours", steps=25, progress=lambda fraction, message: told.append(fraction))
    assert done.before < done.cubic - 1
    assert done.is_better and done.after > done.before + 1 and "no gain" not in done.sentence
    assert all(torch.equal(value, old[name]) for name, value in model.network.state_dict().items())
    assert done.model.name == "ours" and done.model.card.training["adapted"]["steps"] == 25
    assert told == sorted(told) and told[-1] > 0.9


def test_weights_that_do_not_gain_are_not_kept(scan, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(adapting, "LEARNING_RATE", 3.0)  # wild steps
    scan.write(tmp_path / "head.nrrd")
    model.save(tmp_path / "general.safetensors")
    given = ["--on", str(tmp_path / "head.nrrd"), "--model", str(tmp_path / "general.safetensors"), "--quiet"]
    out = tmp_path / "new" / "adapted.safetensors"
    assert main(["train", *given, "--steps", "2", "--out", str(out)]) == 0
    assert "the old weights stay" in capsys.readouterr().out and not out.exists()
    monkeypatch.setattr(adapting, "LEARNING_RATE", 5e-3)
    assert main(["train", *given, "--steps", "25", "--out", str(out)]) == 0
    assert Model.load(out).name == "adapted" and "Written to" in capsys.readouterr().out


def test_scans_and_models_that_cannot_be_adapted_are_refused(scan, model, capsys):
    cubes = Volume(scan.voxels, Grid((48, 48, 16), (0.2, 0.2, 0.2)))
    with pytest.raises(InputError, match="1.00 times as long as wide"):
        adapt(cubes, model, "ours")
    with pytest.raises(InputError, match="too few"):
        adapt(Volume(scan.voxels[:3], Grid((48, 48, 3), (0.2, 0.2, 0.6))), model, "ours")
    fixed = build_network("residual", nf=2, nb=1)
    with pytest.raises(OptionError, match="fixed factor"):
        adapt(scan, Model(fixed, ModelCard("x2", fixed.describe())), "ours")
    assert main(["train"]) == 2 and "--on SCAN" in capsys.readouterr().err
