"""The tests that run in the real application ("Reload and Test") run on the stand-in, too."""

from __future__ import annotations

import pytest
from CBCTSuperResLib.panels import selftest
from slicer_code import MODULES, ROOT

pytestmark = pytest.mark.usefixtures("application", "nothing_fails_unseen")


@pytest.fixture(params=MODULES)
def case(application, scene, request):
    module = application.loadModule(str(ROOT / request.param / f"{request.param}.py"))
    return getattr(module, f"{request.param}Test")()


def outcomes(case, capsys) -> dict[str, str]:
    """What each test came to: "passed" or "skipped"."""
    case.runTest()
    lines = [line.split(": ") for line in capsys.readouterr().out.splitlines()]
    return {line[1]: line[0] for line in lines if line[0] in ("passed", "skipped")}


def test_all_of_them_pass(case, capsys):
    pytest.importorskip("torch", reason="torch is not installed")
    came_to = outcomes(case, capsys)
    assert len(came_to) == len([name for name in dir(case) if name.startswith("test_")]) >= 5
    assert set(came_to.values()) == {"passed"}


def test_without_packages_and_main_window_the_rest_passes(case, capsys, application, monkeypatch):
    import slicer

    monkeypatch.setattr(selftest, "missing_packages", lambda: ["torch>=2.3"])
    monkeypatch.setattr(slicer.app, "hasMainWindow", False)
    came_to = list(outcomes(case, capsys).values())
    assert "skipped" in came_to and came_to.count("passed") >= 3
