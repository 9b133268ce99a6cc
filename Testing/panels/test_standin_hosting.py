"""The window that hosts a module lets it be as wide as the application does, and finds what its layout spoils."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("application")


@pytest.fixture
def window(application, hosted):
    import qt
    import slicer

    module = slicer.qSlicerScriptedLoadableModuleWidget("Example")
    module.setLayout(qt.QVBoxLayout())
    module.widget = Example(module)
    return hosted(module.widget)


class Example:
    """A module with a button in a section, and a label below it."""

    def __init__(self, parent):
        import ctk
        import qt

        self.parent, self.calls = parent, []
        self.section, self.button, self.label = ctk.ctkCollapsibleButton("Section"), qt.QPushButton("Go"), qt.QLabel()
        self.label.wordWrap = True
        self.button.name, self.label.name = "button", "label"
        qt.QVBoxLayout(self.section).addWidget(self.button)
        parent.layout().addWidget(self.section)
        parent.layout().addWidget(self.label)

    def enter(self):
        self.calls.append("enter")

    def exit(self):
        self.calls.append("exit")


def test_a_module_whose_size_hint_grows_pushes_the_views_away(window):
    window.drag(300)
    assert window.dockWidth() == 300
    window.module.widget.button.text = "A text that takes much room, " * 5
    assert window.dockWidth() > 800 and window.views.width < 800
    window.narrow()
    assert window.dockWidth() > 800


def test_a_visit_leaves_and_enters_the_module(window):
    window.visit()
    assert window.module.widget.calls == ["exit", "enter"] and window.module.widget.button.isVisible()


def test_what_is_crushed_cut_off_or_painted_over_is_found(window):
    example, panel = window.module.widget, window.module
    example.label.text = "A long text that has to be wrapped. " * 10
    window.drag(320)
    assert window.faults() == []
    for layout in (panel.layout(), example.section.layout()):
        layout.setEnabled(False)
    needed = example.label.heightForWidth(example.label.width)
    example.label.resize(example.label.width, 20)
    example.button.resize(example.button.width, 9)
    assert f"label: is 20 pixels high, and its text needs {needed}" in window.faults()
    assert any(fault.startswith("button: is 9 pixels high and needs") for fault in window.faults())
    example.button.resize(30 + panel.width, 30)
    assert any(fault.startswith("button: ends") for fault in window.faults())
    example.label.move(0, 0)
    assert any("is drawn over" in fault for fault in window.faults())
