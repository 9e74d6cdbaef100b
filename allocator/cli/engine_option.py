# SPDX-License-Identifier: GPL-2.0-only
"""`--engine`: what runs the allocator's hot path, for every command that runs it.

A command declares the option with `add_engine_argument`; `main` lets the engine serve the process
while the command runs. The default is the interpreter where loading compiled code (0.1 s, and once
in a while a compilation) would cost more than it saves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

CHOICES = ("auto", "python", "compiled")


def add_engine_argument(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, default: str = "python"
) -> None:
    """Declares `--engine`."""
    parser.add_argument(
        "--engine",
        dest="process_engine",
        choices=CHOICES,
        default=default,
        help="the allocator interpreted, compiled (needs numba), or auto: compiled where numba is"
        f" installed (default: {default})",
    )


@contextmanager
def chosen_engine(args: argparse.Namespace) -> Iterator[None]:
    """The engine that `args` ask for serves the process inside. Raises what load_engine raises."""
    choice = getattr(args, "process_engine", "python")
    if choice == "python":
        yield
        return
    from ..engine import install_engine, load_engine

    undo = install_engine(load_engine(choice))
    try:
        yield
    finally:
        undo()
