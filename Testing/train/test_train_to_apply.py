"""The whole way as a user goes it: the seed's options file, a training that is killed and resumed, export, apply."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from CBCTSuperResLib import Volume  # noqa: E402
from CBCTSuperResLib.acquisition.phantom import jaw_scans  # noqa: E402
from CBCTSuperResLib.cli import main  # noqa: E402
from CBCTSuperResLib.models.card import read_card  # noqa: E402
from CBCTSuperResLib.networks.vgg import VGG19  # noqa: E402
from CBCTSuperResLib.train import plan as plan_module  # noqa: E402
from forked import exit_code, fork, only_where_forks_are  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SIZES = [
    "gpu_ids=[]",
    "network_G.nf=4",
    "network_G.nb=4",
    "network_G.gc=4",
    "network_D.nf=4",
    "datasets.train.batch_size=2",
    "datasets.train.HR_size=32",
    "datasets.train.n_workers=1",
    "train.niter=8",
    "train.val_freq=4",
    "logger.print_freq=1",
    "logger.save_checkpoint_freq=2",
]


def printed_options() -> str:
    """The training options of the seed's README as printed; where the seed is missing, our file of the same keys."""
    for folder in ROOT.parents:
        for seed in (folder / "shared" / "seeds").glob("000_*.txt"):
            text = seed.read_text(encoding="utf-8", errors="replace")
            return re.search(r"train_unetspsr\.json file\s+```json\s(.*?)```", text, re.DOTALL)[1]
    return (ROOT / "Resources" / "Configurations" / "train_unetspsr.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Folders HR and LR with 16-bit slices of one phantom, the scan itself, and how to name them in the options."""
    folder = tmp_path_factory.mktemp("Schnitte für das Training")
    fine, coarse = jaw_scans((6, 96, 96), 0.2, seed=3, blank=None)
    for name, volume in (("HR", fine), ("LR", coarse)):
        (folder / name).mkdir()
        for k, image in enumerate(volume.voxels):
            assert cv2.imwrite(str(folder / name / f"patient1_{k:03d}.png"), image)
    coarse.write(folder / "scan.nrrd")
    return folder


@pytest.fixture(scope="module")
def options_file(pairs):
    path = pairs / "train_unetspsr.json"
    path.write_text(printed_options(), encoding="utf-8")
    return path


def command(options_file: Path, pairs: Path, *more: str) -> list[str]:
    roots = [f"datasets.{phase}.dataroot_{kind}={pairs / kind}" for phase in ("train", "val") for kind in ("HR", "LR")]
    places = [*roots, f"path.root={pairs}", "train.feature_weight=0"]
    return ["train", "-opt", str(options_file), "--set", *places, *SIZES, *more]


def kill_after_step_four(arguments: list[str], run: Path) -> None:
    """Run a command in another process and kill it as soon as the checkpoint of step 4 is there."""
    log = run.parent.parent / "output.txt"
    with open(log, "wb") as output:
        process = fork(lambda: main(arguments), output.fileno())
    try:
        while not (run / "training_state" / "4.state").exists():
            assert os.waitpid(process, os.WNOHANG) == (0, 0), log.read_text(encoding="utf-8")
            time.sleep(0.005)
    finally:
        os.kill(process, signal.SIGKILL)
        assert exit_code(process) == -signal.SIGKILL


@only_where_forks_are
def test_the_printed_options_train_are_killed_resume_export_and_apply(options_file, pairs, monkeypatch, capsys):
    run = pairs / "experiments" / "UNetSPSR"
    kill_after_step_four(command(options_file, pairs), run)
    assert not (run / "training_state" / "8.state").exists()

    assert main([*command(options_file, pairs), "--resume", "auto"]) == 0
    assert (run / "training_state" / "8.state").exists()
    steps = [line.split(",")[0] for line in (run / "curves.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert [step for step in dict.fromkeys(steps)] == [str(n) for n in range(1, 9)]

    models = pairs / "models of mine"
    monkeypatch.setenv("CBCT_SUPERRES_MODELS", str(models))
    assert main(["export", str(run), "--out", str(models / "mine.safetensors")]) == 0
    card = read_card(models / "mine.safetensors")
    assert card.window == (26000, 46000) and card.spec.options["nf"] == 4

    capsys.readouterr()
    assert main(["models", "list"]) == 0
    assert "mine" in capsys.readouterr().out
    words = ["--model", "mine", "--window", "model", "--quiet"]  # its enamel is outside, so it is not taken unasked
    assert main(["apply", str(pairs / "scan.nrrd"), str(pairs / "result.nrrd"), *words]) == 0
    before, after = Volume.read(pairs / "scan.nrrd"), Volume.read(pairs / "result.nrrd")
    assert after.voxels.shape == (6, 96, 96) and after.voxels.dtype == before.voxels.dtype == np.uint16


def test_a_dry_run_of_the_printed_options_tells_what_is_missing_and_writes_nothing(tmp_path, capsys, monkeypatch):
    path = tmp_path / "as printed.json"
    path.write_text(printed_options(), encoding="utf-8")
    monkeypatch.setattr(plan_module, "available_memory", lambda: 1_000_000_000)
    sizes = ["--set", *(size for size in SIZES if size.startswith(("network", "datasets.train.HR_size")))]
    assert main(["train", "-opt", str(path), "--dry-run", "--device", "cpu", *sizes]) == 3
    told = capsys.readouterr().out
    assert "dataroot_HR" in told and "feature_weights" in told and "micro-batch" in told
    assert list(tmp_path.iterdir()) == [path]


def test_a_dry_run_looks_into_the_images(options_file, pairs, tmp_path, capsys):
    assert main([*command(options_file, pairs, f"path.root={tmp_path}"), "--dry-run"]) == 0
    assert "of the grey values outside [26000, 46000]." in capsys.readouterr().out
    black = [f"path.root={tmp_path}", "datasets.train.normalization_range=[64000,65000]"]
    assert main([*command(options_file, pairs, *black), "--dry-run"]) == 3
    assert "nothing could be learnt" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_option_is_refused_with_a_suggestion(options_file, pairs, capsys):
    assert main(command(options_file, pairs, "train.pixel_wieght=1")) == 2
    assert "pixel_weight" in capsys.readouterr().err


def test_features_are_compared_with_the_weights_that_a_file_holds(options_file, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    torch.save(VGG19().state_dict(), tmp_path / "weights.pth")
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    weights = (tmp_path / "weights.pth").rename(tmp_path / f"vgg19-{digest[:8]}.pth")
    arguments = command(options_file, pairs, f"path.root={tmp_path}", "train.feature_weight=1", "train.niter=1")
    assert main([*arguments, "--feature-weights", str(weights), "--quiet"]) == 0
    (row, *_) = csv.DictReader((tmp_path / "experiments" / "UNetSPSR" / "curves.csv").open(encoding="utf-8"))
    assert float(row["l_g_fea"]) > 0

    assert main([*arguments, "--feature-weights", str(tmp_path / "vgg19-00000000.pth"), "--quiet"]) == 3


def test_a_test_measures_the_model_of_the_run_and_writes_16_bit_images(options_file, pairs, tmp_path, capsys):
    where = [f"path.root={tmp_path}", "train.niter=2", "train.val_freq=2"]
    assert main([*command(options_file, pairs, *where), "--quiet"]) == 0
    text = (ROOT / "Resources" / "Configurations" / "test_unetspsr.json").read_text(encoding="utf-8")
    (tmp_path / "test.json").write_text(text, encoding="utf-8")
    roots = [f"datasets.test_1.dataroot_{kind}={pairs / kind}" for kind in ("HR", "LR")]
    sizes = [setting for setting in SIZES if setting.startswith(("gpu_ids", "network_G"))]
    changes = [*roots, *sizes, f"path.root={tmp_path}", "path.pretrain_model_G=null"]
    capsys.readouterr()
    assert main(["test", "-opt", str(tmp_path / "test.json"), "--set", *changes, "--quiet"]) == 0
    report = json.loads((tmp_path / "results" / "UNetSPSR" / "results.json").read_text(encoding="utf-8"))
    (found,) = report["datasets"].values()
    assert found["images"] == found["measured"] == 6
    results = sorted(Path(found["folder"]).glob("*.tif*"))
    assert len(results) == 6 and cv2.imread(str(results[0]), cv2.IMREAD_UNCHANGED).dtype == np.uint16
