"""Section Data of the training panel, driven as a user would: the table of scans, the check, registration."""

from __future__ import annotations

import pytest
from apply_helpers import add_scan

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def panel(training_panel):
    training_panel.data.ensurePackages = lambda: None
    return training_panel


def test_a_fine_scan_is_added(panel, scene):
    ui = panel.ui
    jaw = add_scan("Jaw")
    ui.fineSelector.setCurrentNode(jaw)
    ui.addButton.click()
    assert ui.addLabel.text == ""
    assert ui.dataTable.item(0, 1).text() == "Jaw"
