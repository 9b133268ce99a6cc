"""Advanced: the rarer choices in the panel of CBCTSuperRes, and what becomes of them."""

from __future__ import annotations

import pytest
from apply_helpers import FakeJob
from CBCTSuperResLib import __version__
from CBCTSuperResLib.core.errors import Cancelled, DependencyError
from CBCTSuperResLib.core.options import Options

pytestmark = pytest.mark.usefixtures("qt_or_skip")


def choose(selector, words):
    texts = [selector.itemText(index) for index in range(selector.count)]
    selector.currentIndex = next(index for index, text in enumerate(texts) if text.startswith(words))


def test_misjudged_bone_is_asked_for_only_of_models_that_tell_error_bars(panel):
    box, ui = panel.ui.boneCheckBox, panel.ui
    assert not box.enabled
    panel.parameters.model = "light-bars"
    ui.disagreementCheckBox.checked = True
    assert box.enabled
    box.checked = True
    assert panel.choices.options() == Options(uncertainty=4, warning_above="bone")
    panel.parameters.model = "light"
    assert not box.enabled and panel.choices.options() == Options(uncertainty=4)
    panel.parameters.model = "light-bars"
    choose(ui.planesSelector, "In all axes")
    assert not box.enabled and panel.choices.options().warning_above == 0.19
    choose(ui.planesSelector, "In slices")
    ui.disagreementCheckBox.checked = False
    assert not box.enabled and panel.choices.options() == Options()


def test_untouched_choices_are_the_usual_options_and_each_choice_becomes_an_option(panel):
    assert panel.choices.options() == Options()
    for widget, words, expected in (
        ("qualitySelector", "Balanced", {"ensemble": 2}),
        ("qualitySelector", "Best", {"ensemble": 8}),
        ("deviceSelector", "Graphics card", {"device": "cuda"}),
        ("deviceSelector", "All graphics cards", {"device": "cuda:all"}),
        ("deviceSelector", "Processor", {"device": "cpu"}),
        ("precisionSelector", "16 bit (FP16)", {"precision": "fp16"}),
        ("engineSelector", "PyTorch", {"engine": "torch"}),
        ("engineSelector", "ONNX Runtime", {"engine": "onnxruntime"}),
        ("blankSelector", "There are none", {"blank": "none"}),
        ("outputTypeSelector", "16 bit, signed", {"dtype": "int16"}),
        ("outputTypeSelector", "32 bit, floating", {"dtype": "float32"}),
        ("planesSelector", "In all axes", {"planes": "isotropic"}),
    ):
        selector = getattr(panel.ui, widget)
        choose(selector, words)
        assert panel.choices.options() == Options(**expected), widget
        selector.currentIndex = 0
        assert panel.choices.options() == Options()


def test_numbers_are_automatic_until_they_are_given(panel):
    ui = panel.ui
    assert panel.ui.tileSpinBox.text == "Automatic" and panel.choices.options().tile is None
    panel.ui.tileSpinBox.value = 96
    assert panel.ui.tileSpinBox.text == "96 voxels" and panel.choices.options().tile == 96
    panel.ui.tileSpinBox.value = 0
    assert ui.scannerBlurSpinBox.text == "Automatic" and ui.sharpnessSpinBox.value == 100
    ui.scannerBlurSpinBox.value, ui.sharpnessSpinBox.value, ui.backProjectionCheckBox.checked = 0.25, 60, False
    assert ui.scannerBlurSpinBox.text == "0.250 mm"
    assert panel.choices.options() == Options(scanner_blur=0.25, sharpness=60.0, back_projection="off")
    assert not panel.ui.smoothingSpinBox.enabled and panel.choices.options().smooth is None
    panel.ui.smoothingCheckBox.checked = False
    assert panel.ui.smoothingSpinBox.enabled
    panel.ui.smoothingSpinBox.value = 0.8
    assert panel.choices.options().smooth == 0.8
    panel.ui.smoothingCheckBox.checked = True
    assert panel.choices.options().smooth is None
    choose(panel.ui.blankSelector, "Voxels of")
    assert panel.ui.blankValueSpinBox.enabled
    panel.ui.blankValueSpinBox.value = -1000
    assert panel.choices.options().blank == -1000


