"""Pictures of both panels for README, drawn by the stand-in and marked as such.

    python Testing/standin/screenshots.py
    python Testing/standin/screenshots.py --to FOLDER --dark --width 310 400 600 --all

The first writes Resources/Screenshots/<module>.png: what is seen of a panel on the first screen. The second is for
looking at the panels in dark colors, at several widths, with every section open, down to their ends. What is shown is
real: a procedural scan, super-resolved by the shipped model,
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

import hosting  # noqa: E402
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
    parser.add_argument("--width", type=int, nargs="+", default=[400], help="pixels (default: 400)")
    parser.add_argument("--all", action="store_true", help="open every section, and show all of it")
    parser.add_argument("--quick", action="store_true", help="compute nothing: the panels as they are before a run")
    parser.add_argument("--module", choices=list(PREPARED), action="append", help="only this one")
    given = parser.parse_args()
    slicerapp.start()
    if given.dark:
        usePalette(DARK)
    given.to.mkdir(parents=True, exist_ok=True)
    for name in given.module or PREPARED:
        widget = slicerapp.showWidget(slicerapp.loadModule(str(ROOT / name / f"{name}.py")))
        window = hosting.show(widget)
        PREPARED[name](widget.panel, given.quick)
        if given.all:
            window.openSections()
        for width in given.width:
            suffix = f"-{width}" if len(given.width) > 1 else ""
            draw(window, width, given.to / f"{name}{suffix}.png", given.all)
        widget.cleanup()
        window.release()
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
    """A scan is loaded, looked at and, unless it has to be quick, super-resolved."""
    from CBCTSuperResLib.scene.example_scan import makeExampleScan

    slicer.app.layoutManager()
    panel.parameters.inputVolume = makeExampleScan()
    waitFor(panel, lambda: not panel.scanner.isBusy)
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


PREPARED = {"CBCTSuperRes": prepareApply, "CBCTSuperResTraining": prepareTraining}


def draw(window, width: int, path: Path, whole: bool) -> None:
    """What the panel shows at a width, or all that is in it, with a line that says what has drawn it."""
    window.drag(width)
    seen = (window.panel.contents() if whole else window.panel).grab()
    caption = qt.QLabel(CAPTION)
    caption.wordWrap = True
    caption.setMargin(6)
    caption.resize(seen.width(), caption.heightForWidth(seen.width()))
    line = caption.grab()
    picture = qt.QPixmap(seen.width(), seen.height() + line.height())
    painter = qt.QPainter(picture)
    painter.drawPixmap(0, 0, seen)
    painter.drawPixmap(0, seen.height(), line)
    painter.end()
    picture.save(str(path))
    for fault in window.faults():
        print(f"{path.name}: {fault}")


if __name__ == "__main__":
    main()
