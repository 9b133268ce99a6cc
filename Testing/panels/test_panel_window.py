"""Window: which grey values the model sees, in the panel of CBCTSuperRes."""

from __future__ import annotations

import numpy as np
import pytest
from apply_helpers import add_scan
from CBCTSuperResLib.scan.window import PRESETS

pytestmark = pytest.mark.usefixtures("qt_or_skip")


def choose_preset(panel, name):
    from CBCTSuperResLib.panels.apply.parameters import WindowPreset

    panel.ui.windowPresetSelector.currentIndex = list(WindowPreset).index(WindowPreset[name])


def shown(panel):
    return panel.ui.windowRange.minimumValue, panel.ui.windowRange.maximumValue


def picture(label):
    image = label.pixmap.toImage() if not callable(label.pixmap) else label.pixmap().toImage()
    return {image.pixel(x, y) for x in range(0, image.width(), 2) for y in range(image.height())}


def test_the_automatic_window_is_shown_with_its_reason_and_what_it_clips(panel):
    choice = panel.choices.window()
    assert panel.choices.options().window is None
    assert shown(panel) == pytest.approx((choice.window.lo, choice.window.hi), abs=0.51)
    assert choice.reason in panel.ui.windowLabel.text
    assert "All of the scan lies within it." in panel.ui.windowLabel.text
    assert panel.ui.windowSection.collapsed
    assert panel.ui.windowSection.text == f"Window: {choice.window.lo:.5g} to {choice.window.hi:.5g}, fits (automatic)"
    automatic = shown(panel)
    choose_preset(panel, "custom")
    assert shown(panel) == automatic and panel.choices.options().window is None, "never set, it begins there"


def test_the_scanners_the_model_s_own_and_a_custom_window_can_be_chosen(panel):
    selector = panel.ui.windowPresetSelector
    texts = [selector.itemText(index) for index in range(selector.count)]
    assert texts == ["Automatic", "As the model was trained", *(preset.title for preset in PRESETS.values()), "Custom"]
    for name in ("accuitomo170", "full16"):
        choose_preset(panel, name)
        assert panel.choices.options().window == name
        assert shown(panel) == (PRESETS[name].lo, PRESETS[name].hi)
    choose_preset(panel, "model")
    assert panel.choices.options().window == "model" and shown(panel) == (0, 4000)
    choose_preset(panel, "accuitomo170")
    assert "leaves out 100 %" in panel.ui.windowSection.text
    assert "leaves out the whole scan" in panel.ui.applyButton.toolTip == panel.ui.statusLabel.text
    assert not panel.ui.applyButton.enabled and not panel.ui.previewButton.enabled


def test_moving_the_slider_makes_the_window_custom_shows_what_it_clips_and_comes_back(panel):
    voxels = panel.choices.volume().voxels
    spans = panel.ui.windowRange.minimum, panel.ui.windowRange.maximum
    low, high = panel.choices.overview().limits
    assert spans[0] <= low < high <= spans[1]
    panel.ui.windowRange.setValues(low + 10, high - 10)
    assert (panel.ui.windowRange.minimum, panel.ui.windowRange.maximum) == spans, "it must not shift while it is moved"
    panel.ui.windowRange.setValues(300, 1000)
    assert panel.parameters.windowPreset.value == "custom"
    assert panel.ui.windowPresetSelector.currentText == "Custom"
    assert panel.choices.options().window == (300, 1000)
    below, above = 100 * np.mean(voxels < 300), 100 * np.mean(voxels > 1000)
    outside = f"{below + above:.1f} % of the scan lie outside of it (air and bone and enamel)"
    assert outside in panel.ui.windowLabel.text
    assert panel.ui.windowSection.text == f"Window: 300 to 1000, leaves out {below + above:.0f} % (custom)"
    panel.ui.windowRange.setValues(300, 900)
    assert shown(panel) == (300, 900)
    choose_preset(panel, "automatic")
    assert panel.choices.options().window is None and shown(panel) != (300, 900)
    choose_preset(panel, "custom")
    assert panel.choices.options().window == (300, 900) and shown(panel) == (300, 900)


def test_the_slider_has_decimals_for_scans_of_small_numbers(panel):
    import slicer

    values = np.random.default_rng(0).random((6, 20, 22), np.float32)
    slicer.util.updateVolumeFromArray(panel.ui.inputSelector.currentNode(), values)
    assert panel.ui.windowRange.decimals == 3
    panel.ui.windowRange.setValues(0.25, 0.75)
    assert panel.choices.options().window == pytest.approx((0.25, 0.75))


def test_the_histogram_is_drawn_in_the_palette_s_colors(application, panel):
    import qt

    label = panel.ui.histogramLabel
    panel.ui.windowRange.setValues(300, 1000)  # the automatic window leaves nothing outside
    for dark in (False, True):
        palette = qt.QPalette()
        palette.setColor(qt.QPalette.Base, qt.QColor("#232323" if dark else "#ffffff"))
        label.setPalette(palette)
        panel.refresh()
        seen = picture(label)
        for role in (qt.QPalette.Base, qt.QPalette.Highlight, qt.QPalette.Mid):
            assert palette.color(role).rgb() in seen


def test_without_a_usable_scan_there_is_nothing_to_set(panel):
    import slicer

    panel.ui.inputSelector.setCurrentNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing"))
    assert not panel.ui.windowRange.enabled and panel.ui.histogramLabel.isHidden()
    assert "Nothing is empty" in panel.ui.windowLabel.text and panel.ui.windowSection.text == "Window"
    panel.ui.inputSelector.setCurrentNode(add_scan("Something"))
    panel.ui.windowSection.collapsed = False
    assert panel.ui.windowRange.enabled and not panel.ui.histogramLabel.isHidden()
