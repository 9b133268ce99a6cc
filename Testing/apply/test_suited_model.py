"""Where no model is named, the scan decides whether one that is told the scanner's blur is taken."""

from __future__ import annotations

import json

import numpy as np
import pytest
from CBCTSuperResLib import Options
from CBCTSuperResLib.acquisition.estimate import BlurAlongAxis, EstimatedAcquisition
from CBCTSuperResLib.acquisition.noise_level import NoiseLevel
from CBCTSuperResLib.apply import plan as planning
from CBCTSuperResLib.apply.file import apply_to_file
from CBCTSuperResLib.cli.apply import facts_of_scan
from CBCTSuperResLib.jobs.queue import FileTask
from CBCTSuperResLib.models.folder import default_model, find_model, told_model
from scans import make_scan

OPTIONS = Options(window=(0, 4000), blank="none", device="cpu", precision="fp32")


@pytest.fixture
def blurred(monkeypatch):
    """Let every scan tell a blur, a standard deviation in its voxels, for sure or not."""

    def tell(blur: float, is_sure: bool = True, softness_mm: float | None = None) -> None:
        axes = [
            BlurAlongAxis(blur, 0.02, blur, blur if is_sure else None, 90, is_sure, "" if is_sure else "few edges")
        ] * 3
        found = EstimatedAcquisition((0.2,) * 3, tuple(axes), NoiseLevel(60.0, 1.0, 0.0, 0.0, np.empty(0)), softness_mm)
        monkeypatch.setattr(planning, "estimate", lambda *_: found)

    return tell


def test_a_blur_that_the_usual_model_never_met_is_told_to_one_that_can_be(blurred, tmp_path):
    scan = make_scan((3, 20, 24)).write(tmp_path / "scan.nrrd")
    task = FileTask(scan, tmp_path / "SR.nrrd", None, OPTIONS)
    cases = (0.55, True, "light"), (0.45, True, "adaptive"), (0.75, True, "adaptive"), (0.75, False, "light")
    for blur, is_sure, taken in cases:
        blurred(blur, is_sure)
        report = apply_to_file(scan, task.target, None, OPTIONS)
        assert report["super_resolution"]["model"] == taken
        why = [note for note in report["super_resolution"]["notes"] if "was taken because" in note]
        assert bool(why) is ("light usually met 0.25 mm" in str(why)) is (taken == "adaptive")
        assert taken in facts_of_scan(scan, None, OPTIONS)["model"] and task.is_up_to_date()
        written = json.loads((tmp_path / "SR.nrrd.json").read_text(encoding="utf-8"))
        assert written["super_resolution"]["model"] == taken


def test_a_scan_of_fine_grain_gets_the_model_that_can_be_told_of_little_blur(monkeypatch, tmp_path):
    axes = (BlurAlongAxis(0.8, 0.05, 0.8, 1.2, 90, False, "edges and spectrum disagree"),) * 3
    grain = NoiseLevel(140.0, 1.0, 0.45, 0.7, corner=0.05)  # of a window of 4000
    found = EstimatedAcquisition((0.2,) * 3, axes, grain, crowding=0.4, fullness=0.7)
    monkeypatch.setattr(planning, "estimate", lambda *_: found)
    scan = make_scan((3, 20, 24)).write(tmp_path / "scan.nrrd")
    report = apply_to_file(scan, tmp_path / "SR.nrrd", None, OPTIONS)
    assert report["super_resolution"]["model"] == "adaptive"
    why = "adaptive was taken because it can be told that the scan may have little blur (0.12 mm is taken); light"
    assert why in str(report["super_resolution"]["notes"])
    report = apply_to_file(scan, tmp_path / "SR of light.nrrd", "light", OPTIONS)
    assert "The scan may have little blur" in str(report["warnings"])


def test_a_blur_that_only_the_spectrum_tells_is_told_and_said_to_be_no_more_than_that(monkeypatch, tmp_path):
    axes = (BlurAlongAxis(0.2, 0.05, 0.2, 0.75, 9, False, "only 9 edges"),) * 3
    found = EstimatedAcquisition((0.2,) * 3, axes, NoiseLevel(60.0, 1.0, 0.0, 0.0))
    monkeypatch.setattr(planning, "estimate", lambda *_: found)
    run = apply_to_file(make_scan((3, 20, 24)).write(tmp_path / "scan.nrrd"), tmp_path / "SR.nrrd", None, OPTIONS)
    run = run["super_resolution"]
    assert run["model"] == "adaptive"
    assert "told what the scanner's blur seems to be, 0.38 mm" in str(run["notes"])
    assert run["back_projection"] is False, "which needs a blur that is sure"


def test_a_sharp_scan_of_soft_objects_is_no_scan_of_the_usual_blur(blurred, tmp_path):
    scan = make_scan((3, 20, 24)).write(tmp_path / "scan.nrrd")
    for blur, softness_mm, taken in ((0.42, None, "adaptive"), (0.42, 0.08, "light"), (0.3, 0.08, "adaptive")):
        blurred(blur, softness_mm=softness_mm)  # light usually met 0.425
        assert taken in facts_of_scan(scan, None, OPTIONS)["model"]
        report = apply_to_file(scan, tmp_path / "SR.nrrd", "light", OPTIONS)
        assert ("softness may have added, is weaker" in str(report["warnings"])) is (taken == "adaptive")


def test_a_model_that_is_named_is_taken_with_a_warning(blurred, tmp_path):
    scan = make_scan((3, 20, 24)).write(tmp_path / "scan.nrrd")
    blurred(0.75)
    report = apply_to_file(scan, tmp_path / "SR.nrrd", "light", OPTIONS)
    assert report["super_resolution"]["model"] == "light" and "The model adaptive can" in str(report["warnings"])
    assert "light" in facts_of_scan(scan, "light", OPTIONS)["model"]


def test_only_a_model_for_the_same_factors_takes_over():
    usual = default_model()
    assert told_model(usual, Options(), (0.2, 0.2, 0.2)).path == find_model("adaptive")
    assert told_model(usual, Options(output_spacing=(0.1, 0.1, 0.2)), (0.2, 0.2, 0.2)).path == find_model("adaptive")
    thick = Options(output_spacing=0.2)
    assert told_model(default_model(thick, (0.2, 0.2, 1.0)), thick, (0.2, 0.2, 1.0)).path != find_model("adaptive")
