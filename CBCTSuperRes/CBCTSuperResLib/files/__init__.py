"""Scans on disk: `reading` knows every format that is read, `writing` every one that is written."""

from .disk import free_disk_bytes
from .reading import Probe, probe, read_volume
from .writing import check_output, write_volume

__all__ = ["Probe", "check_output", "free_disk_bytes", "probe", "read_volume", "write_volume"]
