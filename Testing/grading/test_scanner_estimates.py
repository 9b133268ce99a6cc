"""The command that measures the estimates of blur and noise."""

from __future__ import annotations

import pytest

from grading import scanner_estimates
from grading.cases import Case


def test_errors_are_those_of_what_was_found_and_sure_ones_are_told_apart():
    rows = [
        {"blur": 1.0, "found_blur": [1.1, None], "is_sure": [True, False], "noise": 0.02, "found_noise": 0.021},
        {"blur": 2.0, "found_blur": [2.5, 2.1], "is_sure": [False, True], "noise": 0.0, "found_noise": 0.001},
    ]
    found = scanner_estimates.summary(rows)
    assert (found["estimates"], found["of"], found["sure"]) == (3, 4, 2)
    assert found["error"][0] == pytest.approx(0.1) and found["error_of_sure"] == pytest.approx([0.1, 0.1])
    assert found["noise_error"][0] == pytest.approx(0.05)


def test_a_drawn_jaw_is_measured_through_the_command(capsys, monkeypatch):
    case = next(scanner_estimates.objects(None, (40, 128, 128)))
    monkeypatch.setattr(scanner_estimates, "objects", lambda *_: iter([Case("a jaw", case.truth, case.spacing_mm)]))
    monkeypatch.setattr(scanner_estimates, "BLURS", (0.4, 1.0, 1.6))
    monkeypatch.setattr(scanner_estimates, "NOISES", (0.02,))
    assert scanner_estimates.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a jaw") and "blur 1.00 ->" in lines[0] and lines[-1].startswith("all: ")
