# SPDX-License-Identifier: GPL-2.0-only
"""Recordings cut into jobs, and jobs spread over processes.

A job is what can be replayed by itself: all early RUNs of a folder (each goes on where the one
before ended), one late RUN, one log, one ftrace text. `plan` makes the list, `run_job` does one
and returns a `Result` a sequence, `open_pool` gives the parallel `map` to do them with. Jobs and
results are plain data, so that they can cross process borders; an error of ours crosses as its
text and exit code.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from machine.errors import ImageError, NumalabError

from ..mmzone import NR_FREE_PAGES, NR_VM_ZONE_STAT_ITEMS, NR_ZONE_WRITE_PENDING
from .boot_compare import bring_up
from .compact_replay import Cuts, compound_cuts, prepare
from .contig_replay import lru_was_drained, waiting_for_lru
from .decision import explain
from .ftrace_replay import replay_ftrace
from .guest import Guest
from .records import Json, Recording, RunRef
from .replay import Replayer, Tally, run_operations
from .state_compare import compare_state
from .state_load import load_state
from .trace_replay import replay_trace

ALL_ITEMS = range(NR_VM_ZONE_STAT_ITEMS)
# counters of LRU pages move when pagevecs are drained, by what no operation says
CUT_PASSES = 3
"""How often a RUN with compaction is run to learn where compound pages end."""
NOT_LRU_ITEMS = (NR_FREE_PAGES, *range(NR_ZONE_WRITE_PENDING, NR_VM_ZONE_STAT_ITEMS))


@dataclass(frozen=True)
class Job:
    """One unit of work: `kind` is early, boot, late, trace or ftrace; `what` the run or file."""

    recording: Recording
    kind: str
    name: str
    what: RunRef | str | None = None


@dataclass
class Result:
    """What comparing one sequence came to. `final` is equal, differs, not reached or not recorded.

    `differences` are lines about STATEs, `details` lines about the first operation that differed;
    `cleaned` counts the equal operations of the clean-up behind the AFTER STATE.
    """

    name: str
    kind: str = ""
    operations: int = 0
    equal: int = 0
    cleaned: int = 0
    events: int = 0
    unit: str = "ops"
    final: str = "not recorded"
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    error: str = ""
    exit_code: int = 0

    @property
    def ok(self) -> bool:
        """True if everything that was compared is equal."""
        return not (self.problem or self.differences or self.error)

    def as_json(self) -> dict[str, Any]:
        """The result for programs."""
        return asdict(self) | {"ok": self.ok}


def plan(recordings: list[Recording], pattern: str | None = None) -> list[Job]:
    """The jobs for these recordings whose name matches `pattern` (a glob, or part of the name)."""
    jobs: list[Job] = []
    for recording in recordings:
        jobs.extend(plan_recording(recording))
    return [job for job in jobs if pattern is None or job_matches(job, pattern)]


def job_matches(job: Job, pattern: str) -> bool:
    """True if the job is, or holds, a sequence that the pattern asks for."""
    names = [job.name]
    if job.kind == "early":
        names += [f"{job.recording.name} {run_name(ref)}" for ref in job.recording.runs]
    return any(name_matches(name, pattern) for name in names)


def matches(result: Result, pattern: str) -> bool:
    """True if the pattern asks for this sequence."""
    return name_matches(result.name, pattern)


def name_matches(name: str, pattern: str) -> bool:
    """True if the pattern is part of "M2/late run-07 zones" (or with `/`), or a glob for it.

    A glob may also fit the folder alone.
    """
    forms = (name, name.replace(" ", "/", 1), name.split(" ", 1)[0])
    return any(pattern in form or fnmatchcase(form, pattern) for form in forms)


def run_name(ref: RunRef) -> str:
    """How a RUN is called: run-07 zones."""
    return f"run-{ref.run:02d} {ref.kind}"


def plan_recording(recording: Recording) -> Iterator[Job]:
    """The jobs of one folder."""
    name = recording.name
    if recording.starts_at_map:
        yield Job(recording, "early", name)
    else:
        if recording.has_state("early0") and recording.has_state("early1") and not recording.traces:
            yield Job(recording, "boot", f"{name} boot")
        for ref in sorted(recording.runs, key=lambda ref: ref.run):
            yield Job(recording, "late", f"{name} {run_name(ref)}", ref)
    for file in recording.traces:
        yield Job(recording, "trace", f"{name} {file.split('.')[0]}", file)
    if recording.ftrace:
        yield Job(recording, "ftrace", f"{name} ftrace", recording.ftrace)


def run_job(job: Job) -> list[Result]:
    """Replays one job. Errors of ours become the last result."""
    results: list[Result] = []
    try:
        for result in replay_job(job):
            results.append(result)
    except NumalabError as error:
        code = error.exit_code
        where = f"{job.recording.path}: {error}" if isinstance(error, ImageError) else str(error)
        if str(job.recording.path) in str(error):
            where = str(error)
        results.append(Result(job.name, job.kind, error=where, exit_code=code))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError) as error:
        where = f"{job.recording.path}: malformed recording: {type(error).__name__}: {error}"
        results.append(Result(job.name, job.kind, error=where, exit_code=ImageError.exit_code))
    return results


def replay_job(job: Job) -> Iterator[Result]:
    """The results of one job, one a sequence."""
    if job.kind == "early":
        yield from replay_early(job.recording)
    elif job.kind == "boot":
        yield replay_boot(job.recording)[0]
    elif job.kind == "late":
        assert isinstance(job.what, RunRef)
        yield replay_late(job.recording, job.what)
    elif job.kind == "trace":
        yield trace_result(job)
    else:
        yield ftrace_result(job)


def trace_result(job: Job) -> Result:
    """Replays a log."""
    outcome = replay_trace(job.recording, str(job.what))
    return Result(
        job.name,
        "trace",
        operations=outcome.operations,
        equal=outcome.equal,
        events=outcome.events,
        unit="events",
        final=outcome.final,
        problem=outcome.problem,
        notes=outcome.notes,
        differences=outcome.differences,
        details=outcome.details,
    )


def ftrace_result(job: Job) -> Result:
    """Checks an ftrace text."""
    outcome = replay_ftrace(job.recording, str(job.what))
    return Result(
        job.name,
        "ftrace",
        operations=outcome.lines,
        equal=outcome.equal,
        events=outcome.lines,
        unit="lines",
        final=outcome.final if not outcome.problem else "not reached",
        problem=outcome.problem,
        notes=outcome.notes,
    )


def replay_boot(recording: Recording) -> tuple[Result, Guest]:
    """Our bring-up on the recording's map against early0 and early1."""
    result = Result(f"{recording.name} boot", "boot", unit="stages")
    guest = None
    for guest, _, stage, differences in bring_up(recording):  # noqa: B007
        result.operations += 1
        result.differences += [f"{stage}: {line}" for line in differences]
        result.equal += not differences
    assert guest is not None
    result.final = "differs" if result.differences else "equal"
    return result, guest


