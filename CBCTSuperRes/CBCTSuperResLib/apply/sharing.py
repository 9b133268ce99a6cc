"""One volume, several processes: who computes its parts, and what their reports say of the whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.progress import Report
from ..io.volume import Volume
from .plan import Plan, Workers

if TYPE_CHECKING:
    from ..models.model import Model

RESULT = "result"


class Sharing(ABC):
    """Processes that compute the parts of a volume; given to `super_resolve` and `apply_to_file`.

    Attributes
    ----------
    workers : Workers
        Each computes one part at a time.
    """

    workers: Workers

    @abstractmethod
    def compute(
        self,
        plan: Plan,
        volume: Volume,
        model: Model,
        memory: Mapping[str, np.ndarray],
        progress: Report,
        cancelled: Callable[[], bool],
    ) -> list[dict]:
        """Have all parts of a plan computed.

        Parameters
        ----------
        memory : mapping of str to ndarray
            Where `RESULT` and each of `Plan.maps` goes.

        Returns
        -------
        list of dict
            The report of each part; under "worker" who computed it.

        Raises
        ------
        SuperResError
            If a part cannot be computed, or the work was cancelled.
        """


def joined(parts: Sequence[dict]) -> dict:
    """What the reports of parts say of the whole, for `make_report`; of processes, those that computed any."""
    devices = list(dict.fromkeys(part["device"] for part in parts))
    precisions = dict.fromkeys(part["precision"] for part in parts if part["pieces"])
    workers = len({part["worker"] for part in parts})
    return {
        "engine": ", ".join(dict.fromkeys(part["engine"] for part in parts)),
        "device": ", ".join(devices) if len(devices) > 1 else f"{workers} x {devices[0]}",
        "precision": ", ".join(precisions) or parts[0]["precision"],
        "tile": parts[0]["tile"],
        "pieces": sum(part["pieces"] for part in parts),
        "network_voxels": sum(part["network_voxels"] for part in parts),
        "notes": list(dict.fromkeys(note for part in parts for note in part["notes"])),
        "parts": {"count": len(parts), "workers": workers},
    }
