"""Generator files of other programs are read strictly and safely, and written back bit by bit."""

from __future__ import annotations

import os
import pickle
import random
import tarfile
from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from CBCTSuperResLib import Model, importers
from CBCTSuperResLib.core.errors import ModelError, OutputError
from CBCTSuperResLib.importers import import_checkpoint
from CBCTSuperResLib.importers.rrdb import import_rrdb_trunk
from CBCTSuperResLib.importers.spsr import export_checkpoint
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.networks.spec import NetworkSpec
from fixtures_spsr import official_shapes, official_state, rrdb_state
from safetensors.torch import save_file

SMALL = dict(nf=4, nb=4, gc=4)


@cache
def small_state(**options: int) -> dict[str, torch.Tensor]:
    return official_state(**{**SMALL, **options})


def put(folder: Path, content: object = None, name: str = "net.pth") -> Path:
    path = folder / name
    torch.save(small_state() if content is None else content, path)
    return path


def changed(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The small state with entries replaced, added or (None) left out; double underscores stand for dots."""
    state = dict(small_state())
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    return state


def notes_of(model: Model) -> str:
    return "; ".join(model.card.training["notes"])


@pytest.mark.parametrize(("scale", "entries"), [(2, 880), (4, 884)])
def test_a_full_generator_goes_in_and_out_bit_by_bit(tmp_path, scale, entries):
    state = official_state(nf=8, gc=4, scale=scale)
    assert len(state) == entries
    model = import_checkpoint(put(tmp_path, state))
    assert (model.spec.scale, model.spec.options["nb"], model.spec.options["gc"]) == ((scale, scale), 23, 4)
    assert model.spec.options["taps"] == [5, 10, 15, 20]
    written = torch.load(export_checkpoint(model, tmp_path / "out ü.pth"), weights_only=True)
    assert list(written) == list(official_shapes(nf=8, gc=4, scale=scale))
    assert all(
        torch.equal(written[name], tensor) and written[name].dtype == torch.float32 for name, tensor in state.items()
    )


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 3)])
def test_the_options_are_read_from_names_and_shapes(tmp_path, scale, inputs, outputs):
    model = import_checkpoint(put(tmp_path, small_state(nb=5, in_nc=inputs, out_nc=outputs, scale=scale)))
    expected = dict(nf=4, nb=5, gc=4, in_nc=inputs, out_nc=outputs, scale=scale, taps=[2, 3, 4, 5])
    assert model.spec.options == expected
    assert model.network(torch.rand(1, inputs, 3, 4))["sr"].shape == (1, outputs, 3 * scale, 4 * scale)


def test_every_tensor_of_ours_has_one_place_in_the_file():
    with torch.device("meta"):
        names = importers.spsr.file_names(build_network("unetspsr", scale=4))
    expected = {n for n in official_shapes(scale=4) if not n.startswith(("HR_conv0_new", "get_g"))}
    assert len(set(names.values())) == len(names)
    assert set(names.values()) == expected


def test_an_imported_model_survives_our_own_file(tmp_path):
    model, x = (import_checkpoint(put(tmp_path), window=(26000, 46000)), torch.rand(1, 1, 6, 5))
    loaded = Model.load(model.save(tmp_path / "ours.safetensors"))
    assert loaded.card.window == (26000, 46000)
    assert loaded.card.training == model.card.training
    assert torch.equal(loaded.network(x)["sr"], model.network(x)["sr"])


def test_an_imported_model_has_no_context_and_says_what_is_unknown(tmp_path):
    model = import_checkpoint(put(tmp_path, name="480000_G.pth"), licence="CC-BY-4.0")
    assert model.spec.context == "unknown"
    assert model.card.name == "480000_G"
    assert model.card.licence == "CC-BY-4.0"
    assert model.card.window is None
    assert model.card.training["data"] == "unknown"
    assert model.card.training["imported_from"] == "480000_G.pth"
    assert "not tested" in model.card.limits
    assert import_checkpoint(put(tmp_path), name="mine").name == "mine"


def test_a_factor_of_three_must_be_named(tmp_path):
    path = put(tmp_path)
    assert import_checkpoint(path).spec.scale == (2, 2)
    assert import_checkpoint(path, scale=3).spec.scale == (3, 3)


@pytest.mark.parametrize("scale", [0, -2, 1, 4, 8])
def test_a_factor_that_the_file_does_not_hold_is_refused(tmp_path, scale):
    with pytest.raises(ModelError, match=f"{scale} does not fit"):
        import_checkpoint(put(tmp_path), scale=scale)


def test_short_trunks_get_the_quarters_as_taps_and_say_so(tmp_path):
    model = import_checkpoint(put(tmp_path))
    assert model.spec.options["taps"] == [1, 2, 3, 4]
    assert "taps [1, 2, 3, 4] are assumed" in notes_of(model)


def test_taps_can_be_named(tmp_path):
    path = put(tmp_path, small_state(nb=8))
    model = import_checkpoint(path, taps=[1, 3, 5, 7])
    assert model.spec.options["taps"] == [1, 3, 5, 7]
    assert not notes_of(model)
    assert not torch.equal(model.network(x := torch.rand(1, 1, 6, 6))["sr"], import_checkpoint(path).network(x)["sr"])


def test_taps_beyond_the_trunk_are_refused(tmp_path):
    with pytest.raises(ModelError, match="taps"):
        import_checkpoint(put(tmp_path, small_state(nb=19)), taps=[5, 10, 15, 20])


def test_any_missing_weight_is_named(tmp_path):
    optional = ("HR_conv0_new", "get_g", "model.5.")
    names = [name for name in small_state() if not name.startswith(optional)]
    for name in random.Random(0).sample(names, 12):
        state = dict(small_state())
        del state[name]
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            import_checkpoint(put(tmp_path, state))


def test_missing_unknown_and_misshaped_tensors_are_listed_together(tmp_path):
    state = changed(b_LR_conv__0__bias=None, extra__weight=torch.zeros(2), f_concat__0__weight=torch.zeros(4, 7, 3, 3))
    with pytest.raises(ModelError) as caught:
        import_checkpoint(put(tmp_path, state))
    assert "missing: b_LR_conv.0.bias (4,)" in caught.value.what
    assert "unknown: extra.weight (2,)" in caught.value.what
    assert "shape: f_concat.0.weight is (4, 7, 3, 3), the network has (4, 8, 3, 3)" in caught.value.what


def test_a_block_far_beyond_the_trunk_does_not_make_a_giant_network(tmp_path):
    far = changed(model__1__sub__900000000__RDB1__conv1__0__bias=torch.zeros(4))
    with pytest.raises(ModelError, match="missing"):
        import_checkpoint(put(tmp_path, far))


def test_the_copy_of_a_convolution_may_stand_for_it(tmp_path):
    whole = import_checkpoint(put(tmp_path)).network.state_dict()
    for absent in ("HR_conv0_new__0__weight", "model__5__weight"):
        model = import_checkpoint(put(tmp_path, changed(**{absent: None})))
        assert all(torch.equal(tensor, whole[name]) for name, tensor in model.network.state_dict().items())
    assert "model.5.weight is missing; its copy" in notes_of(model)


def test_of_two_copies_that_differ_the_later_loaded_one_counts(tmp_path):
    state = changed(HR_conv0_new__0__weight=torch.zeros(4, 4, 3, 3))
    model = import_checkpoint(put(tmp_path, state))
    assert torch.equal(model.network.hr0.weight, state["model.5.weight"])
    assert "differ; model.5.weight is used" in notes_of(model)


def test_without_both_copies_the_convolution_is_missing(tmp_path):
    with pytest.raises(ModelError, match=r"missing: model\.5\.bias"):
        import_checkpoint(put(tmp_path, changed(HR_conv0_new__0__bias=None, model__5__bias=None)))


def test_other_gradient_kernels_are_refused(tmp_path):
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])[None, None]
    with pytest.raises(ModelError, match=r"get_g_nopadding\.weight_h .* not the gradient kernel"):
        import_checkpoint(put(tmp_path, changed(get_g_nopadding__weight_h=sobel)))


def test_without_gradient_kernels_the_fixed_ones_are_used(tmp_path):
    model = import_checkpoint(put(tmp_path, changed(get_g_nopadding__weight_v=None)))
    assert "get_g_nopadding.weight_v is missing" in notes_of(model)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"NaN or infinity:\n  model\.0\.bias"):
        import_checkpoint(put(tmp_path, changed(model__0__bias=torch.full((4,), float("nan")))))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"params_ema": s, "params": {name: tensor * 0 for name, tensor in s.items()}},
        lambda s: {"params": s},
        lambda s: {"state_dict": s, "epoch": 3, "loss": 0.5},
        lambda s: {"model": {"net": s}},
        lambda s: {"weights": s, "epoch": 3},
        lambda s: {"epoch": torch.tensor(3), "net": s, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}},
        lambda s: {f"module.{name}": tensor for name, tensor in s.items()},
        lambda s: {"state_dict": {f"module.netG.{name}": tensor for name, tensor in s.items()}},
        lambda s: {f"_orig_mod.{name}": tensor for name, tensor in s.items()},
        lambda s: {"params": {f"module._orig_mod.{name}": tensor for name, tensor in s.items()}},
        lambda s: {"state_dict": {f"net_g._orig_mod.{name}": tensor for name, tensor in s.items()}},
        lambda s: {"net_g": s, "net_d": {"conv.weight": torch.ones(3)}},
        OrderedDict,
        lambda s: {name: torch.nn.Parameter(tensor) for name, tensor in s.items()},
        lambda s: dict(reversed(s.items())),
        lambda s: {"state_dict": s, "rng_state": torch.zeros(9, dtype=torch.uint8), "losses": torch.zeros(30)},
        lambda s: {"state_dict": {f"model.{name}": tensor for name, tensor in s.items()}, "global_step": 3},
        lambda s: {**{f"module.{name}": tensor for name, tensor in s.items()}, "n_averaged": torch.tensor(7)},
        lambda s: {f"{k}.{n}": t * (k == "ema_model") for k in ("online_model", "ema_model") for n, t in s.items()},
        lambda s: {f"{k}.{n}": t * (k == "net_g_ema") for k in ("net_g", "net_g_ema") for n, t in s.items()},
        lambda s: {"model": {n: t * 0 for n, t in s.items()}, "model_ema": s, "ema": {"decay": 0.99}},
        lambda s: {"net": {n: t * 0 for n, t in s.items()}, "ema_net": {"shadow": s, "decay": 0.99}, "step": 3},
        lambda s: {"g": {n: t * 0 for n, t in s.items()}, "g_running_ema": s, "d": {"conv.weight": torch.ones(3)}},
        lambda s: {
            "head": {n.removeprefix("model."): t for n, t in s.items() if n.startswith("model.")},
            "all": {f"model.{n}": t for n, t in s.items()},
        },
    ],
)
def test_wrappers_and_prefixes_are_taken_off(tmp_path, wrap):
    model = import_checkpoint(put(tmp_path, wrap(small_state()), "net.ckpt"))
    assert torch.equal(model.network.head.weight, small_state()["model.0.weight"])


def test_of_a_file_with_generator_and_discriminator_the_generator_is_taken_and_told(tmp_path):
    both = {f"net_g.{name}": tensor for name, tensor in small_state().items()} | {"net_d.conv0.weight": torch.ones(3)}
    model = import_checkpoint(put(tmp_path, {"state_dict": both}, "epoch.ckpt"))
    assert torch.equal(model.network.head.weight, small_state()["model.0.weight"])
    assert f"of {len(both)} tensors the {len(both) - 1} of net_g were taken" in notes_of(model)


def test_half_precision_files_are_read_as_float32(tmp_path):
    model = import_checkpoint(put(tmp_path, {name: tensor.half() for name, tensor in small_state().items()}))
    assert model.network.head.weight.dtype == torch.float32
    assert "stored as float16" in notes_of(model)


def test_weights_that_are_no_plain_floating_point_numbers_are_refused(tmp_path):
    weight = small_state()["model.0.weight"]
    for odd, message in (
        ((weight * 100).to(torch.int8), "no floating-point numbers but int8: model.0.weight.*not in the file"),
        (weight.to(torch.complex64), "no floating-point numbers but complex64"),
        (weight.to_sparse(), "quantised, sparse"),
        (weight.to("meta"), "without values"),
    ):
        with pytest.raises(ModelError, match=message):
            import_checkpoint(put(tmp_path, changed(model__0__weight=odd)))


def test_counters_are_left_out_and_a_checksum_that_does_not_fit_is_told(tmp_path):
    path = put(tmp_path, changed(step=torch.tensor(3)))
    assert notes_of(import_checkpoint(path)).startswith("left out as counters: step")
    content = bytearray(path.read_bytes())
    content[content.index(small_state()["model.0.weight"].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    assert "does not fit its checksum: the file may be damaged" in notes_of(import_checkpoint(path))


def test_safetensors_files_are_read_too_whatever_their_ending(tmp_path):
    for name in ("net.safetensors", "net.pth"):
        save_file({key: tensor.clone() for key, tensor in small_state().items()}, tmp_path / name)
        model = import_checkpoint(tmp_path / name)
        assert torch.equal(model.network.head.weight, small_state()["model.0.weight"])


def test_a_model_file_of_ours_needs_no_import(tmp_path):
    path = import_checkpoint(put(tmp_path)).save(tmp_path / "mine.safetensors")
    with pytest.raises(ModelError, match="is a model file already"):
        import_checkpoint(path)


class Malicious:
    """Reading this creates a file, if the reader executes what it reads."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_malicious_file_is_refused_and_not_executed(tmp_path, kind):
    trace, path = tmp_path / "executed", tmp_path / "evil.pth"
    content = {"state_dict": {"model.0.weight": Malicious(trace)}}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ModelError, match="could run program code"):
        import_checkpoint(path)
    assert not trace.exists()


