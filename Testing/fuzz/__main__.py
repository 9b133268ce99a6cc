"""`python Testing/fuzz --headers N --reads N --out FOLDER`: see `campaign`."""

import sys
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path[0] = str(TESTING)
sys.path[1:1] = [str(TESTING / "support"), str(TESTING.parent / "CBCTSuperRes")]

from fuzz.campaign import main  # noqa: E402

sys.exit(main())
