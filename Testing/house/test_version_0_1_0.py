"""What version 0.1.0 left on a disk can still be read and gone on with: the files of Testing/fixtures/version_0_1_0.

Numbers are compared to 1e-5 instead of bit for bit, as processors and versions of torch round differently.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from CBCTSuperResLib import Model, SuperResError, Volume  # noqa: E402
from CBCTSuperResLib.batch import main as batch  # noqa: E402
from CBCTSuperResLib.cli import main  # noqa: E402
from options_files import as_now  # noqa: E402

OLD = Path(__file__).resolve().parents[1] / "fixtures" / "version_0_1_0"
MODELS = ("old-residual", "old-residual-slices", "old-unetspsr")
TOLERANCE = 1e-5


@pytest.fixture(autouse=True, scope="module")
def _without_pictures_of_curves():
    """Drawing them would take longer than all trainings here; without matplotlib there are none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A user's folder with everything in it, which is the present one, too; the models are the user's own."""
    folder = tmp_path / "Übernommen 1"
    shutil.copytree(OLD, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CBCT_SUPERRES_MODELS", str(folder / "models"))
    return folder


def put_in(file: Path, **places: Path) -> None:
    """Give a text file the folders that @NAME@ stands for."""
    text = file.read_text(encoding="utf-8")
    for name, path in places.items():
        text = text.replace(f"@{name}@", json.dumps(str(path), ensure_ascii=False)[1:-1])
    file.write_text(text, encoding="utf-8")


def command(*words: object) -> int:
    return main([str(word) for word in words])


# Models


def outputs_of(name: str) -> dict[str, np.ndarray]:
    with np.load(OLD / "models" / "outputs.npz") as kept:
        return {
            key.partition("/")[2]: kept[key] for key in kept.files if key.partition("/")[0] == name.removeprefix("old-")
        }


@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_what_it_computed(name):
    model, kept = Model.load(OLD / "models" / f"{name}.safetensors"), outputs_of(name)
    found = model.network(torch.from_numpy(kept.pop("x")))
    assert "sr" in kept and kept["sr"].std() > 0.05
    for output, values in kept.items():
        np.testing.assert_allclose(found[output].numpy(), values, atol=TOLERANCE, err_msg=output)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_listed_and_its_card_says_what_it_said(folder, capsys, name):
    assert command("models", "show", name) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["title"] == f"A tiny {name.removeprefix('old-')} of 0.1.0" and card["licence"] == "CC0-1.0"
    assert card["window"] == [0, 4000] and card["levels"] == {"air": 0.05, "soft": 0.3, "bone": 0.7}
    assert card["smooth"] == 0.5 and card["voxel_size_mm"] == [0.1, 0.4] and card["limits"] == "Not for use."
    assert card["training"]["note"] == "größer als nichts" and card["results"][0]["model"] == 30.5
    assert card["created_with"].startswith("CBCT Super-Resolution 0.1.0")
    assert card["spec"]["context"] == (24 if name == "old-unetspsr" else 10)
    assert Model.load(name).spec.slices == (1 if name == "old-residual-slices" else 0)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_passes_its_own_check(folder, capsys, name):
    assert command("models", "verify", name) == 0
    printed = capsys.readouterr().out
    assert "BAD" not in printed and len(printed.splitlines()) >= 3


def test_a_model_that_was_changed_since_is_still_refused(folder):
    path = folder / "models" / "old-residual.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x11")
    with pytest.raises(SuperResError, match="not those that were saved"):
        Model.load(path)


def test_exported_weights_can_be_imported_again(folder):
    words = ["--name", "again", "--out", "again.safetensors", "--window", 0, 4000, "--taps", 1, 2, 3, 4]
    assert command("models", "import", "models/old-unetspsr.pth", *words) == 0
    kept = outputs_of("old-unetspsr")
    found = Model.load("again.safetensors").network(torch.from_numpy(kept["x"]))["sr"]
    np.testing.assert_allclose(found.numpy(), kept["sr"], atol=TOLERANCE)


def test_how_fast_models_were_here_is_remembered(folder, capsys):
    def told() -> dict:
        words = ["--model", "old-residual", "--device", "cpu", "--json"]
        assert command("info", next((folder / "batch" / "scans").iterdir()), *words) == 0
        return json.loads(capsys.readouterr().out)

    assert told()["seconds_measured"] is False
    shutil.copy(folder / "speed.json", folder / "models")
    assert told()["seconds_measured"] is True and told()["seconds"] == pytest.approx(4 * 20 * 22 / 500000)


# Runs


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> Path:
    """The folder of a run that 0.1.0 was stopped in after step 5 of 8, gone on with to its end in another place."""
    place = tmp_path_factory.mktemp("Umgezogen") / "new place"
    with zipfile.ZipFile(OLD / "run.zip") as kept:
        kept.extractall(place)
    for pool in (place / "runs" / "procedural").iterdir():
        os.utime(pool, (1.7e9, 1.7e9))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        torch.set_num_threads(1)
        assert command("train", "-opt", "train.json", "--resume", "auto", "--quiet") == 0
    return place / "runs" / "experiments" / "old"


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_stopped_run_that_was_moved_ends_as_the_undisturbed_one(resumed):
    network = Model.load(resumed / "models" / "latest_G.safetensors").network
    with np.load(OLD / "run_to_the_end" / "model.npz") as kept:
        tensors = network.state_dict()
        assert sorted(tensors) == list(kept["names"])
        assert [tensors[name].numel() for name in kept["names"]] == list(kept["sizes"])
        found = np.concatenate([tensors[name].numpy().ravel() for name in kept["names"]])
        # A mean that began anew at the checkpoint would be 6e-6 off, lost moments of Adam 2e-4.
        np.testing.assert_allclose(found, kept["weights"], rtol=0, atol=TOLERANCE / 5)
        np.testing.assert_allclose(network(torch.from_numpy(kept["x"]))["sr"], kept["sr"], atol=TOLERANCE)


def test_its_curves_are_those_of_the_undisturbed_run(resumed):
    found, wanted = rows_of(resumed / "curves.csv"), rows_of(OLD / "run_to_the_end" / "curves.csv")
    assert [row["step"] for row in found] == [str(step) for step in range(1, 9)]
    for row, kept in zip(found, wanted, strict=True):
        for name in kept.keys() - {"seconds"}:
            assert bool(row[name]) == bool(kept[name]), name
            if kept[name]:
                assert float(row[name]) == pytest.approx(float(kept[name]), rel=1e-3, abs=TOLERANCE), name


def test_its_first_checkpoints_and_its_log_stay_and_it_is_finished(resumed):
    states = sorted(path.name for path in (resumed / "training_state").iterdir())
    assert "8.state" in states
    status = json.loads((resumed / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "finished" and status["step"] == 8 and status["best"]["step"] == 8
    assert "iter:       5" in (log := (resumed / "train.log").read_text(encoding="utf-8")) and "iter:       6" in log
    assert not [path for path in resumed.parent.iterdir() if "archived" in path.name]


def test_the_drawn_slices_of_the_old_run_which_do_not_say_what_made_them_are_drawn_anew(resumed):
    pools = sorted((resumed.parents[1] / "procedural").glob("*.f16"))
    assert [path.name for path in pools] == ["0-2-32.f16", "0-4-32.f16"]
    for path in pools:
        with path.open("rb") as file:
            assert len(json.loads(file.readline())["sha256"]) == 64
        assert path.stat().st_mtime > 1.7e9


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The folder of the stopped run; the present folder is that of its options file."""
    with zipfile.ZipFile(OLD / "run.zip") as kept:
        kept.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "experiments" / "old"


