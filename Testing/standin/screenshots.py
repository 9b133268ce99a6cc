"""Pictures of both panels for README, drawn by the stand-in and marked as such.

    python Testing/standin/screenshots.py
    python Testing/standin/screenshots.py --to FOLDER --dark --width 320 --all

The first writes Resources/Screenshots/<module>.png; the second is for looking at the panels in dark colors, at the
smallest width, with every section open. What is shown is real: a procedural scan, super-resolved by the shipped model,
and a training of seconds.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "standin"), str(ROOT / "CBCTSuperRes")]
MADE = Path(tempfile.mkdtemp(prefix="screenshots-"))
os.environ["HOME"] = os.environ["USERPROFILE"] = str(MADE)  # nothing of the person who runs this is shown
os.environ.setdefault("CBCT_SUPERRES_MODELS", str(MADE / "Models"))

import qt  # noqa: E402
import slicer  # noqa: E402
import slicerapp  # noqa: E402

CAPTION = "Drawn by the stand-in that our tests use, not by 3D Slicer"
DARK = {
    "Window": "#353535",
    "WindowText": "#ffffff",
    "Base": "#232323",
    "AlternateBase": "#2b2b2b",
    "Text": "#ffffff",
    "Button": "#353535",
    "ButtonText": "#ffffff",
    "Highlight": "#2a82da",
    "Mid": "#555555",
    "ToolTipBase": "#353535",
    "ToolTipText": "#ffffff",
    "PlaceholderText": "#9a9a9a",
}
SHORTER = {"niter": 150, "val_freq": 50, "warmup_iters": 150, "lr_steps": [100]}  # of the preset "Quick look"
LIMIT_S = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--to", type=Path, default=ROOT / "Resources" / "Screenshots", metavar="FOLDER")
    parser.add_argument("--dark", action="store_true", help="dark colors")
    parser.add_argument("--width", type=int, default=400, help="pixels (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="open every section")
    parser.add_argument("--quick", action="store_true", help="compute nothing: the panels as they are before a run")
    given = parser.parse_args()
    slicerapp.start()
    if given.dark:
        usePalette(DARK)
    given.to.mkdir(parents=True, exist_ok=True)
    for name, prepare in (("CBCTSuperRes", prepareApply), ("CBCTSuperResTraining", prepareTraining)):
        widget = slicerapp.showWidget(slicerapp.loadModule(str(ROOT / name / f"{name}.py")))
        prepare(widget.panel, given.quick)
        if given.all:
            for section in widget.parent.findChildren(qt.QWidget):
                if section.className() == "ctkCollapsibleButton":
                    section.collapsed = False
        draw(widget, given.width, given.to / f"{name}.png")
    sys.stdout.flush()
    os._exit(0)  # PySide6 does not survive the end of Python with all these widgets


def usePalette(colors: dict[str, str]) -> None:
    palette = qt.QPalette()
    for role, color in colors.items():
        palette.setColor(getattr(qt.QPalette, role), qt.QColor(color))
    for role in ("WindowText", "Text", "ButtonText"):
        palette.setColor(qt.QPalette.Disabled, getattr(qt.QPalette, role), qt.QColor("#808080"))
    qt.QApplication.setStyle("Fusion")
    qt.QApplication.setPalette(palette)


def prepareApply(panel, quick: bool) -> None:
    """A scan is loaded and, unless it has to be quick, super-resolved."""
    from CBCTSuperResLib.scene.example_scan import makeExampleScan

    slicer.app.layoutManager()
    panel.parameters.inputVolume = makeExampleScan()
    if not quick:
        panel.ui.applyButton.click()
        waitFor(panel, lambda: not panel.run.isBusy)


def prepareTraining(panel, quick: bool) -> None:
    """A pair of scans is in the table and, unless it has to be quick, a training of seconds has ended."""
    from CBCTSuperResLib.acquisition.phantom import jaw_scans

    panel.parameters.resultsFolder = Path("~", "CBCT Super-Resolution training").expanduser()
    if not quick:
        train(panel)
    for selector, name, scan in zip(
        (panel.ui.fineSelector, panel.ui.coarseSelector),
        ("Jaw fine", "Jaw coarse"),
        jaw_scans((8, 128, 128), 0.125, 7),
        strict=True,
    ):
        selector.setCurrentNode(addVolume(name, scan))
    panel.ui.addButton.click()
    panel.parameters.runName = "Jaw pairs"


def train(panel) -> None:
    from CBCTSuperResLib.panels import dialogs

    dialogs.offerTrainingExtras = list
    panel.ui.presetSelector.currentIndex = 1
    settings = panel.choices.settings()
    settings["datasets"]["train"]["procedural"] = 60
    panel.choices.setSettings({**settings, "train": settings["train"] | SHORTER})
    panel.parameters.runName = "First try"
    panel.ui.startButton.click()
    waitFor(panel, lambda: not panel.run.isBusy)
    panel.ui.presetSelector.currentIndex = 1


def addVolume(name: str, volume):
    from CBCTSuperResLib.scene.nodes import updateNode

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    updateNode(node, volume)
    return node


def waitFor(panel, isDone) -> None:
    """Let the panel's timer tick until something is done."""
    end = time.monotonic() + LIMIT_S
    while not isDone():
        if time.monotonic() > end:
            raise SystemExit(f"Nothing came of it in {LIMIT_S} s.")
        slicerapp.qapp.processEvents()
        time.sleep(0.02)


def draw(widget, width: int, path: Path) -> None:
    panel = widget.parent
    caption = qt.QLabel(CAPTION)
    caption.enabled = False
    caption.wordWrap = True
    panel.layout().addWidget(caption)
    panel.layout().addStretch(1)
    panel.show()
    panel.resize(width, 10)
    slicerapp.qapp.processEvents()
    panel.resize(width, panel.layout().heightForWidth(width))
    slicerapp.qapp.processEvents()
    panel.grab().save(str(path))
    widget.cleanup()


if __name__ == "__main__":
    main()
