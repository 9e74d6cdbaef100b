# SPDX-License-Identifier: GPL-2.0-only
"""What is done with a machine after a run, whatever ran on it: keep it, look into it.

A failure of either costs a line of complaint and an exit code, not the rest of the report: how the
guest ended is still to be told."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from machine import Machine, NumalabError, OutputError

if TYPE_CHECKING:
    from .inspect_basic import Inspection


def save_guest(path: str | None, machine: Machine) -> int:
    """Keep `machine` in the file `path`, if there is one; the exit code."""
    if path is None:
        return 0
    from machine.snapshot import save_snapshot

    try:
        save_snapshot(machine, path)
    except NumalabError as error:
        print(f"numalab: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def inspect_guest(machine: Machine, wanted: list[Inspection]) -> int:
    """Print what was asked for; the exit code of the first that is not there. Raises `OutputError`
    when standard output takes no more."""
    code = 0
    for inspection in wanted:
        try:
            sys.stdout.write(inspection.render(machine))
            sys.stdout.flush()
        except OutputError:
            raise
        except NumalabError as error:
            print(f"numalab: {error}", file=sys.stderr)
            code = code or error.exit_code
    return code