def test_changed_options_of_an_old_run_are_told(run, capsys):
    words = ["--resume", "auto", "--quiet", "--set", "train.lr_D=0.5"]
    assert command("train", "-opt", "train.json", *words) == 2
    assert "train.lr_D: 0.0001 -> 0.5" in capsys.readouterr().err


def test_the_model_of_an_old_run_can_be_exported(run, tmp_path, capsys):
    words = ["--out", tmp_path / "own.safetensors", "--no-halo"]
    assert command("export", run, *words) == 0
    model = Model.load(tmp_path / "own.safetensors")
    assert model.card.title == "An old run" and model.card.training and model.card.results
    best = Model.load(run / "models" / "best_G.safetensors").network.state_dict()
    assert all(torch.equal(best[name], tensor) for name, tensor in model.network.state_dict().items())
    assert command("export", run, *words[:1], tmp_path / "five.safetensors", "--no-halo", "--which", "5") == 0


# Options and pairs


def test_a_training_file_with_comments_and_leading_commas_is_trained_with_and_is_what_the_panel_saved(folder, capsys):
    assert command("train", "-opt", "options/train.json", "--quiet") == 0
    resume = ["train", "-opt", "options/saved.json", "--quiet", "--resume", "auto"]  # refused if any option differs
    assert command(*resume) == 0
    assert command(*resume, "--set", "train.beta1_D=0.5") == 2 and "beta1_D" in capsys.readouterr().err
    run = folder / "old" / "experiments" / "old_options"
    assert json.loads((run / "status.json").read_text(encoding="utf-8"))["step"] == 3
    kept = json.loads((OLD / "options" / "values.json").read_text(encoding="utf-8"))["train"]
    assert lacking(as_now(kept), json.loads((run / "options.json").read_text(encoding="utf-8"))) == []
    card = Model.load(run / "models" / "latest_G.safetensors").card
    assert card.window == pytest.approx((19310, 48430))  # what the pairs' 0 and 65535 stand for


