# SPDX-License-Identifier: GPL-2.0-only
"""`numalab resume`: go on with a machine that was saved, as if it had never stopped.

FILE is what `numalab boot --save FILE` (or `machine.snapshot.save_snapshot`) wrote. The guest goes
on at the instruction it was stopped in front of: after a budget that was spent in the middle of its
work, after an exit behind the request to exit. Output that was shown before is not shown again.
--save keeps where it stops this time; it may name the same file.

A PC with a guest of its own goes on, too. WHAT to look at after the run: as for `numalab boot`.
"""

from __future__ import annotations

import argparse
import sys

from .boot import add_run_arguments, inspections, run_and_report
from .boot_options import add_look_arguments
from .console import LiveConsole, Progress

HELP = "go on with a machine that was saved"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `numalab resume`."""
    parser.add_argument("file", metavar="FILE", help="a snapshot")
    add_run_arguments(parser)
    add_look_arguments(parser.add_argument_group("a PC"))


def run(args: argparse.Namespace) -> int:
    """`numalab resume`; the exit code."""
    wanted = inspections(args.inspect)
    from machine.snapshot import load_snapshot

    machine = load_snapshot(args.file)
    if machine.pc.bios.notes:
        from ..pc_boot import resume_pc
        from .boot_pc import run_and_report as run_pc_and_report

        pc = resume_pc(machine)
        if pc is not None:
            return run_pc_and_report(args, pc, wanted)
    progress = Progress(sys.stderr)
    console = LiveConsole(progress=progress)
    from ..resume import resume

    guest = resume(machine)
    guest.machine.console.sink = guest.machine.serial.sink = console.write
    return run_and_report(args, guest, console, progress, wanted)