def replay_early(recording: Recording) -> Iterator[Result]:
    """The bring-up and then every early RUN, each from where the last one ended.

    After a RUN that differs the next one begins from its recorded STATE, so that it still counts.
    """
    result, guest = replay_boot(recording)
    yield result
    lost = not result.ok
    for ref in sorted(recording.runs, key=lambda ref: ref.run):
        run = recording.run(ref)
        meta = run["meta"]
        result = Result(f"{recording.name} {run_name(ref)}", "early")
        before = recording.state(meta["before"]) if recording.has_state(meta["before"]) else None
        if lost and before is None:
            result.problem = "the sequence before it differs and its own start is not recorded"
            yield result
            continue
        if lost and before is not None:
            guest, zonelists = load_state(before, boot_pagesets=True)
            result.notes.append("from the recorded state, as the sequence before differs")
            result.differences += zonelists
        elif before is not None:
            result.differences += [f"before: {d}" for d in compare_state(guest, before)]
        replay_run(recording, guest, run, before, result)
        lost = not result.ok
        if ref.run == max(r.run for r in recording.runs) and recording.has_state("early1b"):
            if not lost:
                end = compare_state(guest, recording.state("early1b"))
                result.differences += [f"early1b: {d}" for d in end]
                result.final = "differs" if end else result.final
        yield result


