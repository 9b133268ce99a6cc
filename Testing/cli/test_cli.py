"""The command `cbct-superres`, run as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from CBCTSuperResLib import Model, Volume  # noqa: E402
from CBCTSuperResLib.acquisition.phantom import jaw_scans  # noqa: E402
from CBCTSuperResLib.cli import main, make_parser  # noqa: E402
from CBCTSuperResLib.cli.apply import options_from_arguments  # noqa: E402
from CBCTSuperResLib.importers.spsr import export_checkpoint  # noqa: E402
from CBCTSuperResLib.models.card import ModelCard  # noqa: E402
from CBCTSuperResLib.networks import build_network  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return build_network("unetspsr", nf=4, nb=4, gc=4)


@pytest.fixture
def model(network, tmp_path, monkeypatch):
    """A tiny model in the folder of user models, under the name tiny."""
    folder = tmp_path / "Modelle für mich"
    folder.mkdir()
    monkeypatch.setenv("CBCT_SUPERRES_MODELS", str(folder))
    card = ModelCard("tiny", network.describe(), title="A tiny model", window=(26000, 46000))
    return Model(network, card).save(folder / "tiny.safetensors")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("Zähne 歯") / "scan ü.nrrd"
    _, coarse = jaw_scans((6, 64, 64), 0.2, seed=5)
    return coarse.write(path)


def test_apply_writes_the_result_at_twice_the_sampling_and_a_report_beside_it(scan, model, capsys):
    target = scan.with_name("result.mha")
    assert main(["apply", str(scan), str(target), "--model", "tiny", "--device", "cpu"]) == 0
    before, after = Volume.read(scan), Volume.read(target)
    assert after.voxels.shape == (6, 64, 64) and after.voxels.dtype == before.voxels.dtype
    assert np.allclose(after.spacing, np.array(before.spacing) / (2, 2, 1))
    corner = [-0.5, -0.5, -0.5]
    assert np.allclose(before.grid.point(corner), after.grid.point(corner), atol=1e-6)
    report = json.loads(Path(f"{target}.json").read_text(encoding="utf-8"))
    assert report["super_resolution"]["model"] == "tiny" and len(report["super_resolution"]["model_sha256"]) == 64
    printed = capsys.readouterr().out
    assert "not for diagnosis" in printed and report["super_resolution"]["window_reason"] in printed


def test_apply_computes_only_the_roi_in_the_type_that_is_asked_for(scan, model):
    target = scan.with_name("roi.nrrd")
    arguments = ["--model", "tiny", "--roi", "4", "20", "6", "26", "1", "4", "--dtype", "float32", "--quiet"]
    assert main(["apply", str(scan), str(target), *arguments]) == 0
    result = Volume.read(target)
    assert result.voxels.shape == (3, 40, 32) and result.voxels.dtype == np.float32


@pytest.mark.parametrize(("text", "scale"), [("2.5", 2.5), ("1,1,2.2", (1.0, 1.0, 2.2))])
def test_a_factor_or_one_for_each_axis_can_be_given(text, scale):
    parsed = make_parser().parse_args(["apply", "a.nrrd", "b.nrrd", "--scale", text])
    assert options_from_arguments(parsed).scale == scale


def test_quiet_prints_nothing(scan, model, capfd):
    assert main(["apply", str(scan), str(scan.with_name("quiet.nrrd")), "--model", "tiny", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.nrrd", "out.nrrd", "--model", "tiny"], 3, "missing.nrrd"),
        (["SCAN", "out.nrrd", "--model", "nobody"], 4, "nobody"),
        (["SCAN", "no/such/folder/out.nrrd", "--model", "tiny"], 7, "folder"),
        (["SCAN", "out.tiff", "--model", "tiny"], 7, ".tiff"),
        (["SCAN", "out.nrrd", "--model", "tiny", "--window", "9", "5"], 2, "window"),
        (["SCAN", "out.nrrd", "--model", "tiny", "--device", "cuda:77"], 6, "cuda:77"),
        (["SCAN", "out.nrrd", "--model", "tiny", "--scale", "3"], 2, "3"),
        (["SCAN", "out.nrrd", "--model", "tiny", "--tile", "32"], 4, "halo"),
        (["SCAN", "out.nrrd", "--model", "tiny", "--roi", "0", "99", "0", "9", "0", "3"], 2, "ROI"),
    ],
)
def test_bad_requests_end_with_a_reason_and_their_own_exit_code(
    scan, model, capsys, tmp_path, monkeypatch, arguments, code, words
):
    monkeypatch.chdir(tmp_path)
    before = scan.read_bytes()
    assert main(["apply", *(str(scan) if a == "SCAN" else a for a in arguments), "--quiet"]) == code
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and words in error
    assert scan.read_bytes() == before
    assert not list(tmp_path.glob("**/*out*"))


def test_a_missing_package_is_named_with_what_to_do(scan, model, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    for name in ("apply.run", "apply.prepare", "apply.finish", "apply.maps", "scan.blank_filling"):
        monkeypatch.delitem(sys.modules, f"CBCTSuperResLib.{name}", raising=False)
    assert main(["apply", str(scan), str(scan.with_name("none.nrrd")), "--model", "tiny", "--quiet"]) == 8
    assert "cv2" in capsys.readouterr().err


def test_info_tells_what_a_run_would_give_without_running_it(scan, model, capsys):
    assert main(["info", str(scan), "--model", "tiny", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["size"] == [32, 32, 6] and facts["output_size"] == [64, 64, 6]
    assert facts["output_bytes"] == 64 * 64 * 6 * 2
    assert 0.15 < facts["blank"]["share"] < 0.35
    assert facts["seconds"] > 0 and facts["memory_bytes"] > facts["output_bytes"]
    assert main(["info", str(scan), "--model", "tiny"]) == 0
    assert "Blank:" in capsys.readouterr().out


def test_models_are_listed_shown_and_verified(model, capsys):
    assert main(["models", "list"]) == 0
    listed = capsys.readouterr().out
    assert "tiny: A tiny model (x2 in slices, unetspsr" in listed and "Modelle für mich" in listed
    assert main(["models", "show", "tiny"]) == 0
    assert json.loads(capsys.readouterr().out)["window"] == [26000, 46000]
    assert main(["models", "verify", "tiny"]) == 0
    assert "BAD" not in capsys.readouterr().out


def test_a_tampered_model_is_refused(model, capsys):
    content = bytearray(model.read_bytes())
    content[-5] ^= 1
    model.write_bytes(content)
    assert main(["models", "verify", "tiny"]) == 4
    assert "Error" in capsys.readouterr().err


def test_weights_are_imported_exported_and_come_back_equal(model, network, tmp_path, capsys):
    checkpoint = tmp_path / "weights.pth"
    assert main(["models", "export", "tiny", str(checkpoint)]) == 0
    assert main(["models", "import", str(checkpoint), "--name", "again", "--window", "0", "100"]) == 0
    again = Model.load("again")
    assert again.card.window == (0, 100)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])
    export_checkpoint(again, tmp_path / "twice.pth")
    assert set(torch.load(tmp_path / "twice.pth", weights_only=True)) == set(torch.load(checkpoint, weights_only=True))


def test_calibrating_writes_the_halo_so_that_tiles_are_allowed(scan, model):
    assert main(["models", "calibrate", "tiny"]) == 0
    assert Model.load("tiny").card.spec.context >= 2 * 11
    target = scan.with_name("tiled.nrrd")
    assert main(["apply", str(scan), str(target), "--model", "tiny", "--tile", "16", "--quiet"]) == 0


def test_a_terminated_command_leaves_nothing_behind_and_says_so(scan, model, tmp_path):
    big = tmp_path / "big.nrrd"
    volume = Volume.read(scan)
    Volume(np.tile(volume.voxels, (40, 4, 4)), volume.grid.resampled((128, 128, 240))).write(big)
    target = tmp_path / "out.nrrd"
    command = [sys.executable, "-m", "CBCTSuperResLib.cli", "apply", str(big), str(target), "--model", "tiny"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "CBCTSuperRes"), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    seen = b""
    while b"Network" not in seen:
        piece = process.stderr.read(64)
        assert piece, seen
        seen += piece
    process.terminate()
    rest = process.stderr.read()
    assert process.wait(timeout=240) == 130
    assert b"Cancelled" in rest
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["big.nrrd"]
