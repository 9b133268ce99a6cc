"""Engines: whichever computes, the result is the same; none is taken that computes something else; PyTorch may lack."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from CBCTSuperResLib import Model, Options, Volume, super_resolve
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.engines import choice, installed_engines, speed_test
from CBCTSuperResLib.apply.engines.choice import exact_network, keep_graph, network_for, why_only_torch
from CBCTSuperResLib.apply.engines.graphs import EQUAL, OnnxRuntimeNetwork, OpenVinoNetwork
from CBCTSuperResLib.apply.engines.speed_records import Measured, fastest_engine, known_engines, record_engines
from CBCTSuperResLib.apply.file import apply_to_file
from CBCTSuperResLib.apply.speed import known_speed, record_speed
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.cli import main
from CBCTSuperResLib.core.errors import Cancelled, DependencyError, ModelError, OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.models.card import ModelCard, read_card
from CBCTSuperResLib.models.folder import find_model
from CBCTSuperResLib.models.graph import as_it_was_laid, find_graph, kept_graph, make_graph
from CBCTSuperResLib.models.header import read_header
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.scan.tissue import TissueLevels
from stub_networks import CubicTwice, stub_model

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

ROOT = Path(__file__).resolve().parents[2]
WITH_GRAPHS = ("light", "adaptive", "light-bars", "unetspsr-light", "unetspsr-adaptive")
ENGINES = [OnnxRuntimeNetwork, *([OpenVinoNetwork] if "openvino" in installed_engines() else [])]
USUAL = {"window": (0.0, 3000.0), "device": "cpu", "dtype": "float32", "precision": "fp32"}


@pytest.fixture(scope="module")
def scan() -> Volume:
    """A block with edges, a sphere and noise; beyond a cylinder nothing was measured."""
    random = np.random.default_rng(2)
    k, j, i = np.meshgrid(np.arange(3), np.linspace(-1, 1, 40), np.linspace(-1, 1, 44), indexing="ij")
    voxels = 800 + 1200 * (np.abs(i) < 0.5) + 700 * (j**2 + i**2 < 0.1) + random.normal(0, 25, k.shape)
    return Volume(np.where(j**2 + i**2 < 0.9, voxels, -1000).astype(np.int16), Grid((44, 40, 3), (0.25, 0.25, 0.3)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Model:
    """A small model that is told blur and noise, in a folder of its own, without a graph."""
    torch.manual_seed(0)
    network = build_network("residual", nf=8, nb=2, unshuffle=2, slices=1, in_nc=3, conditions=("blur", "noise"))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    card = ModelCard("tiny", network.describe(), window=(0.0, 3000.0), levels=TissueLevels(0.05, 0.3, 0.7))
    return Model.load(Model(network, card).save(tmp_path_factory.mktemp("tiny") / "tiny.safetensors"))


@pytest.fixture(scope="module")
def with_graph(tiny, tmp_path_factory) -> Model:
    """The same beside its graph."""
    path = tmp_path_factory.mktemp("graph") / "tiny.safetensors"
    model = Model.load(tiny.save(path))
    make_graph(model, path.with_suffix(".onnx"))
    return model


def without_torch(*arguments) -> subprocess.CompletedProcess:
    script = ROOT / "Testing" / "support" / "without_torch.py"
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture(scope="module")
def scan_path(scan, tmp_path_factory) -> Path:
    return scan.write(tmp_path_factory.mktemp("scan") / "scan.nrrd")


@pytest.mark.parametrize("name", ["light", "adaptive"])
def test_with_onnx_runtime_alone_a_shipped_model_gives_what_it_gives_with_pytorch(scan_path, tmp_path, name):
    options = ["--model", name, "--dtype", "float32", "--scanner-blur", "0.3", "--back-projection", "on", "--quiet"]
    done = without_torch("apply", scan_path, tmp_path / "result.nrrd", *options)
    assert done.returncode == 0, done.stderr
    chosen = Options(dtype="float32", precision="fp32", engine="torch", scanner_blur=0.3, back_projection="on")
    exact = apply_to_file(scan_path, tmp_path / "exact.nrrd", name, chosen)["super_resolution"]
    report = json.loads((tmp_path / "result.nrrd.json").read_text(encoding="utf-8"))["super_resolution"]
    assert report["engine"].startswith("onnxruntime") and exact["engine"].startswith("torch")
    assert any("PyTorch is not installed" in note for note in report["notes"])
    assert report["quality"]["figures"] and report["agreement"] and report["blank"]["share"] > 0.1
    found, expected = (Volume.read(tmp_path / n).voxels for n in ("result.nrrd", "exact.nrrd"))
    lo, hi = exact["window"]
    assert np.abs(found - expected).max() <= 1e-5 * (hi - lo) and expected.std() > 100


def test_without_pytorch_a_model_of_any_factor_is_refused_by_name(scan_path, tmp_path):
    done = without_torch("apply", scan_path, tmp_path / "result.nrrd", "--model", "any-size")
    assert done.returncode == DependencyError.exit_code
    assert "any-size" in done.stderr and "PyTorch" in done.stderr and not (tmp_path / "result.nrrd").exists()


def test_without_pytorch_a_model_is_verified_by_its_graph_and_what_was_not_checked_is_said(with_graph, tmp_path):
    done = without_torch("models", "verify", with_graph.card.path)
    assert done.returncode == 0 and "by ONNX Runtime" in done.stdout, done.stderr
    assert [line[:3] for line in done.stdout.splitlines()] == ["ok "] * 3


def test_a_model_that_computes_something_else_or_that_nothing_computes_is_not_verified(with_graph, capsys, monkeypatch):
    path = with_graph.card.path
    wrong = {"sr": {**with_graph.card.self_check["sr"], "mean": 9.0}}
    for card, text, code in (
        (with_graph.card, "ok  the outputs for the test input are as recorded: sr, by ONNX Runtime", 0),
        (replace(with_graph.card, self_check=wrong), "BAD the outputs for the test input are as recorded: ", 4),
        (replace(with_graph.card, self_check={}), "nothing is recorded", 0),
        (read_card(find_model("any-size")), "?   the outputs for the test input are as recorded: not checked", 8),
    ):
        monkeypatch.setattr(Model, "load", lambda _, card=card: Model(None, card))
        assert main(["models", "verify", str(path)]) == code
        told = capsys.readouterr()
        assert text in told.out and ("PyTorch is needed" in told.err) == (code == 8)
        assert "ok  all weights are finite" in told.out


@pytest.mark.parametrize("kind", ENGINES)
def test_every_shipped_graph_is_that_of_the_weights_beside_it(kind):
    random = np.random.default_rng(0)
    for name in WITH_GRAPHS:
        model = Model.load(name)
        path = find_graph(model.card)
        assert path == Path(model.card.path).with_suffix(".onnx"), f"make it anew: models export {name} {path}"
        assert path.stat().st_size < 0.1 * Path(model.card.path).stat().st_size
        with as_it_was_laid(path, model.card) as laid:  # other programs read the weights where the graph says
            assert laid == path, f"the card has grown; make it anew: models export {name} {path}"
        graph, spec = network_for(model, Options(engine=kind.engine, device="cpu"))[0], model.spec
        assert graph.problems(model.card) == []
        picture = random.random((2 * spec.slices + 1, 30, 26), np.float32)[slice(None) if spec.slices else 0]
        axes = [Axis(n, 0, n, 2 * n, blur=0.6) for n in (30, 26)]
        found, exact = (
            Engine(network, spec, "cpu", "fp32", noise=0.03).run(picture, axes, *plan_tiles(axes, None, 0))
            for network in (graph, model.network)
        )
        assert np.abs(found - exact).max() <= 1e-5, name


def test_a_graph_is_of_certain_weights_wherever_they_lie_in_their_file(with_graph, tmp_path):
    path = tmp_path / "tiny.safetensors"
    for suffix in (".safetensors", ".onnx"):
        path.with_suffix(suffix).write_bytes(Path(with_graph.card.path).with_suffix(suffix).read_bytes())
    Model(with_graph.network, replace(with_graph.card, summary="A longer card moves the weights. " * 9)).save(path)
    card = read_card(path)
    assert read_header(path).data_start > read_header(with_graph.card.path).data_start
    assert find_graph(card) == path.with_suffix(".onnx")
    for kind in ENGINES:
        assert network_for(Model(None, card), Options(engine=kind.engine))[0].problems(card) == []
    assert find_graph(replace(card, weights_sha256="0" * 64)) is None
    path.rename(tmp_path / "renamed.safetensors")
    path.with_suffix(".onnx").rename(tmp_path / "renamed.onnx")
    assert find_graph(read_card(tmp_path / "renamed.safetensors")) is None  # it looks for tiny.safetensors


def test_a_graph_holds_its_weights_only_where_it_lies_alone_and_is_made_the_same_again(with_graph, tmp_path):
    beside, alone = find_graph(with_graph.card), make_graph(with_graph, tmp_path / "elsewhere.onnx")
    assert alone.stat().st_size - beside.stat().st_size > 0.5 * 4 * with_graph.parameters
    first = beside.read_bytes()
    assert make_graph(with_graph, beside).read_bytes() == first
    graph = OnnxRuntimeNetwork(alone, with_graph.spec)
    assert graph.problems(with_graph.card) == []


def test_graphs_of_what_cannot_be_one_are_refused(tiny, tmp_path):
    any_size = Model.load("any-size")
    with pytest.raises(ModelError, match="any factor"):
        make_graph(any_size, tmp_path / "graph.onnx")
    with pytest.raises(ModelError, match="never saved"):
        make_graph(Model(tiny.network, replace(tiny.card, path=None)), tmp_path / "graph.onnx")
    with pytest.raises(DependencyError, match="PyTorch"):
        make_graph(Model(None, tiny.card), tmp_path / "graph.onnx")
    assert not (tmp_path / "graph.onnx").exists()


def test_results_are_equal_with_tiles_in_three_planes_and_as_a_mean_of_positions(scan, with_graph):
    cases = [(OnnxRuntimeNetwork, {"planes": "isotropic"}), *((kind, {"ensemble": 2, "tile": 22}) for kind in ENGINES)]
    for kind, more in cases:
        options = Options(**USUAL, **more, roi=((6, 32), (8, 30), (0, 3)))
        found = super_resolve(scan, with_graph, replace(options, engine=kind.engine))
        exact = super_resolve(scan, with_graph, replace(options, engine="torch"))
        assert found.report["engine"].startswith(kind.engine) and exact.report["engine"].startswith("torch")
        assert np.abs(found.voxels - exact.voxels).max() <= 1e-5 * 3000
        assert any("differs from PyTorch by" in note for note in found.report["notes"])


def test_bfloat16_of_openvino_is_taken_where_it_agrees(with_graph):
    pytest.importorskip("openvino", reason="openvino is not installed")
    graph = network_for(with_graph, Options(engine="openvino", device="cpu"))[0]
    assert graph.quicker_precision(0.0) is None
    if graph.quicker_precision(0.1) is None:
        pytest.skip("this processor has no bfloat16")
    picture = np.random.default_rng(1).random((3, 64, 64), np.float32)
    axes = [Axis(64, 0, 64, 128)] * 2
    engine = Engine(graph, with_graph.spec, precision="auto", scan_noise=0.5)
    engine.run(picture, axes, *plan_tiles(axes, None, 0))
    assert "bf16 agrees with fp32 to" in engine.notes[0]


def test_a_graph_that_computes_something_else_is_refused_and_left_by_auto(with_graph, scan, tmp_path, monkeypatch):
    other = Model(with_graph.network, replace(with_graph.card, name="other"))
    wrong = replace(with_graph.card, self_check={"sr": {**with_graph.card.self_check["sr"], "middle": 0.1234}})
    model = Model(other.network, wrong)
    with pytest.raises(ModelError, match="middle"):
        network_for(model, Options(engine="onnxruntime"))
    monkeypatch.setattr(choice, "fastest_engine", lambda *_, **__: measured_faster("onnxruntime"))
    network, reason = network_for(model, Options(device="cpu"), 1e9)
    assert network.engine == "torch" and "does not compute" in reason


def test_a_damaged_graph_is_refused_by_name(with_graph, tmp_path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(Path(with_graph.card.path).read_bytes())
    graph = find_graph(with_graph.card).read_bytes()
    path.with_suffix(".onnx").write_bytes(b"damaged" + graph[len(graph) // 2 :])
    for kind in ENGINES:
        with pytest.raises(ModelError, match="cannot read the graph .*tiny.onnx"):
            network_for(Model(None, read_card(path)), Options(engine=kind.engine))


def measured_faster(engine: str):
    from CBCTSuperResLib.apply.engines.speed_records import Faster

    return Faster(engine, "It was faster.")


@pytest.mark.skipif("openvino" not in installed_engines(), reason="OpenVINO is not installed")
def test_a_signal_after_two_networks_of_openvino_have_gone_reaches_its_handler(with_graph):
    code = f"""