def test_versions_are_told_and_packages_checked_on_demand(panel, monkeypatch):
    text = panel.ui.versionsLabel.text
    assert f"CBCT Super-Resolution {__version__}" in text and "Slicer 5." in text
    assert "Python 3." in text and "PyTorch 2." in text
    asked = []
    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.ensurePackages", lambda *_: asked.append(1))
    panel.ui.packagesButton.click()
    assert asked and "are installed" in panel.ui.versionsLabel.text

    def refuse(*_, **__):
        raise DependencyError("PyTorch is missing.", "Install the extension PyTorch.")

    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.ensurePackages", refuse)
    panel.ui.packagesButton.click()
    assert "Install the extension PyTorch." in panel.ui.versionsLabel.text


def test_missing_packages_are_named_in_one_question(panel, packages, monkeypatch):
    from CBCTSuperResLib.core import packages as install
    from CBCTSuperResLib.panels import dialogs

    asked = []
    monkeypatch.setattr(install, "missing_packages", lambda *_: ["torch>=2.3", "tqdm"])
    monkeypatch.setattr(dialogs, "confirm", lambda *question: asked.append(question))
    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.ensurePackages", packages.ensure)
    panel.ui.applyButton.click()
    assert len(asked) == 1 and "torch>=2.3\ntqdm" in asked[0][1] and asked[0][2] == "Install"
    assert "torch>=2.3" in panel.ui.statusLabel.text and panel.run.job is None


def test_engines_are_listed_with_what_was_measured_of_the_chosen_model(panel, monkeypatch):
    from CBCTSuperResLib.apply.engines import speed_records
    from CBCTSuperResLib.panels.apply import advanced, texts

    there = {"torch": "2.9", "onnxruntime": "1.20"}
    for file in (speed_records, texts, advanced):
        monkeypatch.setattr(file, "installed_engines", lambda: there)
    started, job = [], FakeJob()
    job.start = lambda: job
    monkeypatch.setattr(advanced, "Job", lambda task: started.append(task) or job)
    ui, card = panel.ui, panel.choices.card()
    panel.engines.done(None)
    panel.refresh()
    assert "PyTorch 2.9: not measured" in ui.enginesLabel.text and "Not installed: OpenVINO" in ui.enginesLabel.text
    ui.enginesButton.click()
    assert started == [{"kind": "engines", "model": str(card.path)}] and ui.enginesButton.text == "Cancel"
    assert not ui.applyButton.enabled  # both would be slower
    speed_records.record_engines(card, [speed_records.Measured("onnxruntime", "1.20", "fp32", 54321.0)])
    job.isFinished = True
    panel.engines.poll()
    assert "ONNX Runtime 1.20: 54,321 voxels a second in fp32" in ui.enginesLabel.text
    assert ui.applyButton.enabled and ui.enginesButton.text == "Measure engines"
    there["openvino"] = "2026.1"  # Apply has installed it
    panel.refresh()
    assert "OpenVINO 2026.1: not measured" in ui.enginesLabel.text
    panel.engines.failed(Cancelled())
    panel.refresh()
    assert "ONNX Runtime 1.20: 54,321" in ui.enginesLabel.text


def test_an_engine_that_cannot_compute_the_model_is_said_beside_apply(panel, monkeypatch):
    from CBCTSuperResLib.panels.apply import choices

    monkeypatch.setattr(choices, "installed_engines", lambda: {"torch": "2.9"})
    choose(panel.ui.engineSelector, "OpenVINO")
    assert not panel.ui.applyButton.enabled and "OpenVINO is not installed" in panel.ui.statusLabel.text
    monkeypatch.setattr(choices, "installed_engines", lambda: {"torch": "2.9", "openvino": "2026.1"})
    panel.refresh()
    assert panel.ui.applyButton.enabled
    choose(panel.ui.precisionSelector, "16 bit (FP16)")
    assert "OpenVINO cannot do this: the precision is fp16" in panel.ui.statusLabel.text


def test_pytorch_is_asked_for_only_where_nothing_else_computes_the_model(panel, user_models):
    from CBCTSuperResLib.models.graph import make_graph
    from CBCTSuperResLib.models.model import Model

    assert panel.choices.needsTorch()  # the tiny model has no graph
    make_graph(Model.load(panel.choices.card().path), panel.choices.card().path.with_suffix(".onnx"))
    assert not panel.choices.needsTorch()
    choose(panel.ui.engineSelector, "PyTorch")
    assert panel.choices.needsTorch()