def replay_late(recording: Recording, ref: RunRef) -> Result:
    """One late RUN from its recorded STATE."""
    run = recording.run(ref)
    before = recording.state(run["meta"]["before"])
    result = Result(f"{recording.name} {run_name(ref)}", "late")
    guest, zonelists = load_state(before, boot_pagesets=bool(run["meta"]["early"]))
    result.differences += zonelists
    replay_run(recording, guest, run, before, result)
    return result


def replay_run(
    recording: Recording, guest: Guest, run: Json, before: Json | None, result: Result
) -> None:
    """Applies a RUN's operations, compares the AFTER STATE, applies its clean-up."""
    meta = run["meta"]
    replayer = Replayer(guest, meta)
    after = recording.state(meta["after"]) if recording.has_state(meta["after"]) else None
    pagevec: list[int] = []
    drained = lru_was_drained(run["ops"])
    items = NOT_LRU_ITEMS if drained or recording.is_compaction else ALL_ITEMS
    if drained and before is not None and after is not None:
        pagevec = waiting_for_lru(before, after)
    replayer.pagevec = list(pagevec)
    cuts: list[Cuts] = []
    if recording.is_compaction and before is not None:
        guest, cuts = prepare_compaction(run, before, after)
        replayer = Replayer(guest, meta)
    tally = Tally()
    run_operations(replayer, run["ops"], tally)
    if tally.problem:
        result.final = "not reached"
    elif after is not None:
        differences = compare_state(guest, after, items=items)
        result.differences += [f"after: {line}" for line in differences]
        result.final = "differs" if differences else "equal"
    result.operations, result.equal = tally.operations, tally.equal
    if not tally.problem:
        run_operations(replayer, run["clean"], tally)
        result.cleaned = tally.equal - result.equal
    result.events = tally.events
    result.problem = tally.problem
    result.details = tally.details
    if tally.problem and before is not None:
        again, _ = load_state(before, boot_pagesets=bool(meta["early"]))
        replayer = Replayer(again, meta)
        replayer.pagevec = pagevec
        if recording.is_compaction:
            prepare(again, run, before, after, cuts)
        result.details += explain(replayer, run["ops"] + run["clean"], tally.failed_at)


def prepare_compaction(run: Json, before: Json, after: Json | None) -> tuple[Guest, list[Cuts]]:
    """A guest with the STATE that a RUN with compaction begins from, and the cuts made in it."""
    cuts: list[Cuts] = []
    while True:
        guest, _ = load_state(before, boot_pagesets=bool(run["meta"]["early"]))
        prepare(guest, run, before, after, cuts)
        if len(cuts) == CUT_PASSES:
            return guest, cuts
        found = compound_cuts(Replayer(guest, run["meta"]), run["ops"])
        if not any(found.values()):
            guest, _ = load_state(before, boot_pagesets=bool(run["meta"]["early"]))
            prepare(guest, run, before, after, cuts)
            return guest, cuts
        cuts.append(found)


Mapper = Callable[[Callable[[Job], list[Result]], list[Job]], Iterable[list[Result]]]


@contextmanager
def open_pool(processes: int) -> Iterator[Mapper]:
    """Something like `map`, in order, over so many processes (in this one if it is one)."""
    if processes <= 1 or "fork" not in multiprocessing.get_all_start_methods():
        yield map
        return
    context = multiprocessing.get_context("fork")
    with context.Pool(processes, initializer=ignore_interrupts, maxtasksperchild=16) as pool:
        yield pool.imap


def ignore_interrupts() -> None:
    """Ctrl-C is the parent's business, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
