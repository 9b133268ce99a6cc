"""`python Testing/faults --kills N --previews N`: see `faults`."""

import os
import sys
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path[0] = str(TESTING)
sys.path[1:1] = [str(TESTING / "support"), str(TESTING.parent / "CBCTSuperRes")]
for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(name, "1")

from faults.faults import main  # noqa: E402

sys.exit(main())
