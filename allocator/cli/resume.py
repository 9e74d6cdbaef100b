# SPDX-License-Identifier: GPL-2.0-only
"""`numalab resume`: go on with a machine that was saved, as if it had never stopped.

FILE is what `numalab boot --save FILE` (or `machine.snapshot.save_snapshot`) wrote. The guest goes
on at the instruction it was stopped in front of: after a budget that was spent in the middle of its
work, after an exit behind the request to exit. Output that was shown before is not shown again.
--save keeps where it stops this time; it may name the same file.

WHAT to look at after the run: as for `numalab boot`.
"""

from __future__ import annotations

import argparse
import sys

from .boot import add_run_arguments, inspections, run_and_report
from .console import LiveConsole, Progress

HELP = "go on with a machine that was saved"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `numalab resume`."""
    parser.add_argument("file", metavar="FILE", help="a snapshot")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """`numalab resume`; the exit code."""
    wanted = inspections(args.inspect)
    progress = Progress(sys.stderr)
    console = LiveConsole(progress=progress)
    from machine.snapshot import load_snapshot

    from ..resume import resume

    guest = resume(load_snapshot(args.file))
    guest.machine.console.sink = guest.machine.serial.sink = console.write
    return run_and_report(args, guest, console, progress, wanted)
