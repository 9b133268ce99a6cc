"""A model is saved and loaded whole, checks itself, and refuses what does not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from CBCTSuperResLib import Model
from CBCTSuperResLib.core.errors import DeviceError, ModelError, OutputError
from CBCTSuperResLib.models.card import ModelCard, read_card
from CBCTSuperResLib.models.folder import FOLDER_VARIABLE
from CBCTSuperResLib.models.header import (
    TensorEntry,
    encode_header,
    table_digest,
    write_file,
)
from CBCTSuperResLib.networks import build_network
from safetensors.torch import load_file


def model_of(seed: int = 0, **options) -> Model:
    torch.manual_seed(seed)
    network = build_network("unetspsr", **{"nf": 4, "nb": 4, "gc": 4, **options})
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, -0.2, 0.2)
    return Model(network, ModelCard("small", replace(network.describe(), context=12), window=(0, 1000)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A model's file, not to be changed."""
    return model_of().save(tmp_path_factory.mktemp("models") / "m.safetensors")


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], card: ModelCard) -> Path:
    """A file whose hashes are right whatever it holds."""
    entries, buffers, position = {}, [], 0
    for name, tensor in tensors.items():
        data = tensor.numpy().tobytes()
        kind = {torch.float32: "F32", torch.int32: "I32"}[tensor.dtype]
        entries[name] = TensorEntry(kind, tuple(tensor.shape), position, position + len(data))
        buffers.append(data)
        position += len(data)
    digest = table_digest(entries)
    digest.update(b"".join(buffers))
    card = replace(card, weights_sha256=digest.hexdigest())
    return write_file(path, encode_header(entries, card.to_metadata()), buffers)


def failed(model: Model) -> list[str]:
    return [check for check, ok, _ in model.verify() if not ok]


def test_a_saved_model_is_loaded_bit_by_bit(tmp_path):
    model, x = model_of(), torch.rand(1, 1, 9, 7)
    path = model.save(tmp_path / "mit Leerzeichen ä.safetensors")
    loaded = Model.load(path)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, loaded.network.state_dict()[name])
    assert torch.equal(model.network(x)["sr"], loaded.network(x)["sr"])
    assert loaded.spec == model.spec
    assert loaded.spec.context == 12
    assert loaded.card.window == (0, 1000)
    assert loaded.card.path == path
    assert "CBCT Super-Resolution" in loaded.card.created_with


def test_a_loaded_network_is_frozen_and_in_inference_mode(saved):
    network = Model.load(saved).network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_network_gives_a_mapping_in_the_inputs_type(saved, dtype):
    model = Model.load(saved)
    outputs = model.network.to(dtype)(torch.rand(2, 1, 6, 5, dtype=dtype))
    assert {name: tuple(tensor.shape) for name, tensor in outputs.items()} == {
        "sr": (2, 1, 12, 10),
        "branch": (2, 1, 12, 10),
        "gradient": (2, 1, 6, 5),
    }
    assert {tensor.dtype for tensor in outputs.values()} == {dtype}


def test_the_safetensors_library_reads_the_file(saved):
    assert load_file(saved).keys() == model_of().network.state_dict().keys()


def test_saving_twice_gives_the_same_file_and_leaves_no_other(tmp_path):
    model = model_of()
    first = model.save(tmp_path / "m.safetensors").read_bytes()
    assert model.save(tmp_path / "m.safetensors").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_model_is_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    model_of().save(tmp_path / "x.safetensors")
    assert Model.load("Small").name == "small"


def test_half_precision_halves_the_file_and_keeps_the_outputs(tmp_path):
    model, x = model_of(), torch.rand(1, 1, 9, 7)
    whole, half = (model.save(tmp_path / "a.safetensors"), model.save(tmp_path / "b.safetensors", half=True))
    assert half.stat().st_size < 0.75 * whole.stat().st_size
    loaded = Model.load(half)
    assert all(tensor.dtype == torch.float32 for tensor in loaded.network.state_dict().values())
    assert not failed(loaded)
    difference = (model.network(x)["sr"] - loaded.network(x)["sr"]).abs().max()
    assert 0 < difference < 5e-3 * model.network(x)["sr"].std()
    again = loaded.save(tmp_path / "c.safetensors", half=True)
    assert read_card(again).weights_sha256 == read_card(half).weights_sha256


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    model = model_of()
    model.network.hr0.weight[0, 0, 0, 0] = 1e5
    with pytest.raises(ModelError, match="do not fit float16"):
        model.save(tmp_path / "m.safetensors", half=True)
    assert not list(tmp_path.iterdir())


def test_weights_too_small_for_half_precision_are_refused(tmp_path):
    model = model_of()
    model.network.up[0].conv.weight.mul_(3e4)
    model.network.hr0.weight.mul_(1e-9)
    model.network.hr0.bias.zero_()
    model.network.hr1.weight.mul_(3e4)
    with pytest.raises(ModelError, match="would change the outputs"):
        model.save(tmp_path / "m.safetensors", half=True)


