"""`apply … --format dicom`: a scan in, a derived DICOM series and its report out, together or not at all."""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest
from CBCTSuperResLib import Options, Volume
from CBCTSuperResLib.apply import file
from CBCTSuperResLib.apply.dicom_result import export_dicom
from CBCTSuperResLib.apply.file import apply_to_file
from CBCTSuperResLib.cli import main
from CBCTSuperResLib.core.errors import Cancelled, OptionError, OutputError
from CBCTSuperResLib.io.read import read_volume
from CBCTSuperResLib.jobs.job import Job
from dicom_files import write_slices
from helpers import make_grid
from stub_networks import CubicTwice, stub_model
from waiting import run_to_end

OPTIONS = Options(window=(0.0, 1000.0), device="cpu", blank="none")
VOXELS = np.random.default_rng(0).integers(20, 900, (3, 20, 24)).astype(np.int16)
JANE = {"patient_name": "Doe^Jane", "patient_id": "P1"}


@pytest.fixture
def scan(tmp_path):
    return Volume(VOXELS, make_grid((24, 20, 3), (0.25, 0.25, 0.25))).write(tmp_path / "scan.nrrd")


@pytest.fixture
def series(tmp_path):
    def rescale(k, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.SeriesDescription = 1, -50, "Jaw"

    write_slices(tmp_path / "series", VOXELS, 0.25 * np.arange(3), rescale)
    return tmp_path / "series"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def images(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_a_dicom_scan_becomes_a_series_of_its_patient_in_the_same_place(series, tmp_path):
    model = stub_model(CubicTwice())
    report = apply_to_file(series, tmp_path / "out", model, OPTIONS, as_dicom=True)
    apply_to_file(series, tmp_path / "out.nrrd", model, OPTIONS)
    expected, back = read_volume(tmp_path / "out.nrrd"), read_volume(tmp_path / "out")
    assert np.array_equal(back.voxels, expected.voxels) and back.voxels.dtype == expected.voxels.dtype
    assert np.allclose(back.grid.index_to_point, expected.grid.index_to_point, atol=1e-6)
    first = images(tmp_path / "out")[0]
    assert (first.StudyInstanceUID, first.FrameOfReferenceUID) == ("1.2", "1.2.9")
    assert str(first.PatientName) == "Doe^Jane" and first.SeriesInstanceUID == report["dicom"]["series"] != "1.2.3"
    run = report["super_resolution"]
    assert run["model"] in first.DerivationDescription and run["model_sha256"] in first.DerivationDescription
    assert "predicted" in first.DerivationDescription and first.SeriesDescription.startswith("Jaw SR x2")
    assert (first.WindowCenter, first.WindowWidth) == (500, 1000)
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["dicom"]["slices"] == 3


def test_any_other_scan_needs_a_patient_before_anything_is_computed(scan, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(OptionError, match="--patient-name"):
        patch.setattr("CBCTSuperResLib.apply.run.super_resolve", None)
        apply_to_file(scan, tmp_path / "out", stub_model(CubicTwice()), OPTIONS, as_dicom=True)
    assert names(tmp_path) == ["scan.nrrd"]
    apply_to_file(scan, tmp_path / "out", stub_model(CubicTwice()), OPTIONS, as_dicom=True, **JANE)
    assert {str(image.PatientName) for image in images(tmp_path / "out")} == {"Doe^Jane"}


def test_a_folder_that_is_not_empty_is_refused_before_anything_is_read(scan, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    monkeypatch.setattr(file.Volume, "read", None)
    with pytest.raises(OutputError, match="no empty folder"):
        apply_to_file(scan, tmp_path / "out", stub_model(CubicTwice()), OPTIONS, as_dicom=True, **JANE)


def test_the_folder_of_the_slices_is_no_place_for_the_result(series):
    with pytest.raises(OutputError, match="among the input slices"):
        apply_to_file(series, series / "out", stub_model(CubicTwice()), OPTIONS, as_dicom=True)


def test_what_is_asked_for_beside_it_is_beside_it(scan, tmp_path):
    options = Options(window=(0.0, 1000.0), device="cpu", blank="none", uncertainty=2, disagreement_above=1.0)
    apply_to_file(scan, tmp_path / "out", stub_model(CubicTwice()), options, as_dicom=True, **JANE)
    assert {"out", "out.json", "out model disagreement.nrrd", "out model disagreement mask.nrrd"} <= set(
        names(tmp_path)
    )


def test_a_report_that_cannot_be_written_takes_the_series_with_it(scan, tmp_path, monkeypatch):
    def fail(report):
        assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name.endswith(".out")]  # written
        assert not (tmp_path / "out").exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file, "json_text", fail)
    with pytest.raises(OutputError):
        apply_to_file(scan, tmp_path / "out", stub_model(CubicTwice()), OPTIONS, as_dicom=True, **JANE)
    assert [name for name in names(tmp_path) if not name.endswith(".lock")] == ["scan.nrrd"]


def test_cancelling_while_it_is_written_leaves_nothing(scan, tmp_path):
    last = []
    with pytest.raises(Cancelled):
        apply_to_file(
            scan,
            tmp_path / "out",
            stub_model(CubicTwice()),
            OPTIONS,
            lambda fraction, message: last.append(message),
            lambda: last[-1:] == ["Writing DICOM"],
            as_dicom=True,
            **JANE,
        )
    assert [name for name in names(tmp_path) if not name.endswith(".lock")] == ["scan.nrrd"]


def test_a_result_can_be_exported_later(series, scan, tmp_path):
    apply_to_file(series, tmp_path / "out.nrrd", stub_model(CubicTwice()), OPTIONS)
    report = json.loads((tmp_path / "out.nrrd.json").read_text(encoding="utf-8"))["super_resolution"]
    result = read_volume(tmp_path / "out.nrrd")
    result = Volume(result.voxels, result.grid, None, report)
    export_dicom(result, tmp_path / "of series", series)
    assert images(tmp_path / "of series")[2].StudyInstanceUID == "1.2"
    export_dicom(result, tmp_path / "of nobody", patient_name="Doe^Jane", patient_id="P1")
    assert images(tmp_path / "of nobody")[2].StudyInstanceUID != "1.2"
    assert np.array_equal(read_volume(tmp_path / "of nobody").voxels, result.voxels)


def test_the_command_writes_dicom_and_tells_the_series(series, scan, tiny_model, tmp_path, capsys):
    common = ["--model", str(tiny_model), "--window", "0", "1000", "--device", "cpu"]
    assert main(["apply", str(series), str(tmp_path / "out"), "--format", "dicom", *common]) == 0
    assert images(tmp_path / "out")[0].SeriesInstanceUID in capsys.readouterr().out
    assert main(["apply", str(scan), str(tmp_path / "b"), "--format", "dicom", *common]) == 2
    assert "--patient-name" in capsys.readouterr().err
    assert main(["apply", str(scan), str(tmp_path / "b.nrrd"), "--patient-id", "P1", *common]) == 2
    assert "--format dicom" in capsys.readouterr().err


def test_a_worker_exports_a_result_that_is_there(series, tmp_path):
    apply_to_file(series, tmp_path / "out.nrrd", stub_model(CubicTwice()), OPTIONS)
    report = json.loads((tmp_path / "out.nrrd.json").read_text(encoding="utf-8"))["super_resolution"]
    task = {"kind": "dicom", "result": str(tmp_path / "out.nrrd"), "report": report, "scan": str(series)}
    job = Job({**task, "out": str(tmp_path / "out")}).start()
    try:
        run_to_end(job)
    finally:
        job.close()
    assert job.error is None, job.error.detail
    assert images(tmp_path / "out")[0].SeriesInstanceUID == job.report["series"]
    assert job.fraction == 1
