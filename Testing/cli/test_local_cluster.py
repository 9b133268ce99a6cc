"""Workers of `apply --cluster local`: as many as cores, or fewer where memory does not carry so many."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from CBCTSuperResLib.cli import apply
from CBCTSuperResLib.core.errors import Cancelled
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """How many are started for a scan, with so much memory free, and what is said of it."""

    class Recorded:
        def __init__(self, place):
            started.append(place)
            raise Cancelled

    started, said = [], []
    scan = Volume(np.zeros((40, 200, 200), np.int16), Grid((200, 200, 40))).write(tmp_path / "scan.nrrd")
    monkeypatch.setattr(apply, "Cluster", Recorded)
    monkeypatch.setattr(apply, "usable_cores", lambda: 12)
    monkeypatch.setattr(apply, "count_gpus", lambda: 0)

    def ask(free, source=scan, place="local"):
        monkeypatch.setattr(apply, "available_memory", lambda: free)
        parsed = SimpleNamespace(scan=source, output=tmp_path / "r.nrrd", model="light", cluster=place)
        with pytest.raises(Cancelled), apply._sharing(parsed, Options(device="cpu"), SimpleNamespace(say=said.append)):
            pass
        return started.pop(), said

    return ask


def test_local_takes_as_many_workers_as_memory_carries(workers, tmp_path):
    assert workers(1e12) == ("local:12", [])
    place, said = workers(5e9)
    assert 1 < int(place.removeprefix("local:")) < 12
    assert said == [f"Of 12 workers {place.removeprefix('local:')} fit into memory, of which 5.0 GB are free."]
    assert workers(1e8)[0] == "local:1"  # which the run refuses, with the numbers
    assert workers(1e8, tmp_path / "none.nrrd")[0] == "local:12"  # and this, too
    assert workers(1e8, place="local:7")[0] == "local:7"
