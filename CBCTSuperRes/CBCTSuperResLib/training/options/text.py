"""JSON with // comments, as UNetSPSR's option files have them; errors say where."""

from __future__ import annotations

import json
import re
from typing import Any

from ...errors import OptionError

# A string is matched first, and so keeps the slashes within it.
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*')


def without_comments(text: str) -> str:
    """Blank every // comment outside strings; each remaining character keeps its line and column."""
    return _STRING_OR_COMMENT.sub(lambda m: m[0] if m[0][0] == '"' else " " * len(m[0]), text)


def parse_json(text: str, where: str) -> Any:
    """Parse JSON with comments.

    Raises
    ------
    OptionError
        If it is broken or names a key twice; the message has line and column of `where`.
    """
    try:
        return json.loads(
            without_comments(text.removeprefix("\ufeff")), object_pairs_hook=_unique, parse_constant=_refuse
        )
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1].strip() if text.strip() else ""
        shown = f" ({line[:60]})" if line else ""
        raise OptionError(
            f"{where} is not valid JSON: {error.msg[:1].lower()}{error.msg[1:]} in line {error.lineno}, "
            f"column {error.colno}{shown}.",
            _advice(error),
        ) from None
    except _Refused as error:
        raise OptionError(f"{where}: {error}.") from None
    except RecursionError:
        raise OptionError(f"{where} is nested too deeply to be a file of options.") from None


class _Refused(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise _Refused(f"{', '.join(twice)} stands twice in the same block; keep one")
    return table


def _refuse(name: str) -> None:
    raise _Refused(f"{name} is no number")


def _advice(error: json.JSONDecodeError) -> str:
    if "escape" in error.msg.lower():
        return r'In JSON a backslash is written twice: "C:\\scans". A / works as well.'
    if "property name" in error.msg:
        return "Look for a comma after the last entry of a block."
    return "Look for a missing comma, quote or bracket at or before this place."
