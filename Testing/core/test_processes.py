"""Processes that compute: what they are started with."""

from __future__ import annotations

import sys

import pytest
from CBCTSuperResLib.cli.child import run_in_child
from CBCTSuperResLib.core.processes import python_executable, start_in_own_group, with_large_pages

TELL = "import os, sys; open(sys.argv[1], 'w').write(os.environ.get('GLIBC_TUNABLES', ''))"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="large pages are asked for on Linux")
def test_what_computes_is_started_with_large_pages_and_with_what_the_user_chose(tmp_path, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    told, chosen = tmp_path / "told", "glibc.malloc.check=0:glibc.malloc.hugetlb=1"
    command = [python_executable(), "-c", TELL, str(told)]
    assert start_in_own_group(command, tmp_path / "log").wait() == 0
    assert told.read_text() == chosen
    told.unlink()
    assert run_in_child(command[-1:], command[:-1]) == 0
    assert told.read_text() == chosen
    own = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0", "PATH": "p"}
    assert with_large_pages(own) == own
