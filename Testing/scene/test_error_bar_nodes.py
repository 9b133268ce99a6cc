"""Error bars as nodes beside a result, with the real worker: what they are called, refer to, and mark."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

from CBCTSuperResLib.models.card import ModelCard  # noqa: E402
from CBCTSuperResLib.models.model import Model  # noqa: E402
from CBCTSuperResLib.networks import build_network  # noqa: E402
from CBCTSuperResLib.scene import nodes  # noqa: E402
from CBCTSuperResLib.scene.logic import SuperResLogic  # noqa: E402
from scans import make_scan  # noqa: E402

pytestmark = pytest.mark.usefixtures("mrml")
DEVIATION, CHANCE = "predictive deviation", "bone misclassification"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network of random weights that tells its log-variance."""
    torch.manual_seed(0)
    network = build_network("perceptual2d", nf=4, nb=1, log_variance=True)
    card = ModelCard(name="telling", spec=network.describe(), window=(0.0, 4000.0))
    path = tmp_path_factory.mktemp("models") / "telling.safetensors"
    Model(network, card).save(path)
    return path


def test_error_bars_are_nodes_beside_the_result_and_mark_what_was_asked_for(scene, model):
    scan = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Jaw")
    nodes.updateNode(scan, make_scan())
    scan.CreateDefaultDisplayNodes()

    def run(output=None, **options):
        job = SuperResLogic().start(scan, output, model=model, uncertainty=2, **options)
        end = time.monotonic() + 240
        while not job.isFinished:
            assert time.monotonic() < end, "it did not end in time"
            job.poll()
            time.sleep(0.02)
        assert job.error is None
        bars = nodes.reportOf(job.outputVolume)["super_resolution"]["error_bars"]
        shown = {name: node.GetScalarVolumeDisplayNode() for name, node in job.mapVolumes.items()}
        return job, bars, {name: display.GetLowerThreshold() for name, display in shown.items()}

    job, bars, above = run(warning_above="bone=1200")
    result, chance = job.outputVolume, job.mapVolumes[CHANCE]
    assert set(job.mapVolumes) == {DEVIATION, "intrinsic deviation", CHANCE} and bars["bone_above"] == 1200
    assert chance.GetName() == f"Jaw SR x2 {CHANCE}" and nodes.marksOf(result) is chance
    assert nodes.deviationOf(result) is job.mapVolumes[DEVIATION]
    percent = slicer.util.arrayFromVolume(chance)
    assert percent.min() >= 0 and percent.max() <= 50
    assert np.mean(percent > above[CHANCE]) == pytest.approx(0.05, abs=0.01)
    assert above[DEVIATION] == pytest.approx(bars["widest_above"])
    assert json.loads(chance.GetAttribute("CBCTSuperRes.errorBars"))["marked"] == CHANCE

    again, bars, above = run(result, warning_above=0.0001)
    assert again.outputVolume is result and nodes.marksOf(result) is nodes.deviationOf(result)
    assert above[DEVIATION] == pytest.approx(0.4) == bars["warning_above"]
    assert nodes.misclassificationOf(result) is None