import gc, signal, sys
sys.path.insert(0, {str(ROOT / "CBCTSuperRes")!r})
from pathlib import Path
from CBCTSuperResLib.apply.engines.graphs import OpenVinoNetwork
from CBCTSuperResLib.models.card import read_card
signal.signal(signal.SIGINT, lambda *_: print("heard"))
path = Path({str(with_graph.card.path)!r})
first, second = (OpenVinoNetwork(path.with_suffix(".onnx"), read_card(path).spec) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.raise_signal(signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "heard"), done.stderr


class Off(OnnxRuntimeNetwork):
    """What differs from PyTorch by more than rounding."""

    def _compute(self, feeds, names, precision):
        return [values + 5 * EQUAL for values in super()._compute(feeds, names, precision)]


def test_an_engine_that_differs_on_the_scan_is_left_or_refused(with_graph):
    graph = Off(find_graph(with_graph.card), with_graph.spec)
    picture = np.random.default_rng(1).random((3, 30, 30), np.float32)
    axes = [Axis(30, 0, 30, 60)] * 2
    (whole,) = plan_tiles(axes, None, 0)
    exact = Engine(with_graph.network, with_graph.spec, "cpu", "fp32").run(picture, axes, whole)
    fair = Engine(graph, with_graph.spec, precision="fp32", exact=exact_network(with_graph, graph))
    np.testing.assert_array_equal(fair.run(picture, axes, whole), exact)
    assert "PyTorch computes" in fair.notes[0] and fair.engine_text.startswith("torch")
    strict = Engine(graph, with_graph.spec, exact=exact_network(with_graph, graph), insists=True)
    with pytest.raises(ModelError, match="onnxruntime .* differs from PyTorch"):
        strict.run(picture, axes, whole)


@pytest.mark.parametrize("kind", ENGINES)
def test_cancelling_ends_a_run_that_goes_on(kind):
    card = read_card(find_model("light"))
    graph = kind(find_graph(card), card.spec, cancelled=lambda: True)
    axes = [Axis(300, 0, 300, 600)] * 2
    (whole,) = plan_tiles(axes, None, 0)
    with pytest.raises(Cancelled):
        graph.run_tile(np.zeros((5, 300, 300), np.float32), whole, [whole], axes, ("sr",), "fp32", 0.0)


def test_what_an_engine_cannot_do_is_refused_before_anything_is_computed(tiny, monkeypatch):
    with pytest.raises(OptionError, match="int8 is for models that were trained for it"):
        Options(precision="int8")
    with pytest.raises(OptionError, match="engine is"):
        Options(engine="tensorrt")
    with pytest.raises(OptionError, match="computes on the CPU"):
        Options(engine="onnxruntime", device="cuda")
    with pytest.raises(OptionError, match="not in bf16"):
        network_for(tiny, Options(engine="onnxruntime", precision="bf16"))
    with pytest.raises(OptionError, match="any-size"):
        network_for(Model.load("any-size"), Options(engine="onnxruntime"))
    with pytest.raises(DependencyError, match="has no graph"):
        network_for(Model(None, tiny.card), Options(engine="onnxruntime"))
    with pytest.raises(DependencyError, match="engine torch was asked for"):
        network_for(Model(None, tiny.card), Options(engine="torch"))
    monkeypatch.setattr(choice, "installed_engines", dict)
    with pytest.raises(DependencyError, match="pip install onnxruntime"):
        network_for(tiny, Options(engine="onnxruntime"))
    with pytest.raises(DependencyError, match="Neither PyTorch nor ONNX Runtime"):
        network_for(Model(None, tiny.card), Options())


def test_a_model_that_keeps_the_size_is_computed_without_pytorch_and_what_is_not_says_what_to_install(tiny, tmp_path):
    network = build_network("residual", nf=8, nb=2, unshuffle=2, scale=1)
    path = Model(network, ModelCard("x1", network.describe(), window=(0.0, 3000.0))).save(tmp_path / "x1.safetensors")
    make_graph(Model.load(path), path.with_suffix(".onnx"))
    assert network_for(Model(None, read_card(path)), Options(scale=1))[0].engine == "onnxruntime"
    drawn = replace(tiny.card, spec=replace(tiny.spec, stochastic=True))
    for card, options, why in (
        (read_card(find_model("any-size")), Options(scale=1), "any-size, and networks of any factor"),
        (read_card(find_model("any-size")), Options(output_spacing=0.1), "any-size, and networks of any factor"),
        (drawn, Options(uncertainty=4), "error bars of this model are made of random draws"),
    ):
        with pytest.raises(DependencyError, match=f"PyTorch is needed and not installed: .*{why}.*pip install torch"):
            network_for(Model(None, card), options)


def test_draws_and_graphics_cards_are_for_pytorch(tiny):
    drawn = replace(tiny.card, spec=replace(tiny.spec, stochastic=True))
    assert "draws" in why_only_torch(drawn, Options(uncertainty=4)) and not why_only_torch(drawn, Options())
    assert "CPU" in why_only_torch(tiny.card, Options(device="cuda:0"))
    assert "fp16" in why_only_torch(tiny.card, Options(precision="fp16"))


def measured(engine: str, speed: float, precision: str = "fp32", **more) -> Measured:
    return Measured(engine, installed_engines().get(engine, "1.0"), precision, speed, **more)


def test_auto_takes_an_engine_that_was_faster_here_if_it_saves_more_than_its_start_costs(with_graph, scan, monkeypatch):
    card = with_graph.card
    assert network_for(with_graph, Options(device="cpu"), 1e9)[0].engine == "torch"
    record_engines(card, [measured("torch", 1e4), measured("onnxruntime", 2e4, start_s=3.0)])
    network, reason = network_for(with_graph, Options(device="cpu"), 1e9)
    assert network.engine == "onnxruntime" and "2.0 times as fast" in reason
    assert network_for(with_graph, Options(device="cpu"), 3e4)[0].engine == "torch"
    assert network_for(with_graph, Options(device="cpu", engine="torch"), 1e9)[0].engine == "torch"
    assert super_resolve(scan, with_graph, Options(**USUAL)).report["engine"].startswith("torch")  # a small scan
    with monkeypatch.context() as patch:  # what was measured says nothing of a graphics card
        patch.setattr("CBCTSuperResLib.apply.engines.pytorch.choose_device", lambda name: torch.device("cuda"))
        assert network_for(with_graph, Options(), 1e9)[0].engine == "torch"
    for useless in ({"speed": 1.05e4}, {"speed": 9e4, "problem": "It differs."}):
        record_engines(card, [measured("torch", 1e4), measured("onnxruntime", **useless)])
        assert fastest_engine(card, "auto", 0.1, 1e9) is None
    record_engines(card, [measured("torch", 1e4), replace(measured("onnxruntime", 9e4), version="0.1")])
    assert fastest_engine(card, "auto", 0.1, 1e9) is None and len(known_engines(card)) == 1
    assert known_engines(replace(card, weights_sha256="1" * 64)) == []


def test_without_pytorch_the_engine_that_was_faster_is_taken_start_and_all(with_graph):
    bare = Model(None, with_graph.card)
    assert network_for(bare, Options(), 1e9)[0].engine == "onnxruntime"
    if "openvino" not in installed_engines():
        pytest.skip("openvino is not installed")
    record_engines(bare.card, [measured("onnxruntime", 1e4), measured("openvino", 2e4, start_s=2.0)])
    assert network_for(bare, Options(), 1e9)[0].engine == "openvino"
    assert network_for(bare, Options(), 1e4)[0].engine == "onnxruntime"


def test_auto_counts_bfloat16_only_where_the_scan_has_noise(with_graph):
    fast = [measured("openvino", 9e4, "bf16"), measured("openvino", 0.9e4)]
    card = with_graph.card
    record_engines(card, [measured("torch", 1e4), *fast])
    if "openvino" not in installed_engines():
        pytest.skip("openvino is not installed")
    assert fastest_engine(card, "auto", 0.01, 1e9).engine == "openvino"
    assert fastest_engine(card, "auto", 0.0, 1e9) is None and fastest_engine(card, "fp32", 0.01, 1e9) is None
    assert fastest_engine(card, "bf16", 0.0, 1e9) is None  # PyTorch's was not measured


def test_every_engine_that_is_installed_is_measured_against_pytorch(with_graph, monkeypatch):
    monkeypatch.setattr(speed_test, "REPEATS", 1)
    told = []
    found = speed_test.measure_engines(with_graph, lambda fraction, message: told.append(fraction))
    assert {m.engine for m in found} == set(installed_engines()) and found[0].engine == "torch"
    assert all(m.voxels_per_second > 0 for m in found) and told == sorted(told) and told[-1] == 1
    assert all(m.difference <= 1e-5 and not m.problem for m in found if m.precision == "fp32")
    record_engines(with_graph.card, found)
    assert known_engines(with_graph.card) == found
    with pytest.raises(Cancelled):
        speed_test.measure_engines(with_graph, cancelled=lambda: True)


def test_a_graph_that_was_made_is_kept_for_the_next_run(tiny, scan_path, tmp_path):
    assert find_graph(tiny.card) is None
    one_slice = Options(**USUAL, engine="onnxruntime", roi=((10, 30), (10, 30), (0, 1)))
    report = apply_to_file(scan_path, tmp_path / "a.nrrd", tiny, one_slice)
    assert report["super_resolution"]["engine"].startswith("onnxruntime")
    assert find_graph(tiny.card) == kept_graph(tiny.card) and find_graph(tiny.card).is_file()
    before = kept_graph(tiny.card).stat().st_mtime_ns
    keep_graph(tiny)
    assert kept_graph(tiny.card).stat().st_mtime_ns == before
    network = network_for(Model(None, tiny.card), Options(engine="onnxruntime"))[0]  # now PyTorch may lack
    assert network.engine == "onnxruntime"


def test_super_resolve_keeps_no_graph(tiny, scan):
    super_resolve(scan, tiny, Options(**USUAL, engine="onnxruntime", roi=((10, 30), (10, 30), (0, 1))))
    assert find_graph(tiny.card) is None


def test_the_speed_of_an_engine_that_was_asked_for_is_not_taken_for_the_usual_one(tiny):
    run = {"seconds": {"computing": 2.0}, "network_voxels": 1000, "roi": None, "pieces": 3, "device": "cpu"}
    run["model_sha256"] = tiny.card.weights_sha256
    record_speed({"super_resolution": run, "options": {"engine": "auto"}})
    record_speed({"super_resolution": {**run, "network_voxels": 4000}, "options": {"engine": "onnxruntime"}})
    assert known_speed(tiny.card, "cpu") == 500 and known_speed(tiny.card, "cpu", "onnxruntime") == 2000
    assert known_speed(tiny.card, "cpu", "openvino") == 500


def test_the_commands_make_a_graph_and_measure_engines(with_graph, tmp_path, capsys, monkeypatch):
    from CBCTSuperResLib.cli import engines, main

    there = {"torch": "2.0", "onnxruntime": "1.0"}
    monkeypatch.setattr(engines, "installed_engines", lambda: there)
    found = [measured("torch", 1e4), measured("onnxruntime", 2e4, psnr=133.0)]
    monkeypatch.setattr(speed_test, "measure_engines", lambda model, progress: found)
    path = str(with_graph.card.path)
    assert main(["models", "export", path, str(tmp_path / "graph.onnx")]) == 0
    assert OnnxRuntimeNetwork(tmp_path / "graph.onnx", with_graph.spec).problems(with_graph.card) == []
    capsys.readouterr()
    assert main(["engines", path, "--json"]) == 0
    assert [entry["engine"] for entry in json.loads(capsys.readouterr().out)] == ["torch", "onnxruntime"]
    assert known_engines(with_graph.card) == found
    assert main(["engines", path]) == 0
    told = capsys.readouterr().out
    assert "20,000" in told and "133 dB" in told and "Not installed: OpenVINO" in told
    assert main(["models", "export", path, str(tmp_path / "graph.txt")]) == OptionError.exit_code


def test_blocks_of_a_fixed_factor_are_computed_by_graphs_too(tmp_path):
    network = build_network("srgan3d", residual_blocks=1, feature_size=8)
    card = ModelCard(name="blocks", spec=network.describe(), window=(0.0, 1.0))
    model = Model.load(Model(network, card).save(tmp_path / "blocks.safetensors"))
    picture = np.random.default_rng(0).random((10, 12, 9), np.float32)
    axes = [Axis(n, 0, n, int(n * factor)) for n, factor in zip(picture.shape, model.spec.scale, strict=True)]
    (whole,) = plan_tiles(axes, None, 0)
    graph = network_for(model, Options(engine="onnxruntime", device="cpu"))[0]
    found, exact = (Engine(n, model.spec, "cpu", "fp32").run(picture, axes, whole) for n in (graph, model.network))
    assert np.abs(found - exact).max() <= 1e-5


def test_a_stub_that_no_graph_can_be_made_of_stays_with_pytorch(scan):
    model = stub_model(CubicTwice())
    assert super_resolve(scan, model, Options(**USUAL)).report["engine"].startswith("torch")
    assert find_model("light").name == "light.safetensors"
