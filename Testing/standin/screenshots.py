"""Pictures of both panels for README, drawn by the stand-in and marked as such.

    python Testing/standin/screenshots.py

Writes Resources/Screenshots/<module>.png (light) and, with `--dark FOLDER`, the same in dark colours elsewhere.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "standin"), str(ROOT / "CBCTSuperRes")]

import numpy as np  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
import slicerapp  # noqa: E402

WIDTH = 400
CAPTION = "Drawn by the stand-in that our tests use, not by 3D Slicer"
DARK = {
    "Window": "#353535",
    "WindowText": "#ffffff",
    "Base": "#232323",
    "Text": "#ffffff",
    "Button": "#353535",
    "ButtonText": "#ffffff",
    "Highlight": "#2a82da",
    "Mid": "#555555",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dark", type=Path, metavar="FOLDER", help="write dark pictures there instead")
    dark = parser.parse_args().dark
    slicerapp.start()
    if dark:
        usePalette(DARK)
    addScan()
    folder = dark or ROOT / "Resources" / "Screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("CBCTSuperRes", "CBCTSuperResTraining"):
        module = slicerapp.loadModule(str(ROOT / name / f"{name}.py"))
        draw(slicerapp.showWidget(module), folder / f"{name}.png")


def usePalette(colours: dict[str, str]) -> None:
    palette = qt.QPalette()
    for role, colour in colours.items():
        palette.setColor(getattr(qt.QPalette, role), qt.QColor(colour))
    for role in ("WindowText", "Text", "ButtonText"):
        palette.setColor(qt.QPalette.Disabled, getattr(qt.QPalette, role), qt.QColor("#808080"))
    qt.QApplication.setStyle("Fusion")
    qt.QApplication.setPalette(palette)


def addScan() -> None:
    """A volume of the usual size; only its description is seen."""
    matrix = np.diag([0.25, 0.25, 0.25, 1.0])
    slicer.util.addVolumeFromArray(np.zeros((280, 400, 400), np.int16), ijkToRAS=matrix, name="PreDentalSurgery")


def draw(widget, path: Path) -> None:
    panel = widget.parent
    caption = qt.QLabel(CAPTION)
    caption.enabled = False
    panel.layout().addWidget(caption)
    panel.show()
    panel.resize(WIDTH, 10)
    slicerapp.qapp.processEvents()
    panel.resize(WIDTH, panel.layout().heightForWidth(WIDTH))
    slicerapp.qapp.processEvents()
    panel.grab().save(str(path))
    widget.cleanup()


if __name__ == "__main__":
    main()
