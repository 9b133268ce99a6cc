"""Grading: both protocols, every figure, and the goals."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from CBCTSuperResLib.acquisition.phantom import jaw_phantom  # noqa: E402
from CBCTSuperResLib.acquisition.scanner import P2, P3, gaussian_blur  # noqa: E402
from CBCTSuperResLib.core.interpolate import enlarge_slice  # noqa: E402
from CBCTSuperResLib.evaluate.drawing import liveliest  # noqa: E402
from CBCTSuperResLib.models.card import ModelCard, read_card  # noqa: E402
from CBCTSuperResLib.models.model import Model  # noqa: E402
from CBCTSuperResLib.networks import build_network  # noqa: E402

from grading import grading  # noqa: E402
from grading.canals import canal_phantom  # noqa: E402
from grading.cases import Case  # noqa: E402
from grading.goals import GOALS, goals_text, judge  # noqa: E402
from grading.grading import grade_case  # noqa: E402
from grading.methods import cubic_method  # noqa: E402
from grading.tables import LABELS, as_markdown  # noqa: E402


@pytest.fixture(scope="module")
def case() -> Case:
    field = gaussian_blur(jaw_phantom((12, 64, 64), 0.2, 5), 0.45, (0, 1, 2))
    return Case("a small jaw", np.clip(field, 0, 1), (0.2,) * 3)


def value(rows: list[dict], metric: str, method: str) -> float:
    return next(row[method] for row in rows if row["metric"] == metric)


def test_cubic_enlarges_the_axes_of_the_protocol():
    scan = np.random.default_rng(0).random((5, 8, 9), np.float32)
    assert cubic_method(scan, P3).shape == (10, 16, 18)
    axial = cubic_method(scan, P2)
    assert axial[2] == pytest.approx(enlarge_slice(scan[2], (16, 18)), abs=1e-5)


@pytest.mark.parametrize("protocol", [P2, P3], ids=lambda p: p.protocol)
def test_who_knows_the_truth_gets_full_marks_and_cubic_does_not(case, protocol):
    methods = {"cubic": cubic_method, "oracle": lambda scan, protocol: case.truth}
    rows = grade_case(case, methods, protocol)
    assert value(rows, "gradient_energy", "oracle") == 1 and value(rows, "thickness_slices", "oracle") == 0
    assert value(rows, "consistency", "oracle") == pytest.approx(1, abs=0.15)
    assert value(rows, "psnr", "cubic") < 35
    assert all(row["protocol"] == protocol.protocol and protocol.protocol in row["data"] for row in rows)


def test_the_same_case_is_degraded_in_the_same_way_every_time(case):
    psnr = [value(grade_case(case, {"cubic": cubic_method}, P2), "psnr", "cubic") for _ in range(2)]
    assert psnr[0] == psnr[1]


def test_models_compute_as_apply_does_in_both_protocols():
    method = grading.model_method(Model.load("light"), device="cpu")
    scan = np.random.default_rng(0).normal(0.4, 0.01, (8, 24, 24)).astype(np.float32)
    assert method(scan, P2).shape == (8, 48, 48) and method(scan, P3).shape == (16, 48, 48)
    assert method(scan, P2) == pytest.approx(0.4, abs=0.06)


def test_goals_are_judged_row_by_row():
    rows = [
        {"data": "a", "protocol": "P2", "metric": "psnr", "cubic": 30.0, "good": 33.1, "bad": 32.9},
        {"data": "a", "protocol": "P2", "metric": "thickness", "cubic": 50.0, "good": -9.9, "bad": 11.0},
        {"data": "a", "protocol": "P2", "metric": "thickness", "cubic": 3.0, "good": 1.9, "bad": -2.5},
        {"data": "a", "protocol": "P2", "metric": "fsc", "cubic": 0.4, "good": 0.47, "bad": 0.45},
        {"data": "a", "protocol": "P2", "metric": "fsc", "cubic": 0.6, "good": 0.6, "bad": 0.59},
        {"data": "a", "protocol": "P2", "metric": "voxels_beyond", "cubic": 0, "good": 0, "bad": 1},
        {"data": "a", "protocol": "P2", "metric": "mae", "cubic": 1.0, "good": 1.0, "bad": 9.0},
    ]
    good, bad = (list(judge(rows, name)) for name in ("good", "bad"))
    assert len(good) == len(bad) == 6
    assert all(v.reached for v in good) and not any(v.reached for v in bad)
    assert "6 of 6 reached" in goals_text(iter(good)) and "**no**" in goals_text(iter(bad))
    assert {goal.metric for goal in GOALS} <= set(LABELS)


@pytest.fixture
def model_file(tmp_path):
    torch.manual_seed(0)
    network = build_network("unetspsr", nf=4, nb=4, gc=2)
    card = ModelCard("tiny", replace(network.describe(), context=12), window=(0, 1000))
    return Model(network, card).save(tmp_path / "tiny.safetensors")


@pytest.fixture
def quickly(monkeypatch):
    """One small case, one protocol, three measures."""
    small = Case("phantom", np.clip(jaw_phantom((4, 32, 32), 0.5, 7), 0, 1), (0.5,) * 3)
    some = [m for m in grading.MEASURES if m.name in ("psnr", "consistency", "gradient_energy")]

    def grade(methods, folder):
        yield grade_case(small, {"cubic": cubic_method, **methods}, P2, measures=some)

    monkeypatch.setattr(grading, "grade", grade)
    monkeypatch.setattr(grading, "held_out_cases", lambda folder: iter([small]))


def test_one_command_gives_rows_tables_goals_a_picture_and_a_card(model_file, tmp_path, quickly, capsys):
    out, card = tmp_path / "Größen", tmp_path / "new.safetensors"
    arguments = [str(model_file), f"GAN phase={model_file}", "--device", "cpu", "--out", str(out)]
    assert grading.main([*arguments, "--into-card", str(card)]) == 0
    rows = json.loads((out / "rows.json").read_text())
    assert all(row["tiny"] == row["GAN phase"] for row in rows)
    assert as_markdown(rows) == (out / "tables.md").read_text().rstrip()
    assert "→" in (out / "summary.md").read_text() and "reached" in (out / "goals.md").read_text()
    assert set(read_card(card).results[0]) == {"data", "protocol", "metric", "cubic", "model", "GAN phase"}
    image = cv2.imdecode(np.fromfile(out / "picture.png", np.uint8), cv2.IMREAD_UNCHANGED)
    assert image.shape[1] == 5 * 192 + 4 * 4  # coarse, cubic, tiny, GAN phase, truth, and the gaps
    assert "| data | measure | cubic | tiny | GAN phase |" in capsys.readouterr().out


def test_two_models_of_one_name_and_a_missing_one_are_refused_in_words(model_file, tmp_path, capsys):
    assert grading.main([str(model_file), str(model_file), "--out", str(tmp_path)]) == 2
    assert "NAME=FILE" in capsys.readouterr().err
    assert grading.main(["no-such-model", "--out", str(tmp_path)]) == 4
    assert "no-such-model" in capsys.readouterr().err


def test_a_model_enlarges_as_its_network_does(model_file):
    model = Model.load(model_file)
    scan = np.random.default_rng(0).random((3, 20, 24), np.float32)
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(scan)[:, None])["sr"][:, 0].numpy()
    found = grading.model_method(model, "cpu")(scan, P2)
    np.testing.assert_allclose(found, np.clip(expected, found.min(), found.max()), atol=1e-5)


def test_the_detail_is_where_the_edges_are():
    image = np.zeros((64, 80), np.float32)
    image[40:50:2, 61:71] = 1
    rows, columns = liveliest(image, 16)
    assert rows.start <= 40 and rows.stop >= 50 and columns.start <= 61 and columns.stop >= 71
    assert rows.start % 2 == columns.start % 2 == 0
    assert [n.stop - n.start for n in liveliest(image[:11, :30], 16)] == [10, 16]


def test_canals_are_counted_over_all_jaws(monkeypatch):
    monkeypatch.setattr(grading, "canal_phantom", lambda seed: canal_phantom(seed, slices=4))
    found, false = grading.grade_canals({"cubic": cubic_method}, seeds=(901, 902))
    assert found["metric"] == "canals_found" and 0 <= found["cubic"] < 0.6
    assert false["metric"] == "canals_false" and false["cubic"] <= 5


def test_edges_noise_and_stability_are_measured_for_every_method(monkeypatch):
    blurred = {"cubic": cubic_method, "blurred": lambda s, p: gaussian_blur(cubic_method(s, p), 2.0, (1, 2))}
    inserts = grading.grade_inserts(blurred)
    assert all(row["blurred"] <= row["cubic"] for row in inserts if row["metric"] == "mtf50")
    (noise, _) = grading.grade_noise(blurred, 0.02)
    assert 0 < noise["blurred"] < noise["cubic"]
    monkeypatch.setattr(grading, "canal_phantom", lambda seed, **_: canal_phantom(seed, slices=2, edge=96))
    (unstable,) = grading.grade_stability(blurred)
    assert 0 < unstable["blurred"] < unstable["cubic"] < 1.2
