# SPDX-License-Identifier: GPL-2.0-only
"""`numalab inspect`: look inside a guest with the kernel's own files and crash's commands.

numalab inspect [FILE] WHAT [ARGUMENTS] [--json]

FILE is a snapshot, or a boot script that is run to its end first, on the machine that --numa and
--append describe; without FILE the machine only boots its kernel. On a terminal tables are shown,
elsewhere the kernel's exact text; --json is for programs. kpageflags and kpagecount are binary:
send them to a file (page-types -F FILE -a 0,FRAMES reads it). The exit code is 1 when what was
looked at contradicts itself.

ADDRESS is physical, of the direct map or of vmemmap, or pfn:N, page:N (its struct page), node:N,
N:ZONE as in 0:DMA32.
"""

from __future__ import annotations

import argparse

from machine import UsageError

from ..inspect import INSPECTORS, inspect
from ..scripts import find_script
from .show import show
from .target import add_target_arguments, open_target, split_words

HELP = "look inside a snapshot, or at a machine after a script"

WITHOUT_KERNEL = ("vtop", "rd", "search")
"""What can be seen on a machine without page allocator, too."""


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument("--output", "-o", metavar="FILE", help="write to this file")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `numalab inspect`."""
    _add_options(parser)
    width = max(len(name) for name in INSPECTORS)
    lines = [
        f"  {name:<{width}} {inspector.help}"
        + (f"\n{'':{width + 3}}{inspector.args}" * bool(inspector.args))
        for name, inspector in INSPECTORS.items()
    ]
    parser.epilog = "WHAT:\n" + "\n".join(lines) + "\n\n" + (parser.epilog or "")
    parser.add_argument(
        "words",
        metavar="[FILE] WHAT [ARGUMENTS]",
        nargs=argparse.REMAINDER,
        help="what to look at, and in what",
    )


def run(args: argparse.Namespace) -> int:
    """`numalab inspect`; the exit code."""
    words = split_words(args, _add_options)
    name = None
    if words and words[0] not in INSPECTORS:
        name = words.pop(0)
    if not words and name is not None and not find_script(name).exists():
        words = [name]
    if not words:
        raise UsageError(f"inspect what? One of {', '.join(INSPECTORS)}")
    if words[0] not in INSPECTORS:
        raise UsageError(f"cannot inspect '{words[0]}': one of {', '.join(INSPECTORS)}")
    target = open_target(args, name)
    if words[0] not in WITHOUT_KERNEL:
        target.need_kernel(words[0])
    report = inspect(target.memory, words[0], words[1:])
    show(report, as_json=args.json, as_text=args.text, output=args.output)
    return 0 if report.sound else 1
