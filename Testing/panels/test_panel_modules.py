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
    from CBCTSuperResLib.scene.logic import SuperResLogic

    assert issubclass(module.CBCTSuperResLogic, SuperResLogic)


@pytest.mark.parametrize("name", ["CBCTSuperRes", "CBCTSuperResTraining"])
def test_panels_fit_into_310_pixels_with_every_section_open(application, scene, user_models, hosted, name):
    add_scan("A volume with a rather long name, as they come from scanners")
    widget = application.showWidget(application.loadModule(str(ROOT / name / f"{name}.py")))
    window = hosted(widget)
    window.openSections()
    window.drag(310)
    assert window.dockWidth() == 310
    widget.cleanup()
