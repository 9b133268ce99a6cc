"""The models on this computer: those shipped with the program and those in the user's own folder."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..core.atomic import replacing
from ..core.errors import DependencyError, ModelError, OptionError, OutputError
from ..core.options import Options
from ..core.resources import resource
from ..io.formats import free_path
from .card import (
    CARD_KEY,
    ModelCard,
    factors_text,
    read_card,
    verify_weights,
)
from .header import read_header

DEFAULT_MODEL = "light"
SUFFIX = ".safetensors"
FOLDER_VARIABLE = "CBCT_SUPERRES_MODELS"
LATELY_NS = 2_000_000_000  # file systems tell times of changes to two seconds at worst


@dataclass(frozen=True)
class ModelEntry:
    """A file in one of the model folders.

    Attributes
    ----------
    path : Path
    card : ModelCard or None
        None for a file that cannot be used.
    problem : str
        Why it cannot be used; "" for a model.
    """

    path: Path
    card: ModelCard | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        return self.card.name if self.card else self.path.stem


def user_models_folder() -> Path:
    """The user's own folder of models, which survives updates of the extension; it need not exist.

    It is named by the environment variable CBCT_SUPERRES_MODELS, or lies where the system keeps the data of programs.
    """
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    if named:
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "CBCTSuperRes" / "Models"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "CBCTSuperRes" / "Models"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "cbct-superres" / "models"


def list_models(extra_folders: Iterable[str | Path] = ()) -> list[ModelEntry]:
    """All model files of the extra folders, the user's folder and the shipped folder, sorted by name.

    Files that cannot be used are listed with the reason; of equal names, that of the earlier folder comes first.
    """
    entries = [_entry(path) for folder in _folders(extra_folders) for path in _model_files(folder)]
    return sorted(entries, key=lambda entry: entry.name.casefold())


def find_model(name_or_path: str | Path) -> Path:
    """The file of a model that is given by its name, its file's name or its path.

    Raises
    ------
    ModelError
        If there is none; the message lists those that exist.
    """
    text = str(name_or_path).strip()
    path = Path(text).expanduser()
    meant_as_path = path.suffix or path.parent != Path()
    if meant_as_path and path.is_file():
        return path
    entries = list_models()
    for usable in (True, False):
        for entry in entries:
            if (entry.card is not None) is usable and text.casefold() in _names(entry):
                return entry.path
    if path.is_file():
        return path
    if meant_as_path and path.is_dir():
        advice = "Of a training, make a model of it: cbct-superres export FOLDER --out FILE.safetensors"
        raise ModelError(f"{text} is a folder, not a model file.", advice)
    if meant_as_path:
        raise ModelError(f"The model file {text} does not exist.", _advice(_usable_names(entries)))
    raise _unknown(text, _usable_names(entries))


def default_model(options: Options = Options(), spacing: Sequence[float] | None = None) -> ModelCard:
    """The model for what is asked, where none is named: `DEFAULT_MODEL`, or else the first that offers the factors.

    Shipped ones come before a user's own, both by name; a model that leads to another kind of image is never taken.

    Parameters
    ----------
    options : Options
    spacing : (i, j, k), optional
        Of the scan, in mm; it must be known where the options ask for an output spacing.

    Raises
    ------
    ModelError
        If there is no default model.
    OptionError
        If no model offers the factors; the message tells what each does.
    """
    usual, asked = read_card(find_model(DEFAULT_MODEL)), options.factors(spacing)
    if asked is None or usual.offered(asked, options.planes):
        return usual
    others = [entry.card for entry in list_models() if entry.card and entry.card.spec.domain == "same"]
    others.sort(key=lambda card: is_own_model(card.path))
    if found := next((card for card in others if card.offered(asked, options.planes, spacing)), None):
        return found
    known = {card.name: card for card in [usual, *others]}.values()
    raise OptionError(
        f"No model enlarges by {factors_text(asked)}.",
        f"These are installed: {'; '.join(_ability(card, options, spacing) for card in known)}."
        + (" Below 1, voxels become larger, which needs no model: use resampling." if np.min(asked) < 1 else ""),
    )


def _ability(card: ModelCard, options: Options, spacing: Sequence[float] | None) -> str:
    """A model and its factors; where a voxel size is asked for, the finest that it makes of the scan, too."""
    text = f"{card.name}, {card.factors_text(options.planes)}"
    if options.output_spacing is None:
        return text
    finest = np.divide(spacing, [highest for _, highest in card.factors(options.planes, spacing)])
    return f"{text} (down to {' x '.join(f'{size:.3g}' for size in finest)} mm)"


def told_model(card: ModelCard, options: Options, spacing: Sequence[float] | None) -> ModelCard | None:
    """The first shipped model that does what another does and is told the scanner's blur; None if there is none.

    Parameters
    ----------
    card : ModelCard
    options : Options
    spacing : (i, j, k) or None
        Of the scan, in mm; it must be known where an output spacing is asked for.
    """
    asked = options.factors(spacing)
    offered = card.offered(asked, options.planes, spacing)
    for entry in list_models():
        other = entry.card
        if other and not is_own_model(other.path) and "blur" in other.spec.conditions and not other.tells_errors:
            is_alike = other.spec.domain == card.spec.domain and other.spec.dimensions == card.spec.dimensions
            if is_alike and other.offered(asked, options.planes, spacing) == offered:
                return other
    return None


def is_model_file(path: str | Path) -> bool:
    """Whether a file is a model already; otherwise it may hold weights of which one can be made.

    Raises
    ------
    ModelError
        If it is a damaged safetensors file.
    """
    return Path(path).suffix.casefold() == SUFFIX and CARD_KEY in read_header(path).metadata


def adopt_model(path: str | Path, folder: str | Path) -> ModelCard:
    """Copy a model file into a folder, where it replaces the model of its name; the copy appears whole or not at all.

    Raises
    ------
    ModelError
        If the file is no model, or its weights are not those that were saved.
    OutputError
        If it cannot be copied.
    """
    path, folder = Path(path), Path(folder)
    card = verify_weights(path)
    target = next((entry.path for entry in map(_entry, _model_files(folder)) if entry.name == card.name), None)
    target = target or free_path(folder, path.stem, SUFFIX, between="-")
    if not (target.exists() and target.samefile(path)):
        with replacing(target) as scratch:
            shutil.copyfile(path, scratch)
    return read_card(target)


def remove_model(path: str | Path) -> None:
    """Delete a model of the user's own.

    Raises
    ------
    ModelError
        If it is a shipped one.
    OutputError
        If it cannot be deleted.
    """
    path = Path(path)
    if not is_own_model(path):
        raise ModelError(f"{path.stem} came with the program.", "Only models of your own can be removed.")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"The model cannot be deleted: {error}.", "Close what uses it, or delete the file."
        ) from error


def is_own_model(path: str | Path) -> bool:
    """Whether a model lies in the user's own folder."""
    return Path(path).resolve().parent == user_models_folder().resolve()


