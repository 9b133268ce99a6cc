"""Blank regions: found by `find`, described by `region`, filled for the network by `fill` (with OpenCV)."""

from .find import find_blanks
from .region import BlankRegion

__all__ = ["BlankRegion", "find_blanks"]
