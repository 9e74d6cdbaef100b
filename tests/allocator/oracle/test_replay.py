# SPDX-License-Identifier: GPL-2.0-only
"""Operations of RUNs: each result is compared, each context is given, nothing else is believed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from allocator.layout import CPU_BLOCKS, CPU_PREEMPT_COUNT, CPU_WORDS, PF_MEMALLOC, TASK_FLAGS
from allocator.oracle.guest import Guest
from allocator.oracle.records import Recording
from allocator.oracle.replay import Replayer, Tally, run_operations
from allocator.oracle.state_load import load_state
from allocator.page_alloc import alloc_pages_nodemask
from machine.errors import ImageError

from .machines import TWO_NODES, bring_up, recording

META = {"cpu": 0, "early": 0, "run": 0, "kind": "o0", "before": "a", "after": "b"}
Run = dict[str, Any]


def load(name: str, kind: str) -> tuple[Guest, Run]:
    """A late RUN of the copy and the machine in the STATE before it."""
    source: Recording = recording(name)
    run = source.run(next(ref for ref in source.runs if ref.kind == kind))
    return load_state(source.state(run["meta"]["before"]))[0], run


def replay(guest: Guest, run: Run) -> Tally:
    """Applies the RUN's operations and clean-up."""
    tally = Tally()
    run_operations(Replayer(guest, run["meta"]), run["ops"] + run["clean"], tally)
    return tally


def first(run: Run, letter: str, **fields: Any) -> Run:
    """The first operation of a kind with these field values."""
    return next(
        op
        for op in run["ops"]
        if op["op"] == letter and all(op.get(key) == value for key, value in fields.items())
    )


def other_frame(run: Run) -> Run:
    op = first(run, "A", order=0)
    op["pfn"] += 1
    return op


def other_zone(run: Run) -> Run:
    op = first(run, "A", order=0)
    op["rzid"] ^= 1
    return op


def other_block_type(run: Run) -> Run:
    op = first(run, "A", order=0)
    op["pbmt"] += 1
    return op


def one_event_less(run: Run) -> Run:
    op = next(op for op in run["ops"] if len(op.get("ev", [])) > 1)
    op["ev"].pop()
    return op


def other_event(run: Run) -> Run:
    op = next(op for op in run["ops"] if op.get("ev"))
    op["ev"][0][1] += 1
    return op


def other_counter(run: Run) -> Run:
    op = first(run, "K")
    op["free"] += 1
    return op


def other_list_length(run: Run) -> Run:
    op = first(run, "K")
    op["nr_free"][0] += 1
    return op


@pytest.mark.parametrize(
    "change",
    [
        other_frame,
        other_zone,
        other_block_type,
        one_event_less,
        other_event,
        other_counter,
        other_list_length,
    ],
)
def test_whatever_differs_stops_the_replay_there(change: Callable[[Run], Run]) -> None:
    guest, run = load("M2/late", "smp")
    op = change(run)
    tally = replay(guest, run)
    assert tally.problem.startswith(f"operation {op['i']} ({op['op']}")
    assert tally.failed_at == run["ops"].index(op)
    assert tally.equal == tally.failed_at


def test_pf_memalloc_opens_the_reserves_to_the_task_but_not_to_an_interrupt() -> None:
    guest = bring_up(TWO_NODES)
    while alloc_pages_nodemask(guest.m, 0, 0x200, 0, 0, 0) >= 0:
        pass
    replayer = Replayer(guest, META)
    op = {"op": "A", "i": 0, "gfp": 0x200, "order": 0, "nid": 0, "mask": 0, "pfn": None}
    assert replayer.apply(op | {"cpu": 1, "ctx": 1}) == ""
    assert replayer.apply(op | {"cpu": 0, "ctx": 0}) == ""
    assert replayer.apply(op | {"cpu": 0, "ctx": 1}).endswith("recorded none")
    assert guest.m[CPU_BLOCKS + CPU_WORDS + CPU_PREEMPT_COUNT] == 0


def test_memalloc_is_taken_back_after_the_operation() -> None:
    guest = bring_up(TWO_NODES)
    replayer = Replayer(guest, META)
    op = {"op": "A", "i": 0, "gfp": 0, "order": 0, "nid": 0, "mask": 0, "cpu": 0, "ctx": 1}
    replayer.apply(op | {"pfn": None})
    assert guest.m[replayer.task(0) + TASK_FLAGS] & PF_MEMALLOC == 0


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ({"op": "Q"}, "unknown kind of operation 'Q'"),
        ({"op": "A", "cpu": 7}, "CPU 7"),
        ({"op": "V", "cpu": -1}, "CPU -1"),
        ({"op": "A", "gfp": 0, "order": 0, "nid": 9, "mask": 0, "cpu": 0}, "no node 9"),
        ({"op": "F", "pfn": 1 << 40, "order": 0, "how": 0, "cpu": 0}, "no struct page"),
        ({"op": "F", "pfn": 8192, "order": 99, "how": 0, "cpu": 0}, "order 99"),
        ({"op": "F", "pfn": 9000, "order": 0, "how": 0, "cpu": 0}, "not in use"),
        ({"op": "L", "pages": [[0, 0, 9000]], "cpu": 0}, "not in use"),
        ({"op": "D", "nid": 5, "zid": 0, "cpu": 0}, "5:0"),
        ({"op": "I", "start": 5, "end": 5, "mt": 1, "ev": []}, "range"),
        ({"op": "A", "cpu": 0}, "KeyError"),
    ],
)
def test_an_operation_that_cannot_be_is_an_image_error_with_its_number(
    op: Run, message: str
) -> None:
    replayer = Replayer(bring_up(TWO_NODES), META)
    with pytest.raises(ImageError, match=message) as caught:
        run_operations(replayer, [{"i": 4711, **op}], Tally())
    assert "4711" in str(caught.value)


def test_a_cpu_that_the_machine_lacks_is_refused_in_the_meta_data() -> None:
    with pytest.raises(ImageError, match="CPU 2"):
        Replayer(bring_up(TWO_NODES), META | {"cpu": 2})


def test_a_run_can_be_replayed_twice_with_the_same_outcome() -> None:
    first_time, run = load("M1/late", "hiatomic")
    again, _ = load("M1/late", "hiatomic")
    a, b = replay(first_time, copy.deepcopy(run)), replay(again, run)
    assert a == b
    assert a.problem == ""
    assert a.equal == len(run["ops"]) + len(run["clean"])
