# SPDX-License-Identifier: GPL-2.0-only
"""The Process object: arguments, reports, errors."""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Callable

import pytest

from allocator.errors import BadRequest, ProcessKilled, SystemCallError
from allocator.kernel import Kernel
from allocator.pgtable import mm_find_pte
from allocator.vma import find_vma
from machine import NumalabError

from .process_support import page_out
from .processes import PAGE, boot, process, refused, sound


def test_what_no_call_can_mean_is_refused_in_words() -> None:
    proc = process()
    for call in (
        lambda: proc.mmap(PAGE, "rq"),
        lambda: proc.madvise(0, PAGE, "please"),
        lambda: proc.set_mempolicy("somewhere"),
        lambda: proc.mbind(0, PAGE, "somewhere"),
        lambda: proc.read(0, -1),
        lambda: proc.mmap(1 << 70),
        lambda: proc.munmap(-(1 << 70), PAGE),
    ):
        with pytest.raises(BadRequest):
            call()
    assert proc.alive


def test_a_refusal_names_call_errno_and_meaning() -> None:
    proc = process()
    with pytest.raises(SystemCallError, match=r"munmap: EINVAL \(Invalid argument\)") as refusal:
        proc.munmap(1, 1)
    assert refusal.value.errno == errno.EINVAL
    assert refusal.value.exit_code == 64


def test_maps_read_as_proc_pid_maps() -> None:
    proc = process()
    proc.mmap(2 * PAGE, "r", address=1 << 40, fixed=True)
    proc.mmap(PAGE, "rwx", address=(1 << 40) + 8 * PAGE, fixed=True)
    assert proc.maps == (
        "10000000000-10000002000 r--p 00000000\n10000008000-10000009000 rwxp 00000000\n"
    )


def test_bytes_cross_page_borders_both_ways() -> None:
    proc = process()
    start = proc.mmap(3 * PAGE)
    data = bytes(range(256)) * 40
    proc.write(start + 100, data)
    assert proc.read(start + 100, len(data)) == data
    assert proc.read(start + 99, 1) == b"\0"
    assert proc.read(start, 0) == b""


def test_pages_move_between_nodes_and_tell_where_they_are() -> None:
    proc = process("2x64M")
    start = proc.mmap(4 * PAGE)
    proc.write(start, b"m" * 3 * PAGE)
    pages = [start + n * PAGE for n in range(4)]
    assert proc.move_pages(pages) == [0, 0, 0, -errno.EFAULT]
    assert proc.move_pages(pages, [1, 0, 1, 1])[:3] == [1, 0, 1]
    assert proc.read(start + 2 * PAGE, 2) == b"mm"
    refused(lambda: proc.move_pages(pages, [9] * 4), "ENODEV")
    sound(proc.kernel)


def test_bound_memory_comes_from_its_node() -> None:
    proc = process("2x64M")
    start = proc.mmap(8 * PAGE)
    proc.mbind(start, 4 * PAGE, "bind", [1])
    proc.touch(start, 8 * PAGE)
    nodes = []
    for n in range(8):
        page = proc.page(start + n * PAGE)
        assert page is not None
        nodes.append(page.nid)
    assert nodes == [1, 1, 1, 1, 0, 0, 0, 0]
    refused(lambda: proc.mbind(start, PAGE, "bind", [7]), "EINVAL")


def test_oom_score_adj_is_kept_between_its_limits() -> None:
    proc = process()
    proc.oom_score_adj = -1000
    assert proc.fork().oom_score_adj == proc.oom_score_adj == -1000
    with pytest.raises(SystemCallError):
        proc.oom_score_adj = 1001


def test_another_kernel_object_over_the_same_ram_goes_on_with_the_process() -> None:
    proc = process()
    start = proc.mmap(PAGE)
    proc.write(start, b"persistent")
    kernel = Kernel.attach(proc.kernel.memory)
    again = kernel.process(proc.pid)
    assert again.read(start, 10) == b"persistent"
    assert again.name == "test"
    again.exit()
    assert not proc.alive


def test_what_a_process_does_counts_on_its_cpu_and_node() -> None:
    kernel = boot("2x64M")
    proc = kernel.create_process("far", cpu=1)
    start = proc.mmap(PAGE)
    proc.write(start, b"x")
    page = proc.page(start)
    assert page is not None
    assert (proc.cpu, page.nid) == (1, 1)
    assert repr(proc) == f"<Process {proc.pid}>"


@pytest.mark.parametrize("seed", range(10))
def test_damaged_structures_raise_our_errors_and_no_others(seed: int) -> None:
    rng = random.Random(seed)
    proc = process()
    m = proc.m
    start = proc.mmap(32 * PAGE)
    proc.touch(start, 32 * PAGE)
    child = proc.fork()
    page = proc.page(start)
    assert page is not None
    places = [
        (proc.mm, 40),
        (find_vma(m, proc.mm, start), 32),
        (mm_find_pte(m, proc.mm, start), 32),
        (page.word, 8),
    ]
    base, words = rng.choice(places)
    for _ in range(2):
        m[base + rng.randrange(words)] = rng.getrandbits(64) - (1 << 63)
    for _ in range(8):
        who = rng.choice([proc, child])
        at = start + rng.randrange(28) * PAGE
        calls: list[Callable[[], object]] = [
            lambda who=who: who.mmap(2 * PAGE),  # type: ignore[misc]
            lambda who=who, at=at: who.munmap(at, 2 * PAGE),  # type: ignore[misc]
            lambda who=who, at=at: who.write(at, b"x"),  # type: ignore[misc]
            lambda who=who, at=at: who.read(at, 9),  # type: ignore[misc]
            lambda who=who: who.fork(),  # type: ignore[misc]
            lambda who=who, at=at: who.mprotect(at, PAGE, "r"),  # type: ignore[misc]
            lambda who=who: who.maps,  # type: ignore[misc]
        ]
        with contextlib.suppress(NumalabError):
            rng.choice(calls)()


def test_a_page_that_a_daemon_takes_right_after_the_fault_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proc = process()
    kernel = proc.kernel
    kernel.swapon(64)
    start = proc.mmap(PAGE)
    proc.write(start, b"old")
    kernel.lru_add_drain_all()
    taken: list[bool] = []

    def turn(cpu: int) -> None:
        if not taken:
            page = proc.page(start)
            assert page is not None
            taken.append(page_out(kernel.m, page.word))
            kernel.daemons.turns += 1

    monkeypatch.setattr(kernel.daemons, "turn", turn)
    proc.write(start, b"new")
    assert taken == [True]
    assert proc.page(start) is not None
    assert proc.read(start, 3) == b"new"
    sound(kernel)


def test_a_killed_process_dies_when_it_would_run_next() -> None:
    victim = boot().create_process("victim")
    heap = victim.mmap(4096)
    victim.kill()
    assert victim.alive
    with pytest.raises(ProcessKilled, match="SIGKILL at 0x0: killed") as death:
        victim.write(heap, b"x")
    assert death.value.signal == 9
    assert not victim.alive
    with pytest.raises(SystemCallError):
        victim.kill()