def lacking(kept: dict, found: dict, place: str = "") -> list[str]:
    """The places at which a table has not what it had."""
    missing = []
    for name, value in kept.items():
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            missing += lacking(value, found[name], f"{place}{name}.")
        elif name not in found or found[name] != value:
            missing.append(f"{place}{name}")
    return missing


def test_a_test_file_measures_what_it_measured(folder, capsys):
    assert command("test", "-opt", "options/test.json") == 0
    found, kept = (
        json.loads(path.read_text(encoding="utf-8"))
        for path in (folder / "old" / "results" / "old_test" / "results.json", OLD / "options" / "test_results.json")
    )
    assert found["model"] == kept["model"]
    (found,), (kept,) = found["datasets"].values(), kept["datasets"].values()
    assert found["images"] == found["measured"] == kept["measured"] == 3
    assert found["means"] == pytest.approx(kept["means"], rel=1e-3)


def test_prepared_pairs_are_found_where_their_datasets_say(folder, capsys):
    put_in(folder / "pairs" / "datasets.json", FOLDER=folder / "pairs")
    datasets = json.loads((folder / "pairs" / "datasets.json").read_text(encoding="utf-8"))
    assert datasets["train"].pop("scanner_window") == [19310, 48430]  # of trainings alone; train.json has it
    options = json.loads((OLD / "options" / "values.json").read_text(encoding="utf-8"))["test"]
    options["datasets"] = {"test_1": datasets["val"], "test_2": datasets["train"]}
    Path("own.json").write_text(json.dumps(options), encoding="utf-8")
    assert command("test", "-opt", "own.json", "--quiet") == 0
    found = json.loads(Path("old/results/old_test/results.json").read_text(encoding="utf-8"))["datasets"]
    assert found["VAL"]["measured"] == found["TRAIN"]["measured"] == 3
    assert found["VAL"]["means"]["psnr_cubic"] == pytest.approx(27.154, abs=1e-3)


# Results


@pytest.fixture
def done(folder) -> list[str]:
    """What 0.1.0's batch was told; its scan, result and report are as old as they were."""
    batch = folder / "batch"
    (report,) = (batch / "results").glob("*.json")
    put_in(report, FOLDER=batch)
    told = json.loads(report.read_text(encoding="utf-8"))
    for side in ("input", "output"):
        os.utime(told[side]["path"], (told[side]["modified"],) * 2)
    words = ["--input", batch / "scans", "--output-folder", batch / "results", "--model", "old-residual"]
    return [str(word) for word in (*words, "--device", "cpu", "--ensemble", 2, "--skip-existing")]


def test_a_result_that_is_there_is_skipped(done, folder, capsys):
    (result,) = (folder / "batch" / "results").glob("*.nrrd")
    before = result.read_bytes()
    assert batch(done) == 0
    assert "up to date, skipped" in capsys.readouterr().out and result.read_bytes() == before


def test_a_result_is_computed_as_it_was(folder):
    scan = next((folder / "batch" / "scans").iterdir())
    # The window that version 0.1.0 found by itself; the present one is another, on purpose.
    words = ["--model", "old-residual", "--device", "cpu", "--ensemble", 2, "--window", 148, 2435, "--quiet"]
    assert command("apply", scan, "again.nrrd", *words) == 0
    found, kept = Volume.read("again.nrrd"), Volume.read(next((folder / "batch" / "results").glob("*.nrrd")))
    assert found.voxels.dtype == kept.voxels.dtype and found.grid.size == kept.grid.size
    assert np.abs(found.voxels.astype(int) - kept.voxels.astype(int)).max() <= 1  # rounding to whole grey values
    np.testing.assert_allclose(found.grid.index_to_point, kept.grid.index_to_point, atol=1e-6)
