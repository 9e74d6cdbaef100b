# SPDX-License-Identifier: GPL-2.0-only
"""`numalab bench`: how fast the allocator is, as CSV.

WHAT is any of bulk repeat rand frag (LLFree's shapes, by order and number of CPUs, with half of
memory divided among the CPUs), threads (two of them on CPUs side by side, compiled code only),
hypercalls (requests per second from guest code; of several CPUs by turns and in threads), and scale
(time to the first page by machine size, the memory that this takes on the host, and the check by
frames). Without WHAT all are run.

Every figure has the least, the median and the largest of its runs. Compare figures of one run only:
another machine, or another hour, has other ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from machine import UsageError

if TYPE_CHECKING:
    from ..bench.rows import Row
    from ..engine import Engine

HELP = "time the allocator: LLFree's shapes, hypercalls, bring-up, checking"
WHAT = ("bulk", "repeat", "rand", "frag", "threads", "hypercalls", "scale")
DEFAULT_NUMA = "2x256M,cpus=2"
MAX_RUNS = 1000


def _numbers(text: str) -> list[int]:
    """0,3,9 or 0-10. Raises ArgumentTypeError."""
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            numbers.extend(range(int(first), int(last) + 1) if dash else [int(first)])
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers (0,3 or 0-10)") from None
    if not numbers or not all(0 <= number <= 256 for number in numbers):
        raise argparse.ArgumentTypeError(f"'{text}' has no numbers between 0 and 256")
    return numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `numalab bench`."""
    parser.add_argument("what", metavar="WHAT", nargs="*", help=" ".join(WHAT))
    parser.add_argument(
        "--numa",
        metavar="SPEC",
        action="append",
        help=f"the machine that the shapes run on, as for boot (default: {DEFAULT_NUMA})",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "python", "compiled", "both"),
        default="auto",
        help="the hot path interpreted, compiled (needs numba), or both in one run (default: auto)",
    )
    parser.add_argument(
        "--orders", metavar="LIST", type=_numbers, default=[0, 3, 9, 10], help="as in 0,3 or 0-10"
    )
    parser.add_argument(
        "--cpus", metavar="LIST", type=_numbers, default=[1, 2, 4], help="how many vCPUs"
    )
    parser.add_argument(
        "--sizes", metavar="SPEC", action="append", help="machines for scale, in place of ours"
    )
    parser.add_argument("--runs", metavar="N", type=int, default=3, help="default: 3")
    parser.add_argument("--csv", metavar="FILE", help="the figures here, not on standard output")
    parser.add_argument("--plot", metavar="FILE.png", help="a picture of the shapes (matplotlib)")


def run(args: argparse.Namespace) -> int:
    """`numalab bench`; the exit code."""
    from machine.outfile import check_writable, replacing

    from ..bench.rows import to_csv

    unknown = [word for word in args.what if word not in WHAT]
    if unknown:
        raise UsageError(f"{unknown[0]!r}: one of {' '.join(WHAT)}")
    if not 1 <= args.runs <= MAX_RUNS:
        raise UsageError(f"--runs {args.runs} is not between 1 and {MAX_RUNS}")
    if args.plot is not None:
        _need_matplotlib()
    for path in filter(None, (args.csv, args.plot)):
        check_writable(path)
    rows = list(measure(args, _progress))
    _progress("")
    text = to_csv(rows)
    if args.csv is None:
        sys.stdout.write(text)
    else:
        with replacing(args.csv) as file:
            file.write(text.encode())
    if args.plot is not None:
        from ..bench.plot import plot_png

        picture = plot_png(rows)
        with replacing(args.plot) as file:
            file.write(picture)
    return 0


def measure(args: argparse.Namespace, progress: Callable[[str], None]) -> Iterator[Row]:
    """All rows that were asked for; `progress` is told what is being timed."""
    from ..bench import shapes

    what = args.what or list(WHAT)
    specs = args.numa or [DEFAULT_NUMA]
    wanted = [shape for shape in shapes.SHAPES if shape in what]
    for engine in _engines(args.engine):
        for cpus in args.cpus if wanted else ():
            for order in args.orders:
                for shape in wanted:
                    progress(f"{shape}, order {order}, {cpus} CPUs, {engine.name}")
                    yield from shapes.Bench(specs, engine, cpus).run(shape, order, args.runs)
        if "threads" in what and engine.name == "compiled":
            from ..bench.threads import thread_rows

            for threads in args.cpus:
                for order in args.orders:
                    progress(f"threads, order {order}, {threads} CPUs")
                    yield from thread_rows(specs, engine, order, threads, args.runs)
        if "hypercalls" in what:
            from ..bench.guest import SIDE_BY_SIDE, hypercall_rate, side_by_side_rates

            progress(f"hypercalls, {engine.name}")
            yield from hypercall_rate(engine, args.runs)
            for cpus in SIDE_BY_SIDE if engine.name == "compiled" else ():
                progress(f"hypercalls of {cpus} CPUs, {engine.name}")
                yield from side_by_side_rates(engine, args.runs, cpus)
    if "scale" in what:
        from ..bench.scale import SIZES, bring_up_rows

        for size in args.sizes or SIZES:
            progress(f"bring-up of {size}")
            yield from bring_up_rows(size, args.runs)


def _engines(choice: str) -> list[Engine]:
    from ..engine import compiled_available, load_engine

    if choice != "both":
        return [load_engine(choice)]
    return [
        load_engine(name)
        for name in ("python", "compiled")
        if name == "python" or compiled_available()
    ]


def _need_matplotlib() -> None:
    from importlib import util

    if util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'numalab[plot]'")


def _progress(what: str) -> None:
    """What is being timed, on a terminal's standard error alone."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write("\r" + what.ljust(60) + ("" if what else "\r"))
        sys.stderr.flush()
