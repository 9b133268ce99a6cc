"""What all tests share: the library on the path, one thread, one hypothesis profile, and the optional shared data."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT / "Testing", ROOT / "CBCTSuperRes"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(name, "1")

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # tests that need hypothesis say so themselves
    pass
else:
    settings.register_profile(
        "project",
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=40,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    settings.load_profile("project")


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread():
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder shared/data beside the repository, or beside one of the folders above it."""
    for folder in ROOT.parents:
        if (folder / "shared" / "data").is_dir():
            return folder / "shared" / "data"
    pytest.skip("the real scans are not here: there is no folder shared/data beside the repository")
