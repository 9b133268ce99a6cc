"""`python Testing/grading MODEL ... --out FOLDER`: see `grading`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from grading.grading import main  # noqa: E402

sys.exit(main())
