"""A scene, runs and settings that version 0.1.0 left, as both panels and the console find them; and their public calls.

What each file is: Testing/fixtures/version_0_1_0/README.md.
"""

from __future__ import annotations

import inspect
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from options_files import GONE, as_now

pytestmark = pytest.mark.usefixtures("qt_or_skip")

OLD = Path(__file__).resolve().parents[1] / "fixtures" / "version_0_1_0"
APPLY_CALLS = ("process", "start", "startDifference")
TRAINING_CALLS = (
    *("attach", "changes", "checkData", "export", "hasNews", "missing", "optionsOf", "plan", "prepare", "readOptions"),
    *("readyOptions", "record", "resume", "runs", "start", "suggestWindow", "useModel", "verifyModel"),
)
JOB_CALLS = ("poll", "wait", "stop", "cancel", "detach", "kill", "close")


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch) -> Path:
    """The user's models of that time."""
    folder = tmp_path / "Modelle"
    shutil.copytree(OLD / "models", folder)
    monkeypatch.setenv("CBCT_SUPERRES_MODELS", str(folder))
    return folder


@pytest.fixture
def widgets(application, scene, apply_module, training_module, nothing_fails_unseen, tmp_path):
    """Both modules, shown, in the old scene."""
    import slicer

    shown = [application.showWidget(module) for module in (apply_module, training_module)]
    folder = tmp_path / "Szene 1"
    shutil.copytree(OLD / "scene", folder)
    scene.RegisterNodeClass(slicer.vtkMRMLMarkupsROIJsonStorageNode())  # as the module Markups does
    scene.SetURL(str(folder / "scene.mrml"))
    scene.Connect()
    slicer.app.processEvents()
    yield shown
    for widget in shown:
        widget.cleanup()


@pytest.fixture
def apply(widgets):
    return widgets[0].panel


@pytest.fixture
def training(widgets):
    return widgets[1].panel


def node(name: str):
    import slicer

    return slicer.util.getFirstNodeByName(name)


# The panel of CBCTSuperRes


def test_every_choice_of_the_first_panel_and_its_batch_are_read_from_the_old_scene(apply):
    chosen = apply.parameters
    nodes = {"inputVolume": "Jaw", "roi": "Jaw ROI", "outputVolume": "Jaw SR x2"}
    assert {name: getattr(chosen, name).GetName() for name in nodes} == nodes
    enums = {
        **{"windowPreset": "custom", "planes": "isotropic", "quality": 8, "device": "cpu", "precision": "fp32"},
        **{"blank": "value", "outputType": "float32"},
    }
    assert {name: getattr(chosen, name).value for name in enums} == enums
    plain = {
        **{"model": "old-residual", "windowLow": 300.0, "windowHigh": 1000.0, "previewView": "Yellow"},
        **{"previewFade": 42.0, "tile": 64, "modelSmoothing": False, "smoothing": 0.75, "blankValue": -7.5},
        **{"disagreement": True, "batchFolder": "/results/Übung", "batchSkip": False},
    }
    assert {name: getattr(chosen, name) for name in plain} == plain
    assert [volume.GetName() for volume in apply.parameters.batchVolumes] == ["Jaw", "Second"]
    assert list(apply.parameters.batchFiles) == [Path("/scans/first scan.nrrd"), Path("/scans/Zähne.nii.gz")]
    table = apply.ui.batchTable
    names = [table.item(row, 0).text() for row in range(table.rowCount)]
    assert names == ["Jaw", "Second", "first scan.nrrd", "Zähne.nii.gz"]


def test_what_apply_would_do_and_what_is_shown_is_what_the_old_choices_say(apply):
    options = apply.choices.options().to_json()
    roi = options.pop("roi")
    assert roi and len(roi) == 3
    assert options == {
        **{"window": (300.0, 1000.0), "blank": -7.5, "smooth": 0.75, "planes": "isotropic", "scale": None},
        **{"dtype": "float32", "device": "cpu", "precision": "fp32", "tile": 64, "ensemble": 8, "uncertainty": 4},
        **{"disagreement_above": None, "scanner_blur": None, "sharpness": 100.0, "back_projection": "auto"},
        **{"warning_above": 0.19, "output_spacing": None, "engine": "auto"},
    }
    assert apply.choices.card().name == "old-residual"
    ui = apply.ui
    assert (
        ui.inputSelector.currentNode().GetName() == "Jaw" and ui.outputSelector.currentNode().GetName() == "Jaw SR x2"
    )
    assert (ui.windowRange.minimumValue, ui.windowRange.maximumValue) == (300, 1000)
    assert ui.tileSpinBox.value == 64 and not ui.smoothingCheckBox.checked and ui.disagreementCheckBox.checked
    assert ui.modelSelector.currentText == "Old-residual (fast, x2)"
    assert Path(ui.batchFolderEdit.currentPath) == Path("/results/Übung")


