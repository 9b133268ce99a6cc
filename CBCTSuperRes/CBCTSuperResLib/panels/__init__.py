"""What the two .ui files are bound to."""

from __future__ import annotations

import sys

LIBRARY = __package__.partition(".")[0]


def forgetLibrary() -> None:
    """Let the next import read the library's files again; Slicer reloads only the module file itself."""
    for name in [name for name in sys.modules if name.partition(".")[0] == LIBRARY]:
        del sys.modules[name]
