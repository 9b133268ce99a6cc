"""A Slicer that has nothing but numpy, vtk, SimpleITK and Python: both panels are used in it, up to any computing.

    python bare_slicer.py

Run by test_modules_load.py in a process of its own, as what is imported there must not have been imported before.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = {path.stem for path in (ROOT / "Testing" / "standin").glob("*.py")}
KNOWN = set(sys.stdlib_module_names) | STAND_IN | {path.stem for path in Path(__file__).parent.glob("*.py")}
KNOWN |= {"numpy", "vtk", "vtkmodules", "SimpleITK", "slicer", "slicer_core", "PySide6", "shiboken6", "shibokensupport"}
KNOWN |= {"CBCTSuperRes", "CBCTSuperResTraining", "CBCTSuperResLib"}
BLOCKED = ("torch", "cv2", "safetensors", "tqdm", "pydicom", "tifffile")
BLOCKED += ("scipy", "matplotlib", "pydantic", "skimage", "pandas", "PIL")

NOT_INSTALLED = "PyTorch is needed and missing."


class Blocker:
    """Refuses all other packages, as if they were not there; importing them is no error only where that is expected."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in KNOWN:
            raise ModuleNotFoundError(f"{name} is blocked: a bare Slicer lacks it", name=name)


def main() -> None:
    sys.path[:0] = [str(ROOT / "Testing" / "standin"), str(ROOT / "CBCTSuperRes")]
    import slicerapp

    slicerapp.start()
    for name in BLOCKED:
        assert name not in sys.modules, f"{name}: the stand-in itself needs it"
    sys.meta_path.insert(0, Blocker())
    with suppress(ModuleNotFoundError):
        import torch  # noqa: F401

        raise SystemExit("Nothing is blocked.")
    seen: list[BaseException] = []
    sys.excepthook = lambda *error: (seen.append(error[1]), traceback.print_exception(*error))
    with tempfile.TemporaryDirectory() as folder:
        useApplyPanel(openPanel(slicerapp, "CBCTSuperRes"))
        useTrainingPanel(slicerapp, openPanel(slicerapp, "CBCTSuperResTraining"), Path(folder))
    assert not seen, seen
    for name in BLOCKED:
        assert name not in sys.modules, name
    print("used")


def openPanel(slicerapp, name: str):
    return slicerapp.showWidget(slicerapp.loadModule(str(ROOT / name / f"{name}.py")))


def refusePackages() -> None:
    from CBCTSuperResLib.panels import dialogs

    dialogs.ensurePackages, dialogs.offerTrainingExtras = notInstalled, list


def notInstalled(*_, **__) -> None:
    from CBCTSuperResLib.core.errors import DependencyError

    raise DependencyError(NOT_INSTALLED)


def useApplyPanel(widget) -> None:
    """Choose a scan, a part of it, a model, a window, an enlargement; look at all that is told; then Apply."""
    from CBCTSuperResLib.scene.example_scan import makeExampleScan

    panel, ui = widget.panel, widget.panel.ui
    refusePackages()
    assert not ui.applyButton.enabled and ui.applyButton.toolTip
    panel.parameters.inputVolume = makeExampleScan()
    assert "160 x 160 x 48" in ui.inputLabel.text and "blank" in ui.notesLabel.text
    assert ui.modelSelector.count >= 1 and ui.modelLabel.text
    assert "320 x 320 x 48" in ui.outputLabel.text and "memory" in ui.outputLabel.toolTip
    ui.planesSelector.currentIndex = 1 - ui.planesSelector.currentIndex
    assert "320 x 320 x 96" in ui.outputLabel.text
    before = ui.windowLabel.text
    ui.windowRange.setValues(30000, 40000)
    assert before != ui.windowLabel.text != ""
    ui.fitRoiButton.click()
    assert panel.parameters.roi is not None
    for selector in (ui.qualitySelector, ui.deviceSelector, ui.precisionSelector, ui.blankSelector):
        selector.currentIndex = selector.count - 1
    ui.deviceSelector.currentIndex = 0
    assert ui.versionsLabel.text and ui.applyButton.enabled, ui.applyButton.toolTip
    ui.applyButton.click()
    assert NOT_INSTALLED in ui.statusLabel.text
    widget.cleanup()


def useTrainingPanel(slicerapp, widget, folder: Path) -> None:
    """Choose scans, a preset, options; look at all that is told; then Check data and Start."""
    import numpy as np
    import slicer

    panel, ui = widget.panel, widget.panel.ui
    refusePackages()
    panel.parameters.resultsFolder = folder / "runs"
    assert ui.kindSelector.count > 1 and ui.presetSelector.count > 2
    assert ui.optionsTable.rowCount > 50 and ui.modelList.count >= 1
    ui.kindSelector.currentIndex = 1
    assert "computer-drawn" in ui.learnsFromLabel.text and ui.timeLabel.text
    fine = slicer.util.addVolumeFromArray(np.random.default_rng(1).integers(0, 4000, (8, 96, 96)).astype(np.int16))
    ui.fineSelector.setCurrentNode(fine)
    ui.addButton.click()
    assert ui.dataTable.rowCount == 1
    ui.searchEdit.text = "learning"
    ui.planButton.click()
    assert NOT_INSTALLED in ui.planLabel.text
    assert ui.startButton.enabled, ui.startButton.toolTip
    ui.checkButton.click()
    assert NOT_INSTALLED in ui.dataStatusLabel.text
    ui.startButton.click()
    assert NOT_INSTALLED in ui.trainingLabel.text
    widget.cleanup()


if __name__ == "__main__":
    main()