def test_the_tar_format_of_the_first_versions_is_refused(tmp_path):
    path = tmp_path / "old.pth"
    with tarfile.open(path, "w") as file:
        file.add(put(tmp_path), arcname="storages")
    with pytest.raises(ModelError, match="not safe to read"):
        import_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "neither a PyTorch nor a safetensors file"),
        (b"PK\x03\x04" + bytes(200), "cannot be read as a PyTorch file"),
        (b"\x80\x02", "cannot be read as a PyTorch file"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path, content, message):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        import_checkpoint(path)


def test_what_other_writers_made_is_told_apart(tmp_path):
    """Arrays in an archive of NumPy, a plain pickle, a program of TorchScript, a folder."""
    path = tmp_path / "net.pth"
    with path.open("wb") as file:
        np.savez(file, weight=np.zeros(3))
    with pytest.raises(ModelError, match="neither a PyTorch nor a safetensors file"):
        import_checkpoint(path)
    path.write_bytes(pickle.dumps({"weight": np.zeros(3)}, protocol=4))
    with pytest.raises(ModelError, match="written by pickle, not by torch.save"):
        import_checkpoint(path)
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(ModelError, match="TorchScript program"):
        import_checkpoint(path)
    with pytest.raises(ModelError, match="is a folder"):
        import_checkpoint(tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_refused(tmp_path, legacy):
    path = tmp_path / "net.pth"
    torch.save(small_state(), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for length in range(3, 20_000, 171):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            import_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "no table of named tensors"),
        ({}, "no table of named tensors"),
        (torch.zeros(3), "no table of named tensors"),
        ({"epoch": 1, "iter": 5, "optimizers": [], "schedulers": []}, "training state"),
        ({"model.0.weight": torch.zeros(3), "epoch": 3}, "entries that are no tensors: epoch"),
        ({3: torch.zeros(3)}, "entries that are no tensors: 3"),
        ({"conv.weight": torch.zeros(3)}, "no network that can be imported: conv.weight"),
        ({"b_fea_conv.0.weight": torch.zeros(3)}, "incomplete|should have"),
    ],
)
def test_other_contents_are_refused(tmp_path, content, message):
    with pytest.raises(ModelError, match=message):
        import_checkpoint(put(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"none\.pth does not exist"):
        import_checkpoint(tmp_path / "none.pth")


def test_an_esrgan_is_recognised_and_refused_as_a_model(tmp_path):
    with pytest.raises(ModelError, match=r"ESRGAN generator .*old layout.*import_rrdb_trunk"):
        import_checkpoint(put(tmp_path, rrdb_state(nf=4, nb=2)))
    with pytest.raises(ModelError, match=r"ESRGAN generator .*new layout"):
        import_checkpoint(put(tmp_path, {"params": {"body.0.rdb1.conv1.weight": torch.zeros(1)}}))


def test_of_an_esrgan_all_but_the_last_convolution_starts_a_generator(tmp_path):
    state = rrdb_state(nf=8, nb=23)
    assert len(state) == 702
    torch.manual_seed(0)
    network = build_network("unetspsr", nf=8, nb=23, in_nc=3, out_nc=3, scale=4)
    untouched = network.fusion_out.weight.clone()
    report = import_rrdb_trunk(put(tmp_path, state), network)
    assert len(report.used) == 700
    assert set(report.unused) == {"model.10.weight", "model.10.bias"}
    assert str(report).startswith("700 of 702 tensors used")
    assert torch.equal(network.trunk[22].rdb3.conv5.weight, state["model.1.sub.22.RDB3.conv5.0.weight"])
    assert torch.equal(network.trunk_end.bias, state["model.1.sub.23.bias"])
    assert torch.equal(network.up[1].conv.weight, state["model.6.weight"])
    assert torch.equal(network.hr0.weight, state["model.8.weight"])
    assert torch.equal(network.fusion_out.weight, untouched)


def test_the_full_esrgan_initialises_the_documented_number_of_weights():
    shapes = official_shapes(in_nc=3, out_nc=3, scale=4)
    counts = [torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith("model.")]
    assert sum(counts) == 16_696_256


def test_an_esrgan_for_four_starts_a_generator_for_two_where_it_fits(tmp_path):
    state = rrdb_state(nf=4, nb=4)
    network = build_network("unetspsr", nf=4, nb=4, in_nc=1, scale=2)
    report = import_rrdb_trunk(put(tmp_path, state), network)
    assert report.unused["model.0.weight"] == "shape (4, 3, 3, 3), the network has (4, 1, 3, 3)"
    assert report.unused["model.6.weight"] == "no counterpart"
    assert torch.equal(network.up[0].conv.weight, state["model.3.weight"])
    assert torch.equal(network.hr0.weight, state["model.8.weight"])


def test_only_an_esrgan_of_the_old_layout_starts_a_generator(tmp_path):
    with pytest.raises(ModelError, match="not an ESRGAN generator of the old layout"):
        import_rrdb_trunk(put(tmp_path, {"a": torch.zeros(1)}), build_network("unetspsr", **SMALL))


def test_only_a_unetspsr_is_exported(tmp_path):
    class Other(torch.nn.Module):
        pass

    with pytest.raises(ModelError, match="no SPSR layout"):
        export_checkpoint(Model(Other(), ModelCard("other", NetworkSpec("other"))), tmp_path / "x.pth")


def test_an_export_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    model = import_checkpoint(put(tmp_path))
    with pytest.raises(OutputError):
        export_checkpoint(model, tmp_path / "file" / "x.pth")
    (tmp_path / "taken.pth").mkdir()
    with pytest.raises(OutputError):
        export_checkpoint(model, tmp_path / "taken.pth")
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_an_export_that_the_public_code_would_run_otherwise_is_warned_of(tmp_path, caplog):
    export_checkpoint(import_checkpoint(put(tmp_path)), tmp_path / "x.pth")
    assert "taps [1, 2, 3, 4] and gc 4" in caplog.text
