"""Many scans: the command `cbct-superres batch` as a script for Slicer, PythonSlicer and any Python.

Slicer --no-splash --no-main-window --python-script batch.py -- --input A.nrrd --output B.nrrd
python batch.py --input SCANS --output-folder RESULTS --skip-existing
python -m CBCTSuperResLib.batch --input "SCANS/*.nrrd" --output-folder RESULTS
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file: the library is found by its folder, not by this one
    library = Path(__file__).resolve().parent
    sys.path[:] = [str(library.parent), *(p for p in sys.path if Path(p).resolve() != library)]

from CBCTSuperResLib.cli.batch import main

if __name__ == "__main__":
    sys.exit(main())
