"""Input: choosing volume and model in the panel of CBCTSuperRes."""

from __future__ import annotations

import pytest
from apply_helpers import choose_model

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def panel(apply_panel):
    return apply_panel


def test_the_first_volume_is_chosen_and_described(panel):
    assert panel.ui.inputSelector.currentNode().GetName() == "Jaw"
    assert panel.ui.inputLabel.text == "28 x 24 x 4, 0.25 x 0.25 x 0.3 mm, uint16, 5.4 kB"
    assert panel.ui.outputLabel.text.startswith("56 x 48 x 4, 0.125 x 0.125 x 0.3 mm")
    assert panel.ui.modelLabel.text == "Model tiny: x2 in slices, license: unknown"
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Apply"


def test_a_model_that_is_gone_is_said_by_name(panel):
    panel.parameters.model = "gone"
    assert not panel.ui.applyButton.enabled and "The model gone is not installed" in panel.ui.applyButton.toolTip
    choose_model(panel)
    assert panel.ui.applyButton.enabled and panel.parameters.model == "tiny"
