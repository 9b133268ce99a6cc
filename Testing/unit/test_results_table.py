"""The committed command that measures models: its rows, its table, and the card it fills."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from CBCTSuperResLib.card import ModelCard, read_card
from CBCTSuperResLib.evaluation import table
from CBCTSuperResLib.evaluation.compare import Case
from CBCTSuperResLib.evaluation.gallery import liveliest
from CBCTSuperResLib.evaluation.phantom import jaw_phantom
from CBCTSuperResLib.model import Model
from CBCTSuperResLib.networks import build_network


@pytest.fixture
def model_file(tmp_path):
    torch.manual_seed(0)
    network = build_network("unetspsr", nf=4, nb=4, gc=2)
    card = ModelCard("tiny", replace(network.describe(), halo=12), window=(0, 1000))
    return Model(network, card).save(tmp_path / "tiny.safetensors")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    case = Case("phantom", np.clip(jaw_phantom((2, 32, 32), 0.5, 7), 0, 1), (0.5,) * 3)
    monkeypatch.setattr(table, "held_out_cases", lambda public_data: iter([case]))
    monkeypatch.setattr("CBCTSuperResLib.evaluation.trust.SEEDS", range(1))


def test_one_command_gives_rows_a_table_and_a_card(model_file, tmp_path, capsys):
    rows, card = tmp_path / "rows.json", tmp_path / "new.safetensors"
    assert table.main([str(model_file), "--device", "cpu", "--json", str(rows), "--into-card", str(card)]) == 0
    written = json.loads(rows.read_text())
    assert {"data", "metric", "cubic", "tiny"} == set(written[0])
    assert {row["data"] for row in written} >= {"flat tissue, noise 2 %", "flat tissue, noise 6 %"}
    results = read_card(card).results
    assert [row["model"] for row in results] == [row["tiny"] for row in written]
    assert "| data | measure | cubic | tiny |" in capsys.readouterr().out


def test_the_picture_shows_every_method_beside_coarse_image_and_truth(model_file, tmp_path):
    picture = tmp_path / "Bild mit ä.png"
    assert table.main([str(model_file), "--device", "cpu", "--picture", str(picture)]) == 0
    image = cv2.imdecode(np.fromfile(picture, np.uint8), cv2.IMREAD_UNCHANGED)
    panel = 192
    assert image.shape[1] == 4 * panel + 3 * 4  # coarse, cubic, tiny, truth, and the gaps
    assert image[30:200, -panel:].std() > 10


def test_another_model_gets_a_column_of_the_name_it_is_given(model_file, tmp_path):
    rows, card = tmp_path / "rows.json", tmp_path / "new.safetensors"
    arguments = [str(model_file), f"GAN phase={model_file}", "--device", "cpu"]
    assert table.main([*arguments, "--json", str(rows), "--into-card", str(card)]) == 0
    row = json.loads(rows.read_text())[0]
    assert row["tiny"] == row["GAN phase"]
    assert set(read_card(card).results[0]) == {"data", "metric", "cubic", "model", "GAN phase"}


def test_two_models_of_one_name_are_refused(model_file, capsys):
    assert table.main([str(model_file), str(model_file)]) == 2
    assert "NAME=FILE" in capsys.readouterr().err


def test_a_missing_model_is_an_error_in_words(capsys):
    assert table.main(["no-such-model"]) == 4
    assert "no-such-model" in capsys.readouterr().err


def test_the_model_enlarges_as_apply_does(model_file):
    model = Model.load(model_file)
    scan = np.random.default_rng(0).random((3, 20, 24), np.float32)
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(scan)[:, None])["sr"][:, 0].numpy()
    np.testing.assert_allclose(table.enlarger(model, "cpu")(scan), expected, atol=1e-5)


def test_the_detail_is_where_the_edges_are():
    image = np.zeros((64, 80), np.float32)
    image[40:50:2, 61:71] = 1
    rows, columns = liveliest(image, 16)
    assert rows.start <= 40 and rows.stop >= 50 and columns.start <= 61 and columns.stop >= 71
    assert rows.start % 2 == columns.start % 2 == 0
    assert [n.stop - n.start for n in liveliest(image[:11, :30], 16)] == [10, 16]


def test_held_out_cases_leave_out_what_was_trained_on(shared_data, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(table, "held_out_phantoms", lambda: iter([]))
    cases = list(table.held_out_cases(shared_data))
    assert [case.truth.shape[0] for case in cases] == [161, 60, 30, 15]
    assert all(case.truth.min() == 0 and case.truth.max() <= 1 for case in cases)
