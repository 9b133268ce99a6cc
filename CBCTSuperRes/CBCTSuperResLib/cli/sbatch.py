"""Slurm scripts (`--print-sbatch`): what a command was asked to do, done by jobs; printed, never submitted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

OPTION = "--print-sbatch"


def words_for_a_job(words: Sequence[str], without: Sequence[str] = ()) -> str:
    """A command line as it was given, quoted, without `OPTION` and other options that take one value each."""
    left_out, given, kept = (OPTION, *without), list(words), []
    while given:
        word = given.pop(0)
        if word in left_out:
            given.pop(0)
        elif not word.startswith(tuple(f"{option}=" for option in left_out)):
            kept.append(word)
    return shlex.join(kept)


def slurm_script(directives: Sequence[str], commands: Sequence[str]) -> str:
    """A script for sbatch.

    Parameters
    ----------
    directives : sequence of str
        Such as "--nodes=2", or a comment.
    commands : sequence of str
        In bash.
    """
    lines = [text if text.startswith("#") else f"#SBATCH {text}" for text in directives]
    return "\n".join(["#!/bin/bash", "#SBATCH --job-name=cbct-superres", *lines, *commands]) + "\n"
