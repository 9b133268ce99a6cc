"""What the commands of the terminal share: how one is declared, arguments of several, and the progress bar."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import NoReturn

from .. import NOTICE

ONE_OR_THREE = ("--scale", "--output-spacing", "--scanner-blur")


def add_command(commands, name: str, text: str, run: Callable | None = None) -> argparse.ArgumentParser:
    """Declare a command; `run` gets its parsed arguments."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=NOTICE)
    if run:
        parser.set_defaults(run=run)
    return parser


class Parser(argparse.ArgumentParser):
    """A parser that takes `--scale 1 1 3.3` as well as `--scale 1,1,3.3`, and `--scale 2`; see `with_triples`.

    What it parsed is kept as `words` beside the arguments. Options are written out: scripts repeat them.
    """

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, allow_abbrev=False, **options)

    def parse_args(self, args: Sequence[str] | None = None, namespace=None) -> argparse.Namespace:
        self._words = list(sys.argv[1:] if args is None else args)
        parsed = super().parse_args(self._words, namespace)
        parsed.words = self._words
        return parsed

    def error(self, message: str) -> NoReturn:
        """As of any parser; that it found too many words is said of the numbers that they are."""
        super().error(_other_than_one_or_three(getattr(self, "_words", [])) or message)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace=None) -> tuple[argparse.Namespace, list]:
        return super().parse_known_args(with_triples(sys.argv[1:] if args is None else args), namespace)


def with_triples(arguments: Sequence[str]) -> list[str]:
    """A command line in which three numbers after an option that takes one or three are one argument, with commas.

    argparse would take as many as there are, and the names of files with them.
    """
    joined, rest = [], list(arguments)
    while rest:
        joined.append(rest.pop(0))
        if joined[-1] in ONE_OR_THREE and len([*takewhile(_is_number, rest[:3])]) == 3:
            joined.append(",".join(rest[:3]))
            del rest[:3]
    return joined


def _other_than_one_or_three(arguments: Sequence[str]) -> str:
    """What is wrong where an option that takes one number or three has others; "" where none has."""
    for place, option in enumerate(arguments):
        numbers = [*takewhile(_is_number, arguments[place + 1 :])] if option in ONE_OR_THREE else []
        if len(numbers) == 2 or len(numbers) > 3:
            many = f"{option} {' '.join(numbers)} are {len(numbers)} numbers"
            return f"{many}: give one, for all axes, or three, along i, j and k, as in {option} 1 1 2.5"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def blank_value(text: str) -> str | float:
    """What an argument says of the blank region: "auto", "none" or a grey value."""
    if text in ("auto", "none"):
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is neither "auto", "none" nor a grey value') from None


class Progress:
    """A progress bar with the remaining time in the terminal; nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        from tqdm import tqdm

        layout = "{l_bar}{bar}| {elapsed} so far, {remaining} to go {postfix}"
        pause = 0.2 if sys.stderr.isatty() else 2.0
        self._bar = tqdm(total=1.0, bar_format=layout, mininterval=pause, disable=quiet, leave=False, file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line above the bar; nothing when quiet."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def __call__(self, fraction: float, message: str) -> None:
        self._bar.set_postfix_str(message, refresh=False)
        self._bar.update(max(0.0, fraction - self._bar.n))
