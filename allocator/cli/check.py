# SPDX-License-Identifier: GPL-2.0-only
"""`numalab check`: is every frame in exactly one legal state, and does every view agree?

FILE is a snapshot, or a boot script that is run to its end first, on the machine that --numa and
--append describe; without FILE the machine only boots its kernel. A sound machine is one line. A
finding names what it is about, the rule in words, and the bytes. The exit code is 0 when all is
sound, 1 when there are findings; --rules lists what is tested.
"""

from __future__ import annotations

import argparse

from .show import dump_json

HELP = "check every frame of a snapshot, or of a machine after a script"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `numalab check`."""
    from .target import add_target_arguments

    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="snapshot, boot script, ELF file or flat binary"
    )
    add_target_arguments(parser)
    parser.add_argument("--rules", action="store_true", help="list the rules and check nothing")


def run(args: argparse.Namespace) -> int:
    """`numalab check`; the exit code."""
    from ..check import check_frames, rules
    from .target import open_target

    if args.rules:
        width = max(map(len, rules()))
        lines = [f"{name:<{width}}  {text}" for name, text in rules().items()]
        print(dump_json(rules()) if args.json else "\n".join(lines))
        return 0
    target = open_target(args, args.file)
    target.need_kernel("check")
    report = check_frames(target.memory)
    print(dump_json(report.as_json()) if args.json else report, end="" if args.json else "\n")
    return 0 if report.sound else 1