def test_a_good_model_passes_its_checks(saved):
    model = Model.load(saved)
    report = model.verify()
    assert len(report) == 3
    assert all(ok for _, ok, _ in report)
    assert not failed(model_of())


def test_the_self_check_notices_another_network(saved):
    model = Model.load(saved)
    model.network.fusion_out.bias.add_(0.05)
    assert failed(model) == ["the outputs for the test input are as recorded"]
    model.network.fusion_out.bias.fill_(float("inf"))
    assert len(failed(model)) == 2


def test_the_check_of_the_file_notices_damage_after_loading(saved, tmp_path):
    path = Path(shutil.copy(saved, tmp_path))
    model = Model.load(path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert failed(model) == ["the file is as it was saved"]


def test_damaged_weights_are_not_loaded(saved, tmp_path):
    path = Path(shutil.copy(saved, tmp_path))
    content = bytearray(path.read_bytes())
    content[-100] ^= 64
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not those that were saved"):
        Model.load(path)


def test_missing_unknown_and_misshaped_tensors_are_listed(tmp_path):
    model = model_of()
    tensors = dict(model.network.state_dict())
    tensors["extra"] = torch.zeros(3)
    del tensors["head.bias"]
    tensors["hr0.weight"] = torch.zeros(4, 5, 3, 3)
    with pytest.raises(ModelError) as caught:
        Model.load(write_tensors(tmp_path / "m.safetensors", tensors, model.card))
    assert "missing: head.bias (4,)" in caught.value.what
    assert "unknown: extra (3,)" in caught.value.what
    assert "shape: hr0.weight is (4, 5, 3, 3), the network has (4, 4, 3, 3)" in caught.value.what


def test_long_lists_of_differences_are_cut(tmp_path):
    path = write_tensors(tmp_path / "m.safetensors", {"x": torch.zeros(1)}, model_of().card)
    with pytest.raises(ModelError, match=r"\.\.\. and \d+ more") as caught:
        Model.load(path)
    assert len(str(caught.value).splitlines()) < 30


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    model = model_of()
    model.network.hr0.bias[1] = value
    with pytest.raises(ModelError, match=r"NaN or infinity:\n  hr0\.bias"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())
    path = write_tensors(tmp_path / "m.safetensors", model.network.state_dict(), model.card)
    with pytest.raises(ModelError, match=r"NaN or infinity:\n  hr0\.bias"):
        Model.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "arssr2"}, "'arssr2' is not known; known are .*residual, .*unetspsr"),
        ({"options": {"nb": 19, "taps": [5, 10, 15, 20]}}, "taps"),
        ({"options": {"depth": 3}}, "options of the model's network do not fit"),
        ({"options": {"nb": "many"}}, "options of the model's network do not fit"),
        ({"scale": 3}, "contradicts its network in: scale"),
        ({"channels": 3}, "contradicts its network in: channels"),
    ],
)
def test_a_specification_that_does_not_fit_is_refused(tmp_path, changes, message):
    model = model_of()
    card = replace(model.card, spec=replace(model.spec, **changes))
    path = write_tensors(tmp_path / "m.safetensors", model.network.state_dict(), card)
    with pytest.raises(ModelError, match=message):
        Model.load(path)


def test_facts_that_the_program_knows_better_are_taken_from_the_network(tmp_path):
    model = model_of()
    card = replace(model.card, spec=replace(model.spec, encode_bytes=1.0, decode_context=99))
    path = write_tensors(tmp_path / "m.safetensors", model.network.state_dict(), card)
    assert Model.load(path).spec == model.spec


def test_saving_leaves_the_model_and_its_card_alone(tmp_path):
    model = model_of()
    before, card = ({k: v.clone() for k, v in model.network.state_dict().items()}, model.card)
    model.save(tmp_path / "m.safetensors", half=True)
    assert model.card == card
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        model_of().save(tmp_path / "file" / "m.safetensors")


@pytest.mark.parametrize("device", ["cuda:77", "toaster"])
def test_a_device_that_is_absent_is_named(saved, device):
    with pytest.raises(DeviceError, match=device):
        Model.load(saved, device=device)


def test_the_device_can_be_left_to_the_program(saved):
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert Model.load(saved, device="auto").device.type == expected


def test_the_recorded_statistics_are_those_of_the_outputs(saved):
    card = read_card(saved)
    assert card.self_check["sr"]["shape"] == [1, 1, 32, 32]
    assert card.self_check["gradient"]["shape"] == [1, 1, 16, 16]
    assert card.self_check["gradient"]["std"] > 0.05
    assert json.loads(card.dumps())["self_check"] == card.self_check
