# SPDX-License-Identifier: GPL-2.0-only
"""`numalab explain`: one allocation or free, told as the kernel decided it.

numalab explain [FILE] alloc --gfp GFP_KERNEL --order 3 --nid 1 [--nodemask 0,2-3] [--cpu N]
numalab explain [FILE] free --pfn N --order K [--cpu N]

FILE is a snapshot, or a boot script that is run to its end first, on the machine that --numa and
--append describe; without FILE the machine only boots its kernel. --whatif does it on a throw-away;
nothing that is done here is ever written back to FILE.
"""

from __future__ import annotations

import argparse
import sys

from machine import UsageError

from ..explain import explain_alloc, explain_free
from ..inspect.symbols import parse_number
from ..kernel import Kernel
from .show import dump_json
from .target import add_target_arguments, open_target, split_words

HELP = "tell why a request gets the page it gets"
WHAT = ("alloc", "free")


def _number(text: str) -> int:
    try:
        value = int(text.replace("_", ""), 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    group = parser.add_argument_group("request")
    group.add_argument("--gfp", metavar="MASK", default="GFP_KERNEL", help="gfp flags by name")
    group.add_argument(
        "--order", metavar="N", type=_number, default=0, help="2^N pages (default 0)"
    )
    group.add_argument(
        "--nid", metavar="N", type=_number, help="preferred node (default: the CPU's)"
    )
    group.add_argument("--nodemask", metavar="NODES", help="allowed nodes, as in 0,2-3 or 0xd")
    group.add_argument(
        "--cpu", metavar="N", type=_number, default=0, help="on this CPU (default 0)"
    )
    group.add_argument("--pfn", metavar="N", help="the frame to free")
    group.add_argument("--whatif", action="store_true", help="leave everything as it was")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `numalab explain`."""
    _add_options(parser)
    parser.add_argument(
        "words",
        metavar="[FILE] alloc|free",
        nargs=argparse.REMAINDER,
        help="what to do, and in what",
    )


def parse_nodemask(text: str) -> int:
    """Bits of a list of nodes ("0,2-3") or of a mask ("0xd"). Raises UsageError."""
    if text.lower().startswith("0x"):
        return parse_number(text)
    mask = 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            nodes = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            raise UsageError(f"--nodemask {text}: '{part}' is no node") from None
        if not nodes or nodes[0] < 0 or nodes[-1] > 63:
            raise UsageError(f"--nodemask {text}: '{part}' is not within 0-63")
        for nid in nodes:
            mask |= 1 << nid
    return mask


def run(args: argparse.Namespace) -> int:
    """`numalab explain`; the exit code."""
    words = split_words(args, _add_options)
    name = words.pop(0) if words and words[0] not in WHAT else None
    if len(words) != 1 or words[0] not in WHAT:
        raise UsageError("explain what? alloc or free")
    if words[0] == "free" and args.pfn is None:
        raise UsageError("explain free: which frame? --pfn N")
    mask = None if args.nodemask is None else parse_nodemask(args.nodemask)
    target = open_target(args, name)
    kernel = Kernel.attach(target.memory, target.machine)
    if words[0] == "alloc":
        story = explain_alloc(kernel, args.gfp, args.order, args.nid, mask, args.cpu, args.whatif)
    else:
        pfn = parse_number(args.pfn)
        story = explain_free(kernel, pfn, args.order, args.cpu, args.whatif)
    sys.stdout.write(dump_json(story.data) if args.json else story.text)
    return 0
