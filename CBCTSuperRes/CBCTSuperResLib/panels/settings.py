"""What the panels remember for the person, whatever the scene: in Slicer's own settings."""

from __future__ import annotations

from pathlib import Path

import slicer

from ..models.listing import user_models_folder

MODELS_FOLDER = "CBCTSuperRes/modelsFolder"


def modelsFolder() -> Path:
    """Where the user's own models are looked for and put."""
    chosen = slicer.app.userSettings().value(MODELS_FOLDER)
    return Path(chosen) if chosen else user_models_folder()


def setModelsFolder(folder: str | Path) -> None:
    """Remember another folder; "" goes back to the usual one."""
    slicer.app.userSettings().setValue(MODELS_FOLDER, str(folder))