def test_an_old_result_is_known_with_its_input_its_report_and_its_figures(apply):
    result = node("Jaw SR x2")
    assert result.GetNodeReference("CBCTSuperRes.input") is node("Jaw")
    assert result.GetNodeReference("CBCTSuperRes.disagreement") is node("Jaw SR x2 model disagreement")
    assert result.GetAttribute("CBCTSuperRes.model") == "old-residual"
    assert result.GetAttribute("CBCTSuperRes.version") == "0.1.0"
    report = json.loads(result.GetAttribute("CBCTSuperRes.report"))
    assert result.GetAttribute("CBCTSuperRes.modelSha256") == report["super_resolution"]["model_sha256"]
    text = apply.ui.resultLabel.text
    assert text.startswith("Jaw SR x2: super-resolved volume") and "From Jaw, with the model old-residual" in text
    assert "56 x 48 x 4 voxels" in text
    figures = report["super_resolution"]["quality"]["figures"]
    assert apply.ui.qualityTable.rowCount == len(figures) > 2
    assert apply.ui.qualityTable.item(0, 0).text() == figures[0]["label"]


def test_old_volumes_of_disagreement_and_difference_belong_to_their_result_which_can_be_compared(apply):
    for name in ("model disagreement", "difference"):
        beside = node(f"Jaw SR x2 {name}")
        assert beside.GetNodeReference("CBCTSuperRes.result") is node("Jaw SR x2")
        assert beside.GetNodeReference("CBCTSuperRes.input") is node("Jaw")
    assert json.loads(node("Jaw SR x2 model disagreement").GetAttribute("CBCTSuperRes.disagreement"))["passes"] == 2
    assert json.loads(node("Jaw SR x2 difference").GetAttribute("CBCTSuperRes.report"))["kind"] == "difference"
    assert not apply.ui.disagreementButton.isHidden() and apply.ui.differenceButton.enabled
    display = node("Jaw SR x2 model disagreement").GetDisplayNode()
    assert display.GetApplyThreshold() and display.GetLowerThreshold() == pytest.approx(30)
    import slicer

    apply.ui.compareButton.click()
    composites = [slicer.app.layoutManager().sliceWidget(view).sliceLogic() for view in ("Red", "Yellow")]
    shown = [logic.GetSliceCompositeNode().GetBackgroundVolumeID() for logic in composites]
    assert shown == [node("Jaw").GetID(), node("Jaw SR x2").GetID()]
    apply.ui.backButton.click()


# The panel of CBCTSuperResTraining


def test_every_choice_of_the_training_panel_and_its_table_of_scans_are_read_from_the_old_scene(training):
    chosen = training.parameters
    assert chosen.window.value == "custom" and chosen.which.value == "latest"
    assert chosen.measurePace is True and chosen.keepTraining is True
    assert (chosen.runName, chosen.shownRun) == ("Läufer 1", "old")
    assert Path(chosen.resultsFolder) == Path("/runs/Läufe")
    rows = training.choices.rows()
    assert [row.use for row in rows] == ["train", "train", "val"]
    assert rows[0].coarse is node("Jaw") and rows[0].fine is node("Second")
    assert (Path(rows[1].coarse), Path(rows[1].fine)) == (Path("/scans/coarse.nrrd"), Path("/scans/fine.nrrd"))
    assert rows[2].coarse is None and Path(rows[2].fine) == Path("/scans/held out/HR")
    table = training.ui.dataTable
    shown = [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]
    for names, cells in zip((("Jaw", "Second"), ("coarse.nrrd", "fine.nrrd"), ("HR",)), shown, strict=True):
        assert all(any(name in cell for cell in cells) for name in names), cells


