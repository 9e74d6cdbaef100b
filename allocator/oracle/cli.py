# SPDX-License-Identifier: GPL-2.0-only
"""`numalab oracle`: this allocator against recordings of a real Linux 4.20.

Every recorded sequence under DIR (each folder with an index.json) is replayed: from the memory map
where the recording starts there, from its recorded state otherwise. One line a sequence says how
many operations it has, how many gave the same page frame, whether the events inside them and the
state at the end (every list in order, counters, pageblock types) are equal. Where something differs
the first difference follows, with both sides' events and the decision that led to it.

Exits with 0 if all is equal, 1 if something differs, 66 if DIR or a file in it cannot be read, 65
if a file is malformed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TextIO

from machine.errors import UsageError

from ..cli.engine_option import add_engine_argument
from .jobs import Job, Result, matches, open_pool, plan, run_job
from .records import find_recordings

HELP = "replay recordings of a real kernel and compare"
EXIT_DIFFERS = 1
MAX_LINES = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `numalab oracle`."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="folder tree of recordings")
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        help='sequences whose name contains this or matches it as a glob ("M2/late*", "run-07")',
    )
    parser.add_argument("--json", action="store_true", help="results as JSON on standard output")
    add_engine_argument(parser)
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        default=os.cpu_count() or 1,
        help="processes to use (default: one a CPU, here %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Replays everything asked for; the exit code.

    Raises InputError or ImageError for an unreadable or malformed DIR, UsageError for a pattern
    that matches nothing.
    """
    if args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: at least one process is needed")
    started = time.monotonic()
    jobs = plan(find_recordings(args.directory), args.only)
    if not jobs:
        raise UsageError(f"--only {args.only!r} matches no sequence in {args.directory}")
    results: list[Result] = []
    with open_pool(min(args.jobs, len(jobs))) as mapper:
        for batch in progress(jobs, mapper(run_job, jobs), sys.stderr):
            wanted = [r for r in batch if not r.ok or args.only is None or matches(r, args.only)]
            results.extend(wanted)
            if not args.json:
                for line in chain.from_iterable(map(result_lines, wanted)):
                    print(line, flush=True)
    seconds = time.monotonic() - started
    if args.json:
        print(
            json.dumps({"sequences": [r.as_json() for r in results], **totals(results)}, indent=1)
        )
    else:
        print(summary(results, seconds))
    return exit_code(results)


def exit_code(results: list[Result]) -> int:
    """An error's own code if there was one, 1 if something differs, else 0."""
    codes = [result.exit_code for result in results if result.error]
    if codes:
        return max(codes)
    return 0 if all(result.ok for result in results) else EXIT_DIFFERS


def progress(
    jobs: list[Job], batches: Iterable[list[Result]], stream: TextIO
) -> Iterator[list[Result]]:
    """The batches as they come, with a bar on `stream` if that is a terminal."""
    if not stream.isatty():
        yield from batches
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=Console(file=stream),
        transient=True,
        # printed lines go above the bar, if both are on the same terminal
        redirect_stdout=sys.stdout.isatty(),
    ) as bar:
        task = bar.add_task("replaying", total=len(jobs))
        for job, batch in zip(jobs, batches, strict=True):
            bar.update(task, advance=1, description=job.name)
            yield batch


def result_lines(result: Result) -> list[str]:
    """One line for a sequence, and what differs below it."""
    folder, _, sequence = result.name.partition(" ")
    head = f"{folder:<18} {sequence:<17}"
    if result.error:
        return [f"{head} {result.error}"]
    events = "events equal" if not result.problem else "events differ"
    middle = {
        "ops": f"{result.operations:>6,} ops  {result.equal:>6,} equal pfns  {events}",
        "events": f"{result.operations:>7,} events  {result.equal:>7,} equal",
        "lines": f"{result.operations:>7,} lines  {result.equal:>7,} equal",
        "stages": f"{result.operations:>6,} stages  {result.equal:>3,} equal",
    }[result.unit]
    final = f"final state {result.final}"
    notes = f"  ({'; '.join(result.notes)})" if result.notes else ""
    lines = [f"{head} {middle}  {final}{notes}"]
    if result.problem:
        lines.append(f"  first difference: {result.problem}")
    lines += [f"  {line}" for line in result.differences + result.details]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [f"  ... {len(lines) - MAX_LINES} more lines"]
    return lines


def totals(results: list[Result]) -> dict[str, int | bool]:
    """What all sequences come to."""
    return {
        "ok": all(result.ok for result in results),
        "runs": sum(result.unit == "ops" for result in results),
        "operations": sum(result.operations for result in results if result.unit == "ops"),
        "equal": sum(result.equal for result in results if result.unit == "ops"),
        "logs": sum(result.unit in ("events", "lines") for result in results),
        "log_events": sum(r.operations for r in results if r.unit in ("events", "lines")),
        "different": sum(not result.ok for result in results),
    }


def summary(results: list[Result], seconds: float) -> str:
    """The last line."""
    sums = totals(results)
    parts = []
    if sums["runs"]:
        parts.append(f"{sums['runs']:,} runs, {sums['operations']:,} operations")
    if sums["logs"]:
        parts.append(f"{sums['logs']:,} logs, {sums['log_events']:,} events")
    boots = sum(result.unit == "stages" for result in results)
    if boots:
        parts.append(f"{boots:,} bring-ups")
    verdict = "all equal" if sums["ok"] else f"{sums['different']:,} sequences differ"
    return f"{'; '.join(parts) or 'nothing'}: {verdict} ({seconds:.1f} s)"
