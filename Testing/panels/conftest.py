"""What tests of the panel of CBCT Super-Resolution have in common."""

from __future__ import annotations

import pytest
from panel_results import make_result


@pytest.fixture
def panel(apply_panel):
    """The panel as it is when the module is opened."""
    return apply_panel


@pytest.fixture
def result(panel):
    """The earlier result Jaw SR x2, chosen as output volume."""
    node = make_result()
    panel.ui.outputSelector.setCurrentNode(node)
    return node