def is_shipped_model(path: str | Path) -> bool:
    """Whether a model lies where those are that came with the program."""
    with suppress(DependencyError):
        return Path(path).resolve().parent == resource("Models").resolve()
    return False


def _folders(extra_folders: Iterable[str | Path]) -> list[Path]:
    folders = [*map(Path, extra_folders), user_models_folder()]
    with suppress(DependencyError):  # a user's own models work without the shipped ones
        folders.append(resource("Models"))
    return list({folder.resolve(): folder for folder in folders}.values())


def _model_files(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.casefold() == SUFFIX and not p.name.startswith("."))
    except OSError:
        return []


def _entry(path: Path) -> ModelEntry:
    """What a file holds; read once, unless changed so lately that another change might leave its time as it is."""
    try:
        with suppress(OSError):
            status = path.stat()
            if time.time_ns() - status.st_mtime_ns > LATELY_NS:
                return ModelEntry(path, _card_of(path, status.st_mtime_ns, status.st_size, status.st_ino))
        return ModelEntry(path, read_card(path))
    except ModelError as error:
        return ModelEntry(path, problem=str(error))


@lru_cache(maxsize=256)  # of what could be read: what could not may be read the next time
def _card_of(path: Path, *changed: int) -> ModelCard:
    return read_card(path)


def _names(entry: ModelEntry) -> set[str]:
    return {entry.name.casefold(), entry.path.stem.casefold(), entry.path.name.casefold()}


def _usable_names(entries: list[ModelEntry]) -> list[str]:
    return list(dict.fromkeys(entry.name for entry in entries if entry.card))


def _unknown(wanted: str, names: list[str]) -> ModelError:
    by_folded = {name.casefold(): name for name in names}
    similar = difflib.get_close_matches(wanted.casefold(), by_folded, n=1)
    guess = f" Did you mean {by_folded[similar[0]]}?" if similar else ""
    return ModelError(f"There is no model called {wanted}.{guess}", _advice(names))


def _advice(names: list[str]) -> str:
    if not names:
        return f"No models are installed; put one into {user_models_folder()}."
    return f"These exist: {', '.join(names)}. Others can be put into {user_models_folder()} or given by their path."
