"""The application stays responsive while a volume is handed over, taken back and shown: a tick moves a piece of it.

What is counted are bytes, which no busy computer changes; what a tick takes in seconds is measured by the benchmark
"ticks".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io import exchange
from CBCTSuperResLib.io.volume import Volume

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
from CBCTSuperResLib.scene import jobs, logic  # noqa: E402
from panel_ticks import ReadyResult, add_large_scan, apply_in_ticks  # noqa: E402

pytestmark = pytest.mark.usefixtures("qt_or_skip")
SLAB, PIECE = 1 << 16, 1 << 18  # so that the volumes of a test are large
SHAPE, BYTES = (64, 64, 64), 2 * 64**3


class CountedVoxels(np.ndarray):
    """Voxels that count the bytes that are looked at."""

    seen = 0

    def __array_finalize__(self, other) -> None:
        """Parts are counted as what they are parts of."""

    def __getitem__(self, index):
        part = np.asarray(super().__getitem__(index))
        CountedVoxels.seen += part.nbytes
        return part

    def __array_function__(self, function, types, arguments, keywords):
        CountedVoxels.seen += self.nbytes
        return super().__array_function__(function, types, arguments, keywords)

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        CountedVoxels.seen += self.nbytes
        return getattr(ufunc, method)(*(np.asarray(one) for one in inputs), **keywords)


class Ticks:
    """Bytes that each tick writes to the disk, removes from it, and reads of the result."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.written, self.removed, self.read = folder, [], [], []

    def on_disk(self) -> int:
        return sum(file.stat().st_size for file in self.folder.rglob("*.npy"))

    def __call__(self, action) -> None:
        before, seen = self.on_disk(), CountedVoxels.seen
        action()
        change = self.on_disk() - before
        self.written.append(max(0, change))
        self.removed.append(max(0, -change))
        self.read.append(CountedVoxels.seen - seen)


def test_no_tick_of_the_panel_moves_more_than_a_piece_of_the_input_or_of_the_result(
    scene, apply_panel, tmp_path, monkeypatch
):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(type(slicer.app), "temporaryPath", str(folder))
    monkeypatch.setattr(logic, "Job", ReadyResult)
    monkeypatch.setattr(jobs, "TICK_BUDGET_S", 0.0)  # a tick takes one step, however fast the computer is
    monkeypatch.setattr(exchange, "SLAB_BYTES", SLAB)
    monkeypatch.setattr(exchange, "PIECE_BYTES", PIECE)
    copy = jobs.copySlabs
    monkeypatch.setattr(jobs, "copySlabs", lambda source, target: copy(source.view(CountedVoxels), target))
    ticks = Ticks(folder)
    job = apply_in_ticks(apply_panel, add_large_scan(SHAPE), ticks)
    assert job.error is None and list(folder.iterdir()) == []
    assert np.array_equal(slicer.util.arrayFromVolume(job.outputVolume)[:, 64, 64], np.arange(128))
    assert apply_panel.ui.resultLabel.text.startswith("Jaw SR x2")
    red = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
    assert red.GetBackgroundVolumeID() == job.outputVolume.GetID()
    header = 1 << 10
    assert BYTES <= sum(ticks.written) <= BYTES + header and max(ticks.written) <= SLAB + header
    assert sum(ticks.read) == 8 * BYTES and max(ticks.read) <= SLAB
    assert sum(ticks.removed) >= 9 * BYTES and max(ticks.removed) <= PIECE + header


def test_a_volume_is_written_and_removed_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(exchange, "SLAB_BYTES", SLAB)
    volume = Volume(np.broadcast_to(np.uint16(7), (40, 128, 128)), Grid((128, 128, 40)))
    path = tmp_path / "a.npy"
    sizes = [path.stat().st_size for _ in exchange.write_slabs(volume, path)]
    assert max(np.diff(sizes)) <= SLAB and len(sizes) == 20
    left = [sizes[-1], *(path.stat().st_size for _ in exchange.remove_pieces(path)), 0]
    assert max(-np.diff(left)) <= PIECE and len(left) == 7
    assert list(tmp_path.iterdir()) == []
