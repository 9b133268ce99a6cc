"""What Slicer sees of both module files, built from their real .ui files on the stand-in for its widgets."""

from __future__ import annotations

from pathlib import Path

import pytest
from apply_helpers import add_scan

pytestmark = pytest.mark.usefixtures("qt_or_skip")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def module(apply_module):
    return apply_module


def test_the_module_tells_what_it_is(application, module):
    import slicer

    parent = slicer.modules.cbctsuperres
    assert parent.title == "CBCT Super-Resolution" and parent.categories == ["Filtering"]
    assert parent.helpText and parent.acknowledgementText and parent.contributors


def test_the_module_logic_is_the_library_s_logic(module):
    from CBCTSuperResLib.logic import SuperResLogic

    assert issubclass(module.CBCTSuperResLogic, SuperResLogic)


def test_the_self_tests_of_both_modules_pass_here_as_far_as_they_can(application, module, scene, capsys):
    training = application.loadModule(str(ROOT / "CBCTSuperResTraining" / "CBCTSuperResTraining.py"))
    case = module.CBCTSuperResTest()
    case.setUp()
    case.test_nodes_that_are_no_volumes_are_refused()
    training.CBCTSuperResTrainingTest().runTest()
    assert "passed: test_every_shipped_model_can_be_used" in capsys.readouterr().out


def test_the_training_module_lists_models_with_their_cards_and_opens_their_folder(application, scene, user_models):
    (user_models / "broken.safetensors").write_bytes(b"rubbish")
    module = application.loadModule(str(ROOT / "CBCTSuperResTraining" / "CBCTSuperResTraining.py"))
    widget = application.showWidget(module)
    panel = widget.panel
    names = [panel.ui.modelList.item(row).text() for row in range(panel.ui.modelList.count)]
    assert "tiny" in names and "broken (unusable)" in names
    panel.ui.modelList.setCurrentRow(names.index("tiny"))
    assert "A tiny model for tests" in panel.ui.cardText.toPlainText()
    panel.ui.modelList.setCurrentRow(names.index("broken (unusable)"))
    assert "broken" in panel.ui.cardText.toPlainText()
    opened = []
    panel.models._openFolder = opened.append
    panel.ui.openFolderButton.click()
    assert opened == [str(user_models)]


@pytest.mark.parametrize("name", ["CBCTSuperRes", "CBCTSuperResTraining"])
def test_panels_fit_into_320_pixels(application, scene, user_models, name):
    add_scan("A volume with a rather long name, as they come from scanners")
    widget = application.showWidget(application.loadModule(str(ROOT / name / f"{name}.py")))
    widget.parent.show()
    widget.parent.resize(320, 600)
    application.qapp.processEvents()
    assert widget.parent.width <= 320
    widget.cleanup()
    widget.parent.hide()