def test_the_old_settings_are_those_of_the_next_training(training):
    values, options = training.choices.values(), training.choices.options()
    assert values["name"] == "Läufer 1" and Path(values["path"]["root"]) == Path("/runs/Läufe")
    assert options.train.niter == 4321 and options.train.lr_G == 0.0003
    assert options.datasets["train"].batch_size == 5
    assert tuple(options.datasets["train"].normalization_range) == (100, 3900)
    assert options.to_json()["network_G"]["initial"] == "interpolation"


# Runs, from the console


@pytest.fixture
def logic(training_module, mrml):
    return training_module.CBCTSuperResTrainingLogic()


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder with the runs: Läufer 1 was started in Slicer, detached, and ended after Slicer did; old was stopped."""
    root = tmp_path / "Läufe"
    with zipfile.ZipFile(OLD / "detached.zip") as kept:
        kept.extractall(root)
    for path in (p for p in root.rglob("*") if p.suffix in (".json", ".jsonl", ".log")):
        text = path.read_text(encoding="utf-8")
        for escaped in (True, False):
            place = json.dumps(str(root), ensure_ascii=escaped)[1:-1] if path.suffix != ".log" else str(root)
            text = text.replace("@ROOT@", place)
        path.write_text(text, encoding="utf-8")
    with zipfile.ZipFile(OLD / "run.zip") as kept:
        for name in (name for name in kept.namelist() if name.startswith("runs/")):
            target = root / name.removeprefix("runs/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(kept.read(name))
    return root


def test_old_runs_are_listed_with_their_states(logic, root):
    runs = {run.name: run for run in logic.runs(root)}
    assert sorted(runs) == ["Läufer 1", "old"]
    ended, stopped = runs["Läufer 1"], runs["old"]
    assert (ended.state, ended.step, ended.niter, ended.best["step"]) == ("finished", 4, 4, 4)
    assert (stopped.state, stopped.step, stopped.niter, stopped.can_resume) == ("stopped", 5, 8, True)
    assert ended.best["psnr"] > 10 and ended.folder == root / "experiments" / "Läufer 1"


def test_a_detached_training_that_ended_unwatched_is_news_and_tells_its_end(logic, root):
    ended, stopped = root / "experiments" / "Läufer 1", root / "experiments" / "old"
    assert logic.hasNews(ended) and not logic.hasNews(stopped)
    job = logic.attach(ended)
    report = job.wait()
    assert report["step"] == job.step == job.niter == 4 and job.error is None and job.fraction == 1.0
    assert [row["step"] for row in job.history] == [1, 2, 3, 4] and job.validations[0]["step"] == 4
    assert Path(report["folder"]) == job.folder == ended
    job.close()
    assert not logic.hasNews(ended)


def test_the_record_of_an_old_run_has_its_curves_and_its_picture(logic, root):
    record = logic.record(root / "experiments" / "Läufer 1")
    assert [row["step"] for row in record.history] == [1, 2, 3, 4] and record.history[2]["l_g_gan"] > 0
    assert record.validations[0]["psnr_cubic"] == pytest.approx(36.1062)
    assert record.picture.name == "procedural 0-0_4.png"
    assert [row["step"] for row in logic.record(root / "experiments" / "old").history] == [1, 2, 3, 4, 5]


def test_the_options_of_an_old_run_are_those_it_was_started_with_at_the_place_where_it_is_now(logic, root):
    run = root / "experiments" / "old"
    options = logic.optionsOf(run)
    assert Path(options.path.root) == root and options.run_folder == run
    kept = json.loads((run / "options.json").read_text(encoding="utf-8"))
    assert {**options.to_json(), "path": None} == {**as_now(kept), "path": None}
    assert logic.changes(options) == []


# Options files


@pytest.mark.parametrize("name, kept", [("train", "train"), ("saved", "train")])
def test_old_options_files_say_what_they_said(logic, name, kept):
    wanted = json.loads((OLD / "options" / "values.json").read_text(encoding="utf-8"))[kept]
    assert logic.readOptions(OLD / "options" / f"{name}.json").to_json() == as_now(wanted)


def test_keys_that_are_left_out_mean_what_they_meant(logic):
    smallest = {"datasets": {"train": {"mode": "HR", "procedural": 1}, "val": {"mode": "HR", "procedural": 1}}}
    values = logic.readOptions(smallest).to_json()
    given = {"datasets.*.mode", "datasets.*.procedural", "gpu_ids"}  # auto is resolved when it is read
    for name, told in json.loads((OLD / "option_keys.json").read_text(encoding="utf-8")).items():
        block, dotted = values, name.replace("*", "val")
        if dotted.rpartition(".")[2] in GONE.get(dotted.rpartition(".")[0], ()):
            assert told["origin"] == "ours" and told["used_by"] == [], name
            continue
        for part in dotted.replace("branch_taps", "taps").split("."):
            block = block[part]
        assert name in given or block == told["default"], name


# Settings of the person, and public calls


def test_the_folder_of_models_that_was_chosen_in_slicer_is_looked_into(
    application, scene, apply_module, tmp_path, monkeypatch
):
    import slicer

    monkeypatch.setenv("CBCT_SUPERRES_MODELS", str(tmp_path / "empty"))
    slicer.app.userSettings().setValue("CBCTSuperRes/modelsFolder", str(tmp_path / "Modelle"))
    try:
        widget = application.showWidget(apply_module)
        selector = widget.panel.ui.modelSelector
        titles = [selector.itemText(number) for number in range(selector.count)]
        widget.cleanup()
    finally:
        slicer.app.userSettings().remove("CBCTSuperRes/modelsFolder")
    assert {"Old-residual (fast, x2)", "Old-unetspsr (fast, x2)"} <= set(titles)


def arguments(method) -> list[str]:
    return list(inspect.signature(method).parameters)[1:]


def test_the_console_of_both_modules_has_all_calls_with_their_arguments(apply_module, training_module):
    from CBCTSuperRes import CBCTSuperResLogic
    from CBCTSuperResTraining import CBCTSuperResTrainingLogic

    assert apply_module.CBCTSuperResLogic is CBCTSuperResLogic
    assert training_module.CBCTSuperResTrainingLogic is CBCTSuperResTrainingLogic
    assert [name for name in APPLY_CALLS if not callable(getattr(CBCTSuperResLogic, name, None))] == []
    assert [name for name in TRAINING_CALLS if not callable(getattr(CBCTSuperResTrainingLogic, name, None))] == []
    for call in (CBCTSuperResLogic.process, CBCTSuperResLogic.start):
        assert arguments(call)[:2] == ["inputVolume", "outputVolume"] and arguments(call)[-1] == "options"
    assert {"model", "roi"} <= set(arguments(CBCTSuperResLogic.start))
    start = ["options", "overrides", "volumes", "validation", "resume", "acceptChanges", "device", "detached"]
    assert arguments(CBCTSuperResTrainingLogic.start) == start
    assert arguments(CBCTSuperResTrainingLogic.useModel) == ["run", "name", "which", "replace"]
    assert arguments(CBCTSuperResTrainingLogic.prepare) == ["low", "high", "out", "options"]


def test_module_files_offer_the_four_classes_that_slicer_looks_for(apply_module, training_module):
    for module in (apply_module, training_module):
        for suffix in ("", "Widget", "Logic", "Test"):
            assert isinstance(getattr(module, module.__name__ + suffix), type)


def test_a_volume_is_processed_and_started_as_readme_says(scene, apply_module):
    pytest.importorskip("torch", reason="torch is not installed")
    import slicer
    from apply_helpers import add_scan

    scan = add_scan("Jaw")
    output = apply_module.CBCTSuperResLogic().process(scan, model="old-residual", device="cpu", inProcess=True)
    assert slicer.util.arrayFromVolume(output).shape == (4, 48, 56) and output.GetName() == "Jaw SR x2"
    job = apply_module.CBCTSuperResLogic().start(
        scan, model="old-residual", planes="axial", roi=((0, 9), (0, 9), (0, 2))
    )
    job.poll()
    job.cancel()
    job.close()
    assert job.isFinished and np.isfinite(slicer.util.arrayFromVolume(output)).all()


def test_jobs_of_training_have_their_calls(logic, root):
    job = logic.attach(root / "experiments" / "Läufer 1")
    assert [name for name in JOB_CALLS if not callable(getattr(job, name, None))] == []
    job.close()
