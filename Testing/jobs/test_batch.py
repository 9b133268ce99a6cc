"""The batch command: many scans with real workers, exit codes, skipping; as a file and within this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.cli import batch
from CBCTSuperResLib.cli import main as command
from CBCTSuperResLib.cli.apply import options_from_arguments
from CBCTSuperResLib.cli.batch import main, make_parser
from CBCTSuperResLib.core.errors import (
    InputError,
    ModelError,
    OptionError,
    OutputError,
    SuperResError,
)
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.io.folders import find_scans, report_path
from CBCTSuperResLib.jobs import job_kinds
from CBCTSuperResLib.jobs import queue as queue_file
from CBCTSuperResLib.jobs.queue import Item, State
from CBCTSuperResLib.jobs.summary import write_summary
from CBCTSuperResLib.models.card import read_card
from dicom_files import PIXEL, write_slices
from fake_jobs import AS_SLICER_DOES, SCRIPT, FakeWorker
from scans import make_scan


def test_the_script_runs_as_a_file_and_continues_after_a_failed_scan(scan_file, tiny_model, tmp_path):
    bad = tmp_path / "bad.nrrd"
    bad.write_text("no scan")
    command = [sys.executable, str(SCRIPT), "--", "--input", str(bad), str(scan_file), "--output-folder", "Ergebnis ä"]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(
        [*command, "--model", str(tiny_model), "--window", "0", "4000"],
        cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == InputError.exit_code, done.stderr
    result = tmp_path / "Ergebnis ä" / "scan 1 SR x2.nrrd"
    report = json.loads(Path(f"{result}.json").read_text(encoding="utf-8"))
    assert result.exists() and report["super_resolution"]["window"] == [0.0, 4000.0]
    assert "2 scans: failed 1, done 1" in done.stdout and "Error" in done.stderr


def test_the_script_runs_the_way_slicer_runs_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", AS_SLICER_DOES, SCRIPT.as_posix(), "--input", "missing.nrrd", "--output", "o.nrrd"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (InputError.exit_code, ModelError.exit_code), done.stderr
    assert "Error: " in done.stderr and "Traceback" not in done.stderr


def test_a_folder_is_many_scans_and_results_are_named_after_them(scans, tiny_model, tmp_path, fake_workers):
    out = tmp_path / "out"
    assert main(["--input", str(scans), "--output-folder", str(out), "--model", str(tiny_model)]) == 0
    assert [Path(job["output"]).name for job in fake_workers] == [
        "Zahn 扫描 SR x2.nrrd", "a SR x2.nrrd", "b SR x2.nrrd",
    ]  # fmt: skip


def test_the_exit_code_is_that_of_the_first_failure(scans, tiny_model, tmp_path, fake_workers):
    (scans / "bad.nrrd").write_bytes(b"x")
    out = tmp_path / "out"
    code = main(["--input", str(scans), "--output-folder", str(out), "--model", str(tiny_model)])
    assert code == InputError.exit_code and len(fake_workers) == 4


def test_what_is_up_to_date_is_skipped_and_what_changed_is_not(scans, tiny_model, tmp_path, fake_workers, capsys):
    arguments = ["--input", str(scans), "--output-folder", str(tmp_path / "out"), "--model", str(tiny_model)]
    assert main(arguments) == 0 and len(fake_workers) == 3
    fake_workers.clear()
    assert main([*arguments, "--skip-existing"]) == 0 and fake_workers == []
    assert "skipped 3" in capsys.readouterr().out

    (scans / "a.nrrd").write_bytes(b"another scan")
    assert main([*arguments, "--skip-existing"]) == 0
    assert [Path(job["input"]).name for job in fake_workers] == ["a.nrrd"]
    fake_workers.clear()
    assert main([*arguments, "--skip-existing", "--window", "0", "10"]) == 0 and len(fake_workers) == 3
    fake_workers.clear()
    (tmp_path / "out" / "b SR x2.nrrd").unlink()
    main([*arguments, "--skip-existing", "--window", "0", "10"])
    assert [Path(job["input"]).name for job in fake_workers] == ["b.nii.gz"]


def test_another_model_is_a_reason_to_compute_again(scans, tiny_model, tmp_path, fake_workers, monkeypatch):
    arguments = ["--input", str(scans / "a.nrrd"), "--output", str(tmp_path / "o.nrrd"), "--model", str(tiny_model)]
    main(arguments)
    fake_workers.clear()

    card = read_card(tiny_model)
    monkeypatch.setattr(batch, "read_card", lambda path: replace(card, weights_sha256="0" * 64))
    main([*arguments, "--skip-existing"])
    assert len(fake_workers) == 1


def test_results_of_an_earlier_batch_are_not_taken_for_scans(scans, tiny_model, fake_workers):
    arguments = ["--input", str(scans), "--output-folder", str(scans), "--model", str(tiny_model)]
    main(arguments)
    fake_workers.clear()
    main(arguments)
    assert len(fake_workers) == 3


def test_what_is_left_out_is_named_before_the_first_scan(scans, tiny_model, fake_workers, capsys):
    (scans / "notes.txt").write_text("seen")
    main(["--input", str(scans), "--output-folder", str(scans / "out"), "--model", str(tiny_model)])
    printed = capsys.readouterr().out
    assert printed.index("Left out: notes.txt (no scan)") < printed.index("[1/3]")


def test_a_folder_of_slices_is_one_scan_and_a_folder_of_such_folders_is_many(tmp_path):
    for name in ("p1", "p2"):
        (tmp_path / "series" / name).mkdir(parents=True)
        (tmp_path / "series" / name / "1.dcm").write_bytes(b"x")
    assert find_scans(str(tmp_path / "series" / "p1")) == ([tmp_path / "series" / "p1"], [])
    assert [p.name for p in find_scans(str(tmp_path / "series"))[0]] == ["p1", "p2"]


def test_patterns_are_understood_and_empty_ones_refused(scans):
    assert [p.name for p in find_scans(str(scans / "*.nrrd"))[0]] == ["a.nrrd"]
    with pytest.raises(InputError, match="Nothing matches"):
        find_scans(str(scans / "*.dcm"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--output", "one.nrrd"], OptionError.exit_code),  # three scans
        (["--output-folder", "out", "--window", "9", "1"], OptionError.exit_code),
        (["--output-folder", "out", "--roi", "5", "5", "0", "1", "0", "1"], OptionError.exit_code),
        (["--output-folder", "out", "--model", "missing"], 4),
    ],
)
def test_bad_command_lines_are_refused_before_anything_starts(
    scans, tiny_model, tmp_path, monkeypatch, fake_workers, arguments, code
):
    monkeypatch.chdir(tmp_path)
    assert main(["--input", str(scans), "--model", str(tiny_model), *arguments]) == code
    assert fake_workers == []


def test_two_scans_of_the_same_name_are_not_written_over_each_other(scans, tiny_model, tmp_path, fake_workers):
    (scans / "a.mha").write_bytes(b"x")
    code = main(["--input", str(scans), "--output-folder", str(tmp_path / "o"), "--model", str(tiny_model)])
    assert code == OptionError.exit_code and fake_workers == []


def test_missing_arguments_exit_with_two(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([])
    assert exit_info.value.code == 2


def options_of(*arguments: str):
    return options_from_arguments(make_parser().parse_args(["--input", "a", "--output", "b", *arguments]))


def test_arguments_become_options():
    options = options_of(
        *["--window", "-1000", "2000.5", "--blank", "-2048", "--smooth", "0.5", "--planes", "isotropic"],
        *["--roi", "1", "2", "3", "4", "5", "6", "--dtype", "int16", "--device", "cpu", "--precision", "fp32"],
        *["--tile", "128"],
    )
    assert options.window == (-1000.0, 2000.5) and options.blank == -2048.0 and options.smooth == 0.5
    assert options.roi == ((1, 2), (3, 4), (5, 6)) and options.planes == "isotropic"
    assert (options.dtype, options.device, options.precision, options.tile) == ("int16", "cpu", "fp32", 128)


def test_windows_can_be_words_presets_or_left_out():
    assert options_of().window is None
    assert options_of("--window", "auto").window == "auto"
    assert options_of("--preset", "accuitomo170").window == "accuitomo170"


@pytest.mark.parametrize("wrong", ["--window 1", "--window a b", "--window 1 2 3", "--blank maybe", "--preset x"])
def test_arguments_without_a_meaning_are_refused(wrong):
    with pytest.raises(SystemExit):
        options_of(*wrong.split())


def test_names_relative_to_the_working_folder_reach_the_worker_whole(scans, tiny_model, monkeypatch, fake_workers):
    monkeypatch.chdir(tiny_model.parent)
    (scans / "a.nrrd").rename("here.nrrd")
    try:
        assert main(["--input", "here.nrrd", "--output", "out.nrrd", "--model", tiny_model.name]) == 0
    finally:
        for name in ("here.nrrd", "out.nrrd", "out.nrrd.json"):
            Path(name).unlink(missing_ok=True)
    assert all(Path(fake_workers[0][key]).is_absolute() for key in ("input", "output", "model"))


def test_slices_in_a_folder_can_be_given_a_spacing(tiny_model, tmp_path, fake_workers):
    scan = make_scan().write(tmp_path / "x.nrrd")
    arguments = ["--input", str(scan), "--output", str(tmp_path / "o.nrrd"), "--model", str(tiny_model)]
    main([*arguments, "--spacing", "0.2", "0.2", "0.3", "--series", "1.2"])
    assert fake_workers[0]["spacing"] == [0.2, 0.2, 0.3] and fake_workers[0]["series"] == "1.2"


class WorkerHere(FakeWorker):
    """Does the job of a worker in this process, which has imported everything already."""

    def poll(self):
        self.isFinished = True
        try:
            job_kinds.apply(self.job, SimpleNamespace(progress=None), lambda: False)
        except SuperResError as error:
            self.error = error


def test_a_batch_makes_a_dicom_folder_of_each_scan_and_knows_them_again(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(queue_file, "Job", WorkerHere)
    voxels = make_scan((3, 24, 24)).voxels
    write_slices(tmp_path / "scans" / "jane", voxels, 0.25 * np.arange(3))
    make_scan((3, 24, 24)).write(tmp_path / "scans" / "nobody.nrrd")
    out = tmp_path / "out"
    arguments = ["--input", str(tmp_path / "scans"), "--output-folder", str(out), "--model", str(tiny_model)]
    arguments += ["--format", "dicom", "--device", "cpu", "--skip-existing"]
    assert main(arguments) == OptionError.exit_code
    assert "does not tell the patient's name" in capsys.readouterr().err
    results = [path.name for path in out.iterdir() if not path.name.startswith(".")]
    assert sorted(results) == ["jane SR x2", "jane SR x2.json", "summary.html"]
    series = sitk.ImageSeriesReader()
    series.SetFileNames(series.GetGDCMSeriesFileNames(str(out / "jane SR x2")))
    image, first = series.Execute(), pydicom.dcmread(out / "jane SR x2" / "IM0001.dcm")
    assert image.GetSize() == (48, 48, 3) and first.PatientID == "P1"
    corner = np.subtract((-10, -20, 0), (PIXEL / 4, PIXEL / 4, 0))
    assert np.allclose(image.TransformIndexToPhysicalPoint((0, 0, 0)), corner, atol=1e-4)
    assert np.allclose(first.ImagePositionPatient, corner, atol=1e-4)
    assert main([*arguments, "--patient-name", "Doe^Jane", "--patient-id", "P1"]) == 0
    assert "done 1, skipped 1" in capsys.readouterr().out
    assert find_scans(out)[0] == [out]  # results of a batch are no scans


def test_a_patient_is_named_only_for_dicom(tiny_model, tmp_path, scans, fake_workers, capsys):
    arguments = ["--input", str(scans), "--output-folder", str(tmp_path), "--model", str(tiny_model)]
    assert main([*arguments, "--patient-id", "P1"]) == OptionError.exit_code and fake_workers == []
    assert "--format dicom" in capsys.readouterr().err


def test_a_folder_for_results_that_cannot_be_made_is_said_in_words(scans, tiny_model, tmp_path, fake_workers, capsys):
    (tmp_path / "file").write_text("no folder")
    folder = tmp_path / "file" / "results"
    code = main(["--input", str(scans), "--output-folder", str(folder), "--model", str(tiny_model)])
    assert code == OutputError.exit_code and fake_workers == []
    assert capsys.readouterr().err.startswith(f"Error: The folder {folder} cannot be made")


def test_several_workers_share_the_cores_as_memory_allows_and_it_is_said_before(monkeypatch, tiny_model):
    card = read_card(tiny_model)
    tasks = [batch.FileTask(Path(f"{n}.nrrd"), Path(f"{n} SR.nrrd"), card, Options()) for n in range(9)]
    monkeypatch.setattr(batch, "usable_cores", lambda: 8)
    monkeypatch.setattr(batch, "count_gpus", lambda: 0)
    monkeypatch.setattr(batch, "available_memory", lambda: int(10e9))
    for need, wanted, number, threads, words in [
        (
            int(1e9),
            None,
            8,
            1,
            "8 scans at a time, each with 1 of 8 cores: a scan takes up to 1.0 GB, 10.0 GB are free.",
        ),
        (int(2.5e9), None, 3, 2, "3 scans at a time, each with 2 of 8 cores"),
        (int(9e9), None, 1, None, "One scan at a time, with 8 of 8 cores"),
        (None, None, 1, None, "cannot be told from its header"),
        (int(9e9), 2, 2, 4, "That is more than there is"),
    ]:
        monkeypatch.setattr(batch, "_most_memory", lambda tasks, worker, need=need: need)
        workers, why = batch.choose_workers(tasks, wanted)
        assert (len(workers), workers[0].threads) == (number, threads) and words in why, (need, wanted, why)
    monkeypatch.setattr(batch, "count_gpus", lambda: 1)
    workers, why = batch.choose_workers(tasks, None)
    assert len(workers) == 1 and "graphics card" in why
    several = [replace(task, options=replace(task.options, device="cpu,cpu")) for task in tasks]
    workers, why = batch.choose_workers(several, None)
    assert len(workers) == 1 and why == "One scan at a time, on 2 devices."


def test_shares_of_a_job_array_cover_every_scan_once_and_slurms_script_runs_them(
    scans, tiny_model, tmp_path, fake_workers, capsys, monkeypatch
):
    given = ["batch", str(scans), "--output-folder", str(tmp_path / "out"), "--model", str(tiny_model)]
    assert command([*given, "--print-sbatch", "2"]) == 0 and not fake_workers
    printed = capsys.readouterr().out
    assert "#SBATCH --array=1-2" in printed and "--print-sbatch" not in printed
    assert printed.splitlines()[-1].startswith("cbct-superres batch ")
    assert printed.splitlines()[-1].endswith('--array "$SLURM_ARRAY_TASK_ID/2"')
    for share in ("1/2", "2/2"):
        assert command([*given, "--array", share]) == 0
    assert sorted(Path(job["input"]).name for job in fake_workers) == ["Zahn 扫描.mha", "a.nrrd", "b.nii.gz"]
    assert command([*given, "--print-sbatch", "4"]) == OptionError.exit_code
    for wrong in ("0/2", "3/2", "half"):
        with pytest.raises(SystemExit):
            command([*given, "--array", wrong])


def test_two_batches_do_not_work_in_one_folder_unless_each_has_its_share(
    scans, tiny_model, tmp_path, fake_workers, capsys, monkeypatch
):
    given = ["--input", str(scans), "--output-folder", str(tmp_path), "--model", str(tiny_model)]
    other = batch.FileLock(tmp_path / batch.LOCK)
    assert other.acquire()
    assert main(given) == OutputError.exit_code and "--array 1/2" in capsys.readouterr().err and not fake_workers
    assert main([*given, "--array", "1/3"]) == 0
    other.release()
    monkeypatch.setattr(batch, "locks_work", lambda folder: False)
    assert main(given) == OutputError.exit_code and "no locks" in capsys.readouterr().err


def test_real_scans_share_two_workers_and_a_page_shows_them_the_doubtful_first(scan_file, tiny_model, tmp_path):
    bad, out = tmp_path / "<bad>.nrrd", tmp_path / "out"
    bad.write_text("no scan")
    given = ["--input", str(scan_file), str(bad), "--output-folder", str(out), "--model", str(tiny_model)]
    assert main([*given, "--window", "0", "4000", "--workers", "2"]) == InputError.exit_code
    page = (out / "summary.html").read_text(encoding="utf-8")
    assert page.index("&lt;bad&gt;.nrrd") < page.index("<h2>scan 1.nrrd") and "<bad>" not in page
    assert page.count("data:image/png;base64,") == 1 and "1 of them need a look" in page or "2 of them" in page
    assert main([*given, "--window", "0", "4000", "--skip-existing"]) == InputError.exit_code
    assert "data:image/png;base64," in (out / "summary.html").read_text(encoding="utf-8")


def test_the_page_names_the_precisions_where_processors_differed(tmp_path):
    items = []
    for number, precision in enumerate(("bf16", "fp32", "bf16")):
        item = Item(tmp_path / f"{number}.nrrd", SimpleNamespace(target=tmp_path / f"{number} SR x2.nrrd"))
        run = {"quality": {"figures": []}, "seconds": {"computing": 1.0}, "model": "light", "precision": precision}
        report_path(item.task.target).write_text(json.dumps({"super_resolution": run, "warnings": []}))
        item.state = State.DONE
        items.append(item)
    page = write_summary(items, tmp_path / "summary.html").read_text(encoding="utf-8")
    assert "different precisions: bf16 for 2, fp32 for 1" in page and page.count("<td>bf16</td>") == 2
    assert "different precisions" not in write_summary(items[:1], tmp_path / "one.html").read_text(encoding="utf-8")
