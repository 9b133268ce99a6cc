"""Errors of the library as a panel tells them: its advice may name options that only a terminal has."""

from __future__ import annotations

import re

from slicer.i18n import tr as _

from ..core.errors import SuperResError


def errorText(error: SuperResError) -> str:
    """What is wrong and what to do about it, in a panel's words.

    >>> errorText(ResourceError("The disk is full.", "Free some space and go on with --resume auto."))
    'The disk is full. Free some space and resume the run.'
    """
    text = str(error)
    for pattern, words in (
        (r"Go on with --resume auto", _("Resume the run")),
        (r"go on with --resume auto", _("resume the run")),
        (r", or --resume auto|, without --resume| with --accept-changes", ""),
        (r"in the file or with --spacing", _("in the file or in the module Volumes")),
        (r", for instance --spacing[ \d.]*\d", ""),
        (r"--device cpu(, or set gpu_ids to \[\] in the options)?", _("the processor as device")),
        (r"Give --patient-\w+\.", _("Enter it.")),
        (r"Leave out --patient-\w+\.", _("Leave it empty.")),
        (r" \((or with )?--[^)]*\)", ""),
    ):
        text = re.sub(pattern, words, text)
    return text
