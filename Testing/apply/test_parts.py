"""A volume that is computed in parts is the volume that one device computes, whatever the way through it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.apply import parts, run
from CBCTSuperResLib.apply.engines import pytorch
from CBCTSuperResLib.apply.engines.pytorch import TorchNetwork
from CBCTSuperResLib.apply.plan import OF_THE_WHOLE, Workers, make_plan
from CBCTSuperResLib.apply.sharing import Sharing
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.exchange import write_exchange
from scans import make_scan
from stub_networks import BlockNet, Normalised, PointNet, Sharpened, UncertainNet, register, stub_model, tiny_model


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    register(monkeypatch)


class Here(Sharing):
    """Computes the parts in this process, the last one first, as so many workers would."""

    is_computing = False

    def __init__(self, folder: Path, count: int = 2) -> None:
        self.workers, self._folder = Workers(count), folder

    def compute(self, plan, volume, model, memory, progress, cancelled):
        scan, plan_file = self._folder / "scan.npy", self._folder / f"plan {id(plan)}"
        write_exchange(volume, scan)
        digest = parts.save_plan(plan, plan_file)
        self.plan, self.is_computing, reports = plan, True, []
        for number, part in reversed(list(enumerate(plan.parts))):
            target = self._folder / f"part {number}"
            parts.compute_part(scan, plan_file, digest, part, target, model, "cpu", progress, cancelled)
            with np.load(target) as stored:
                self.written = set(stored.files)
            reports.append(parts.take_in(target, parts.box_of(plan, part), memory))
            assert not target.exists()
            reports[-1]["worker"] = number % self.workers.count
        self.is_computing = False
        return reports[::-1]


def with_blank(volume: Volume) -> Volume:
    """The first slices are empty, and so is a border."""
    voxels = volume.voxels.copy()
    voxels[:3] = 0
    voxels[:, :, :4] = 0
    return replace(volume, voxels=voxels)


UNLIKE = ("seconds", "peak_memory_bytes", "device", "parts")
FP32 = {"window": (0.0, 3500.0), "device": "cpu", "precision": "fp32"}


def test_parts_give_the_bits_of_one_process_with_maps_blanks_and_back_projection(tmp_path):
    scan = with_blank(make_scan((13, 24, 28)))
    for model, more in [
        (tiny_model(), {"scanner_blur": 0.4, "back_projection": "on", "roi": ((3, 26), (0, 24), (2, 12))}),
        (tiny_model(), {"uncertainty": 2, "ensemble": 2}),
        (stub_model(UncertainNet()), {"uncertainty": 2}),
        (stub_model(UncertainNet()), {"uncertainty": 2, "warning_above": "bone"}),
    ]:
        options, sharing = Options(**FP32, **more), Here(tmp_path)
        alone, shared = super_resolve(scan, model, options), super_resolve(scan, model, options, sharing=sharing)
        same = np.testing.assert_array_equal
        same(alone.voxels, shared.voxels)
        assert sharing.written.isdisjoint(OF_THE_WHOLE)
        for name in alone.error_bars:
            same(alone.error_bars[name].voxels, shared.error_bars[name].voxels)
        if alone.disagreement:
            same(alone.disagreement.voxels, shared.disagreement.voxels)
        count = len(sharing.plan.parts)
        assert count > 1 and shared.report["parts"] == {"count": count, "workers": 2}
        one, many = ({key: value for key, value in r.report.items() if key not in UNLIKE} for r in (alone, shared))
        assert one.pop("quality")["figures"] == many.pop("quality")["figures"] and one == many
        assert shared.report["device"].startswith("2 x cpu")


def test_the_report_tells_how_many_processes_computed_not_how_many_were_asked_for(tmp_path):
    """A cluster may have given fewer, or the last ones came too late; a volume may have fewer parts."""
    scan = make_scan((3, 24, 28))
    report = super_resolve(scan, tiny_model(), Options(**FP32), sharing=Here(tmp_path, 5)).report
    assert report["parts"] == {"count": 3, "workers": 3} and report["device"].startswith("3 x cpu")


def test_a_process_that_has_others_compute_needs_no_engine(tmp_path, monkeypatch):
    """It may have neither PyTorch nor ONNX Runtime, as the first machine of a cluster."""
    scan, sharing, network_for = make_scan((6, 24, 28)), Here(tmp_path), run.network_for

    def there(*arguments):
        assert sharing.is_computing
        return network_for(*arguments)

    monkeypatch.setattr(run, "network_for", there)
    for model, more in [(tiny_model(), {"uncertainty": 2}), (stub_model(UncertainNet()), {"uncertainty": 2})]:
        report = super_resolve(scan, model, Options(**FP32, **more), sharing=sharing).report
        assert report["engine"].startswith("torch") and report["precision"] == "fp32"


def test_blocks_and_three_planes_are_cut_for_the_workers_and_join_within_rounding(tmp_path):
    scan = make_scan((40, 22, 24), "float32")
    for model, more in [
        (stub_model(BlockNet()), {"back_projection": "on", "scanner_blur": 0.4}),
        (stub_model(PointNet()), {"scale": (1.5, 1.5, 1.25), "back_projection": "on", "scanner_blur": 0.4}),
        (stub_model(Sharpened()), {"planes": "isotropic"}),
    ]:
        options, sharing = Options(**FP32, **more), Here(tmp_path, 2)
        alone, shared = super_resolve(scan, model, options), super_resolve(scan, model, options, sharing=sharing)
        assert len(sharing.plan.parts) == 2
        assert shared.report["back_projection"] is (options.back_projection == "on")
        np.testing.assert_allclose(shared.voxels, alone.voxels, rtol=0, atol=1e-5 * 3500)
        assert shared.report.get("agreement") == alone.report.get("agreement")


def test_the_precision_of_all_parts_is_that_of_the_run_on_one_device(tmp_path, monkeypatch):
    """The first slices are flat and tell nothing; each part alone would begin with another slice."""
    monkeypatch.setattr(pytorch, "bfloat16_pays", lambda: True)
    scan = make_scan((16, 48, 50))
    noise = np.random.default_rng(0).normal(0, 90, scan.voxels.shape)
    scan = replace(scan, voxels=np.clip(scan.voxels + noise, 0, 4000).astype(np.uint16))
    scan.voxels[:5] = 200
    options = Options(window=(0.0, 3500.0), device="cpu")
    model = tiny_model()
    alone, shared = super_resolve(scan, model, options), super_resolve(scan, model, options, sharing=Here(tmp_path))
    told = [[note for note in result.report["notes"] if "bf16" in note] for result in (alone, shared)]
    assert told[0] == told[1] and len(told[0]) == 1
    assert alone.report["precision"] == shared.report["precision"]
    np.testing.assert_array_equal(alone.voxels, shared.voxels)


class Other(TorchNetwork):
    """Another engine, which differs from PyTorch wherever it is looked at for a second time."""

    engine, started = "onnxruntime", 0

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        Other.started += 1
        self._off = 0.1 * (Other.started > 1)

    def run_tile(self, *arguments):
        return [(box, values + self._off) for box, values in super().run_tile(*arguments)]


def test_the_engine_that_auto_took_is_compared_with_pytorch_once_for_all_parts(tmp_path, monkeypatch):
    """What was chosen is not what was insisted on: no part may fail of it, nor pay for a comparison of its own."""

    def chosen(model, options, voxels, scan_noise, cancelled):
        assert options.engine in ("auto", "onnxruntime")
        return Other(model.network, model.spec, "cpu", cancelled), "It was faster." * (options.engine == "auto")

    monkeypatch.setattr(run, "network_for", chosen)
    monkeypatch.setattr(Other, "started", 0)
    report = super_resolve(make_scan((8, 24, 28)), tiny_model(), Options(**FP32), sharing=Here(tmp_path)).report
    assert report["engine"].startswith("onnxruntime") and Other.started == 1 + report["parts"]["count"]
    assert sum("differs from PyTorch" in note for note in report["notes"]) == 1 and "It was faster." in report["notes"]


def test_parts_cover_the_roi_once_and_their_memory_is_in_the_plan():
    grid, card = Grid((200, 180, 150), (0.2, 0.2, 0.2)), tiny_model().card
    options = Options(roi=((10, 190), (0, 180), (7, 150)))
    one, two = (make_plan(grid, np.dtype("int16"), card, options, Workers(n) if n > 1 else None) for n in (1, 2))
    seen = np.zeros((150, 180, 200), int)
    for part in two.parts:
        seen[tuple(slice(*ends) for ends in part[::-1])] += 1
    assert seen[7:, :, 10:190].all() and seen.max() == 1 and seen.sum() == 143 * 180 * 180
    assert two.memory_bytes - one.memory_bytes >= two.worker_bytes > one.memory_bytes - one.output_bytes - 11e6
    far = make_plan(grid, np.dtype("int16"), card, options, Workers(2, are_here=False))
    assert far.worker_bytes == two.worker_bytes and far.memory_bytes + 2 * two.worker_bytes == two.memory_bytes
    assert make_plan(grid, np.dtype("int16"), card, replace(options, device="cpu,cpu")).memory_bytes == two.memory_bytes


def test_a_kept_plan_does_not_hold_the_scan(tmp_path):
    scan = with_blank(make_scan((40, 60, 60)))
    plan = make_plan(scan.grid, scan.voxels.dtype, tiny_model().card, Options(**FP32)).with_scan(scan)
    assert plan.blanks.voxels is not None
    parts.save_plan(plan, tmp_path / "plan")
    kept = pickle.loads((tmp_path / "plan").read_bytes())
    assert kept.blanks.voxels is None and kept.choice.window == plan.choice.window and plan.blanks.voxels is not None


def test_a_plan_that_somebody_else_wrote_is_not_opened(tmp_path):
    scan = make_scan((4, 20, 20))
    plan = make_plan(scan.grid, scan.voxels.dtype, tiny_model().card, Options(**FP32)).with_scan(scan)
    write_exchange(scan, tmp_path / "scan.npy")
    digest = parts.save_plan(plan, tmp_path / "plan")
    (tmp_path / "plan").write_bytes(pickle.dumps(Harmful(tmp_path / "harm")))
    with pytest.raises(InputError, match="not the plan that was written"):
        parts.compute_part(
            tmp_path / "scan.npy",
            tmp_path / "plan",
            digest,
            plan.roi,
            tmp_path / "part",
            tiny_model(),
            "cpu",
            None,
            None,
        )
    assert not (tmp_path / "harm").exists()


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_several_devices_are_of_one_kind_and_need_whoever_shares_the_work():
    assert Options(device="cuda:0,1, 3").devices == ("cuda:0", "cuda:1", "cuda:3")
    assert Options(device="cpu,cpu").devices == ("cpu", "cpu") and Options().devices == ("auto",)
    for wrong in ("cuda:0,cpu", "auto,auto", "cpu,", "mps,mps"):
        with pytest.raises(OptionError, match="of one kind"):
            Options(device=wrong)
    for wrong in ("cuda:all,1", "cuda:0,cuda:all", "cuda:all,cuda:all"):
        with pytest.raises(OptionError, match="stands alone"):
            Options(device=wrong)
    scan, model = make_scan(), tiny_model()
    with pytest.raises(OptionError, match="several devices"):
        super_resolve(scan, model, Options(device="cpu,cpu"))
    whole = stub_model(Normalised(3), context="unknown")
    with pytest.raises(OptionError, match="cannot be shared"):
        make_plan(scan.grid, scan.voxels.dtype, whole.card, Options(device="cpu,cpu"))


def test_all_graphics_cards_are_those_that_are_there(monkeypatch):
    from CBCTSuperResLib.core import options

    for count, devices in [(0, ("cuda",)), (1, ("cuda:0",)), (3, ("cuda:0", "cuda:1", "cuda:2"))]:
        monkeypatch.setattr(options, "count_gpus", lambda count=count: count)
        assert Options(device="cuda:all").devices == devices
