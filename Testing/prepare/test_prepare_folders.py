"""Folders of scans: paired by name, split by patient, one failure not hindering the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.phantom import jaw_scans
from CBCTSuperResLib.core.errors import Cancelled, InputError, OptionError
from CBCTSuperResLib.io.volume import Volume

pytest.importorskip("hypothesis")
pytest.importorskip("cv2", reason="preparing pairs needs OpenCV")

from CBCTSuperResLib.prepare import holds_scans, prepare
from CBCTSuperResLib.prepare.folders import (
    find_pairs,
    patient_of,
    prepare_folders,
    split_patients,
)
from CBCTSuperResLib.prepare.options import PrepareOptions
from hypothesis import given
from hypothesis import strategies as st

OPTIONS = PrepareOptions(min_size=40, min_slices=8, register=False, val_share=0.34, patient_pattern=r"^(P\d+)")
LIBRARY = Path(__file__).resolve().parents[2] / "CBCTSuperRes"


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """LR and HR of P1 (twice), P2 and P3, one that does not belong together, one without a partner."""
    folder = tmp_path_factory.mktemp("scans ä")
    for side in ("LR", "HR"):
        (folder / side).mkdir()
    for seed, name in enumerate(["P1_left", "P1_right", "P2", "P3"]):
        fine, coarse = jaw_scans((24, 96, 96), 0.2, seed)
        coarse.write(folder / "LR" / f"{name}_LR.nrrd")
        fine.write(folder / "HR" / f"HR {name}.nrrd")
    fine, _ = jaw_scans((24, 96, 96), 0.2, 7)
    _, coarse = jaw_scans((24, 96, 96), 0.2, 8)
    Volume(coarse.voxels, fine.grid.resampled(coarse.grid.size)).write(folder / "LR" / "P4.nrrd")
    fine.write(folder / "HR" / "P4.nrrd")
    fine.write(folder / "HR" / "P5.nrrd")
    return folder


@pytest.fixture(scope="module")
def prepared(scans) -> tuple[dict, Path]:
    return prepare(scans / "LR", scans / "HR", scans / "out", OPTIONS), scans / "out"


def test_a_failed_pair_is_told_and_the_rest_are_there(prepared):
    report, out = prepared
    assert [pair["name"] for pair in report["pairs"]] == ["P1_left", "P1_right", "P2", "P3"]
    assert [failure["name"] for failure in report["failed"]] == ["P4"]
    assert "not aligned" in report["failed"][0]["what"]
    assert [Path(path).name for path in report["unpaired"]] == ["P5.nrrd"]
    assert len(report["warnings"]) == 2
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(report))


def test_a_patient_is_in_one_set_only(prepared):
    report, out = prepared
    sets = {pair["name"]: pair["set"] for pair in report["pairs"]}
    assert sets["P1_left"] == sets["P1_right"]
    assert sorted(report["patients"].values()) == ["train", "train", "val"]
    for name in ("train", "val"):
        sides = [sorted(path.name for path in (out / name / side).iterdir()) for side in ("HR", "LR")]
        assert sides[0] == sides[1]
        assert {n.rpartition("_")[0] for n in sides[0]} == {pair for pair, chosen in sets.items() if chosen == name}


def test_each_pair_has_its_report_picture_and_transform(prepared):
    _, out = prepared
    for name in ("P1_left", "P1_right", "P2", "P3"):
        files = {path.name for path in (out / "reports" / name).iterdir()}
        assert files == {"report.json", "checkerboard.png", "lr_to_hr.tfm"}
    assert {path.name for path in out.iterdir()} == {"train", "val", "reports", "report.json", "datasets.json"}


def test_the_datasets_are_what_training_reads(prepared):
    _, out = prepared
    datasets = json.loads((out / "datasets.json").read_text(encoding="utf-8"))
    assert set(datasets) == {"train", "val"}
    for name, dataset in datasets.items():
        assert dataset["dataroot_HR"] == str(out / name / "HR")
        assert dataset["dataroot_LR"] == str(out / name / "LR")
    assert datasets["train"]["scanner_window"][0] < datasets["train"]["scanner_window"][1]


def test_the_written_slices_open_as_training_data(prepared):
    pytest.importorskip("torch")
    from CBCTSuperResLib.train.data.source import open_images
    from CBCTSuperResLib.train.options_file import read_options

    _, out = prepared
    datasets = json.loads((out / "datasets.json").read_text(encoding="utf-8"))
    network = {"which_model_G": "unetspsr_net", "nf": 8, "nb": 4, "in_nc": 1, "out_nc": 1}
    text = {"name": "test", "model": "unetspsr", "scale": 2, "path": {"root": str(out)}, "network_G": network}
    options = read_options({**text, "datasets": {"test_1": datasets["val"]}}, is_train=False)
    pair = next(iter(open_images(options.datasets["test_1"], options)))
    assert pair.HR.shape[-1] == 2 * pair.LR.shape[-1]
    assert 0.1 < float(np.mean(pair.HR)) < 0.9


def test_volumes_are_listed_one_by_one(scans, tmp_path):
    options = PrepareOptions.from_json({**OPTIONS.to_json(), "format": "nrrd", "patient_pattern": None})
    report = prepare_folders(scans / "LR", scans / "HR", tmp_path / "out", options)
    datasets = json.loads((tmp_path / "out" / "datasets.json").read_text(encoding="utf-8"))
    files = [*datasets["train"]["dataroot_LR"], *datasets["val"]["dataroot_LR"]]
    assert sorted(Path(file).stem for file in files) == sorted(pair["name"] for pair in report["pairs"])
    assert all(Volume.read(file).voxels.dtype == np.uint16 for file in files)


def test_folders_without_a_common_name_are_refused(scans, tmp_path):
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        (tmp_path / side / f"{side}.nrrd").touch()
    with pytest.raises(InputError, match="has the name"):
        find_pairs(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a" / "B_lr.nrrd").touch()
    (tmp_path / "a" / "b.nii").touch()
    with pytest.raises(InputError, match="same name"):
        find_pairs(tmp_path / "a", tmp_path / "b")
    for name in ("P 1", "P_1"):  # whose images would be called alike
        (tmp_path / "b" / f"{name}.nrrd").touch()
        (tmp_path / f"{name}.nrrd").touch()
    with pytest.raises(InputError, match="same name"):
        find_pairs(tmp_path, tmp_path / "b")


def test_all_pairs_failing_is_an_error_and_leaves_nothing(scans, tmp_path):
    options = PrepareOptions.from_json({**OPTIONS.to_json(), "min_size": 500})
    with pytest.raises(InputError, match="All 5 pairs failed"):
        prepare_folders(scans / "LR", scans / "HR", tmp_path / "out", options)
    assert not list(tmp_path.iterdir())


def test_cancelling_between_pairs_leaves_nothing(scans, tmp_path):
    told = []
    with pytest.raises(Cancelled):
        prepare_folders(
            scans / "LR",
            scans / "HR",
            tmp_path / "out",
            OPTIONS,
            lambda fraction, message: told.append(message),
            lambda: any(message.startswith("P1_right") for message in told),
        )
    assert not list(tmp_path.iterdir())


def test_the_patient_is_what_the_pattern_finds():
    assert patient_of("P12_left", r"^(P\d+)") == "P12"
    assert patient_of("P12_left", r"P\d+") == "P12"
    assert patient_of("P12_left", None) == "P12_left"
    with pytest.raises(OptionError, match="not found in x"):
        patient_of("x", r"^P")


@given(
    st.sets(st.text("abc123", min_size=1, max_size=6), min_size=2, max_size=30), st.floats(0, 0.9), st.integers(0, 9)
)
def test_a_split_has_both_sets_and_the_share_that_was_asked_for(patients, share, seed):
    sets = split_patients(sorted(patients), share, seed)
    assert set(sets) == patients
    number = sum(name == "val" for name in sets.values())
    assert number == 0 if share == 0 else 1 <= number < len(patients)
    assert abs(number - share * len(patients)) <= 1
    assert sets == split_patients(sorted(patients, reverse=True), share, seed)


def test_the_seed_decides_the_split():
    patients = [f"P{n}" for n in range(20)]
    chosen = {
        frozenset(p for p, name in split_patients(patients, 0.2, seed).items() if name == "val") for seed in (0, 1)
    }
    assert len(chosen) == 2


def test_a_patient_who_is_added_moves_at_most_one_other():
    patients = [f"P{n}" for n in range(20)]
    before, after = split_patients(patients, 0.2, 0), split_patients([*patients, "Q"], 0.2, 0)
    assert sum(before[p] != after[p] for p in patients) <= 1


def test_a_folder_that_is_a_scan_is_none_of_scans(tmp_path):
    (tmp_path / "slices").mkdir()
    (tmp_path / "slices" / "1.tif").touch()
    assert not holds_scans(tmp_path / "slices")
    assert not holds_scans(tmp_path / "slices" / "1.tif")
    assert holds_scans(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal for another process")
def test_ctrl_c_ends_the_command_and_leaves_nothing(scans, tmp_path):
    arguments = ["prepare", "--lr", scans / "LR", "--hr", scans / "HR", "--out", tmp_path / "out", "--min-size", "40"]
    command = [sys.executable, "-u", "-m", "CBCTSuperResLib.cli", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=LIBRARY, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    while not list(tmp_path.iterdir()) and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert b"Cancelled" in process.communicate(timeout=240)[1]
    assert process.returncode == 130
    assert not list(tmp_path.iterdir())
