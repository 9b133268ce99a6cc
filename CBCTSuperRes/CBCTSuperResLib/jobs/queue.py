"""The files of a batch: which scan becomes which file, by which job, and whether it has already."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..apply.plan import scales
from ..apply.report import identity, report_path
from ..core.errors import InputError
from ..core.options import Options
from ..models.card import ModelCard

VOLUME_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz")


@dataclass(frozen=True)
class FileTask:
    """One scan, one result, and how it is made.

    Attributes
    ----------
    source, target : Path
        Absolute; the source may be a folder of slices.
    compress, spacing, series
        See `apply_to_file`.
    """

    source: Path
    target: Path
    card: ModelCard
    options: Options
    compress: bool = False
    spacing: Sequence[float] | None = None
    series: str | None = None

    def to_job(self) -> dict:
        """What a worker is told."""
        return {
            "kind": "apply",
            "input": str(self.source),
            "output": str(self.target),
            "model": str(self.card.path.absolute()),
            "options": self.options.to_json(),
            "compress": self.compress,
            "spacing": self.spacing,
            "series": self.series,
        }

    def is_up_to_date(self) -> bool:
        """Whether the result is there, and was made of the same scan, with the same model and options."""
        try:
            report = json.loads(report_path(self.target).read_text(encoding="utf-8"))
            now = {"input": identity(self.source), "output": identity(self.target)}
            unchanged = all(report[side][key] == value for side, facts in now.items() for key, value in facts.items())
            asked = {
                "options": self.options.to_json(),
                "reading": {"spacing": self.spacing and list(self.spacing), "series": self.series},
            }
            same = all(report[key] == json.loads(json.dumps(value)) for key, value in asked.items())
            return unchanged and same and report["super_resolution"]["model_sha256"] == self.card.weights_sha256
        except (OSError, ValueError, KeyError, TypeError):
            return False


def find_scans(text: str | Path) -> list[Path]:
    """The scans that an argument means: a file, a folder that is a scan, a folder of scans, or a pattern.

    Raises
    ------
    InputError
        If nothing is there.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        return _scans_in(path)
    if path.exists():
        return [path]
    found = [Path(name) for name in sorted(glob.glob(str(path))) if Path(name).is_dir() or _is_scan(Path(name))]
    if not found:
        raise InputError(f"Nothing matches {text}.", "Check the name and the folder.")
    return found


def target_in(folder: Path, source: Path, card: ModelCard, options: Options) -> Path:
    """The file in a folder that a scan becomes: "<scan> SR x2.nrrd"."""
    return folder / f"{_stem(source)} SR x{scales(card, options)[0]:.3g}.nrrd"


def _scans_in(folder: Path) -> list[Path]:
    volumes = [path for path in sorted(folder.iterdir()) if _is_scan(path)]
    if volumes:
        return volumes
    subfolders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    has_files = any(path.is_file() and not path.name.startswith(".") for path in folder.iterdir())
    return [folder] if has_files or not subfolders else subfolders


def _is_scan(path: Path) -> bool:
    """A volume file, but not the result of an earlier batch."""
    if path.name.startswith(".") or report_path(path).exists():
        return False
    return path.is_file() and path.name.lower().endswith(VOLUME_SUFFIXES)


def _stem(path: Path) -> str:
    if path.is_dir():
        return path.resolve().name
    suffix = max((s for s in VOLUME_SUFFIXES if path.name.lower().endswith(s)), key=len, default=path.suffix)
    return path.name[: len(path.name) - len(suffix)]
