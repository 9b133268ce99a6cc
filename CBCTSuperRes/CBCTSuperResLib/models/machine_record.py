"""What was measured of models on this computer: small JSON files beside the user's models, shared by all programs."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

from ..core.atomic import FileLock, json_of, write_json
from ..core.errors import OutputError
from .folder import user_models_folder

PATIENCE_S = 2.0  # while another process writes the file


class MachineRecord:
    """One of these files: values by their keys, the oldest first. Standard library only.

    >>> SPEEDS = MachineRecord("speed.json", "speed")
    >>> SPEEDS.put("c0ffee cpu", 1e6)
    >>> SPEEDS.values()
    {'c0ffee cpu': 1000000.0}

    Parameters
    ----------
    name : str
        Of the file, in the folder of the user's models.
    what : str
        Is in it; for the warning that it could not be recorded.
    most : int, optional
        Values that are kept; the oldest make way.
    """

    def __init__(self, name: str, what: str, most: int | None = None) -> None:
        self._name, self._what, self._most = name, what, most

    @property
    def path(self) -> Path:
        return user_models_folder() / self._name

    def values(self) -> dict[str, Any]:
        """All that is known; nothing where the file is damaged or not there."""
        try:
            found = json_of(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def put(self, key: str, value: Any) -> None:
        """Remember a value. Others may do so at the same time, and none is lost; failing to is a warning."""
        path = self.path
        lock = FileLock(path.with_suffix(".lock"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            patience = time.monotonic() + PATIENCE_S
            while not lock.acquire():
                if time.monotonic() > patience:
                    return
                time.sleep(0.01)
            try:
                kept = {name: old for name, old in self.values().items() if name != key}
                entries = [*kept.items(), (key, value)]
                write_json(path, dict(entries[-self._most :] if self._most else entries), indent=1)
            finally:
                lock.release()
        except (OSError, OutputError) as error:
            warnings.warn(f"The {self._what} could not be recorded: {error}", stacklevel=3)
