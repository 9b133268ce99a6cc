"""What Slicer sees of both module files, built from their real .ui files on the stand-in for its widgets."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("qt_or_skip")


def test_the_module_tells_what_it_is_and_has_the_library_s_logic(application, apply_module):
    import slicer
    from CBCTSuperResLib.scene.logic import SuperResLogic

    parent = slicer.modules.cbctsuperres
    assert parent.title == "CBCT Super-Resolution" and parent.categories == ["Filtering"]
    assert parent.helpText and parent.acknowledgementText and parent.contributors
    assert issubclass(apply_module.CBCTSuperResLogic, SuperResLogic)
