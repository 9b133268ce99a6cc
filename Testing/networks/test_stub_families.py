"""The stub networks of four families keep the contract of a network: build, describe, compute."""

from __future__ import annotations

import pytest
import torch
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.models.weights import describe_outputs
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.networks.spec import NetworkSpec
from stub_networks import FAMILIES, register, stub_model


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    register(monkeypatch)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_is_rebuilt_from_what_it_says_of_itself(name):
    network = build_network(name)
    spec = NetworkSpec.from_json(network.describe().to_json())
    assert build_network(spec.network, **spec.options).options == network.options
    found = describe_outputs(network.eval(), spec)
    assert list(found) == list(spec.outputs)
    factors = [int(factor) for factor in spec.scale or (2, 2, 2)]
    assert found["sr"]["shape"] == [1, 1, *(16 * factor for factor in factors)] and found["sr"]["std"] > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_file_keeps_network_and_card(name, tmp_path):
    torch.manual_seed(0)
    model = stub_model(build_network(name))
    path = model.save(tmp_path / "stub.safetensors")
    loaded = Model.load(path)
    assert loaded.spec == model.spec and loaded.card.output_window == model.card.output_window
    assert all(right for _, right, _ in loaded.verify())


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="2 or 4"):
        build_network("stub_blocks", scale=3)
