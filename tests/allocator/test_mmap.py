# SPDX-License-Identifier: GPL-2.0-only
"""mmap, brk, growing stacks: results and errnos are 4.20's."""

from __future__ import annotations

import pytest

from allocator.kernel_globals import G_MAX_MAP_COUNT
from allocator.mm_struct import (
    MM_RLIM,
    MM_STACK_VM,
    MM_TOTAL_VM,
    RLIM_AS,
    RLIM_DATA,
    RLIM_STACK,
    VM_MAYWRITE,
    VM_SHARED,
)
from allocator.mmap import (
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_SHARED,
    file_flags,
)

from .processes import MIB, PAGE, killed, maps, process, refused, settle, sound

TOP = 0x7FFFF7FFF000


def test_mappings_go_from_the_top_down_and_neighbours_become_one_area() -> None:
    proc = process()
    assert proc.mmap(PAGE) == TOP - PAGE
    assert proc.mmap(3 * PAGE) == TOP - 4 * PAGE
    assert maps(proc) == [(4, "rw-p")]
    proc.mmap(PAGE, "r")
    assert maps(proc) == [(1, "r--p"), (4, "rw-p")]


@pytest.mark.parametrize(
    ("length", "options", "errno"),
    [
        (0, {}, "EINVAL"),
        (-PAGE, {}, "ENOMEM"),
        (1 << 47, {}, "ENOMEM"),
        (1 << 62, {}, "ENOMEM"),
        (PAGE, {"address": (1 << 47) - PAGE, "fixed": True}, "ENOMEM"),
        (PAGE, {"address": PAGE, "fixed": True}, "EPERM"),
        (PAGE, {"address": (1 << 40) + 1, "fixed": True}, "EINVAL"),
        (PAGE, {"address": -PAGE, "fixed": True}, "ENOMEM"),
        (PAGE, {"offset": 5}, "EINVAL"),
        (PAGE, {"flags": MAP_SHARED}, "EINVAL"),
        (2 << 20, {"flags": MAP_HUGETLB}, "ENOMEM"),
    ],
)
def test_what_cannot_be_mapped_gets_linux_errno(
    length: int, options: dict[str, int], errno: str
) -> None:
    proc = process()
    refused(lambda: proc.mmap(length, **options), errno)  # type: ignore[arg-type]
    assert proc.areas == []


def test_a_fixed_mapping_takes_the_place_of_what_was_there() -> None:
    proc = process()
    start = proc.mmap(8 * PAGE)
    proc.write(start, b"x" * 8 * PAGE)
    proc.mmap(2 * PAGE, "r", address=start + 3 * PAGE, fixed=True)
    assert maps(proc) == [(3, "rw-p"), (2, "r--p"), (3, "rw-p")]
    assert proc.read(start + 3 * PAGE, 4) == bytes(4)
    assert proc.read(start + 5 * PAGE, 4) == b"xxxx"
    assert proc.counters["anon"] == 6
    sound(proc.kernel)


def test_noreplace_refuses_a_place_that_is_taken() -> None:
    proc = process()
    start = proc.mmap(4 * PAGE)
    refused(lambda: proc.mmap(PAGE, address=start, flags=MAP_FIXED_NOREPLACE), "EEXIST")
    free = start - 4 * PAGE
    assert proc.mmap(PAGE, address=free, flags=MAP_FIXED_NOREPLACE) == free


def test_a_hint_is_taken_when_it_is_free_and_ignored_when_not() -> None:
    proc = process()
    assert proc.mmap(PAGE, address=(1 << 40) + 5) == 1 << 40
    assert proc.mmap(PAGE, address=1 << 40) == TOP - PAGE
    assert proc.mmap(PAGE, address=PAGE) == 1 << 39


@pytest.mark.parametrize("limit", [RLIM_AS, RLIM_DATA])
def test_limits_of_the_address_space_hold(limit: int) -> None:
    proc = process()
    proc.m[proc.mm + MM_RLIM + limit] = 4 * PAGE
    start = proc.mmap(4 * PAGE)
    refused(lambda: proc.mmap(PAGE), "ENOMEM")
    proc.mmap(2 * PAGE, address=start, fixed=True)
    assert proc.counters["total"] == 4


def test_too_many_areas_are_refused() -> None:
    proc = process()
    start = proc.mmap(64 * PAGE)
    proc.m[G_MAX_MAP_COUNT] = 5
    proc.mprotect(start + 4 * PAGE, PAGE, "r")
    proc.mprotect(start + 8 * PAGE, PAGE, "r")
    refused(lambda: proc.munmap(start + 20 * PAGE, PAGE), "ENOMEM")
    assert len(proc.areas) == 5


def test_locked_mappings_are_faulted_in_at_once() -> None:
    proc = process()
    proc.mmap(5 * PAGE, flags=MAP_LOCKED)
    assert proc.counters["anon"] == proc.counters["locked"] == 5
    sound(proc.kernel)


def test_the_heap_grows_shrinks_and_stops_at_its_limit() -> None:
    proc = process()
    free = settle(proc.kernel)
    heap = proc.brk()
    assert proc.brk(heap + 10 * PAGE) == heap + 10 * PAGE
    proc.write(heap + 9 * PAGE, b"end")
    assert proc.brk(heap + 2 * PAGE) == heap + 2 * PAGE
    killed(lambda: proc.kernel.process(proc.fork().pid).read(heap + 9 * PAGE, 1), 11, 1)
    assert proc.brk(heap - 1) == heap + 2 * PAGE
    proc.m[proc.mm + MM_RLIM + RLIM_DATA] = 4 * PAGE
    assert proc.brk(heap + 5 * PAGE) == heap + 2 * PAGE
    assert proc.brk(heap) == heap
    proc.wait()
    assert settle(proc.kernel) == free


def test_a_stack_follows_accesses_below_it_to_its_limit() -> None:
    proc = process()
    top = 0x7F0000000000
    proc.mmap(PAGE, address=top, fixed=True, flags=MAP_GROWSDOWN)
    proc.m[proc.mm + MM_RLIM + RLIM_STACK] = 16 * PAGE
    proc.write(top - 15 * PAGE, b"deep")
    assert maps(proc) == [(16, "rw-p")]
    assert proc.m[proc.mm + MM_STACK_VM] == proc.m[proc.mm + MM_TOTAL_VM] == 16
    assert proc.read(top, 4) == bytes(4)
    killed(lambda: proc.write(top - 16 * PAGE, b"too deep"), 11, 1)


def test_a_stack_keeps_the_guard_gap_to_its_neighbour() -> None:
    proc = process()
    top = 0x7F0000000000
    proc.mmap(PAGE, address=top, fixed=True, flags=MAP_GROWSDOWN)
    proc.mmap(PAGE, address=top - 300 * PAGE, fixed=True)
    proc.write(top - 43 * PAGE, b"just fits")
    killed(lambda: proc.write(top - 44 * PAGE, b"in the gap"), 11, 1)


def test_an_exhausted_address_space_gives_enomem_and_goes_on() -> None:
    proc = process()
    flags = 0x4000  # MAP_NORESERVE
    for _ in range(3):
        proc.mmap(1 << 45, "r", flags=flags)
    refused(lambda: proc.mmap(1 << 45, "r", flags=flags), "ENOMEM")
    assert proc.mmap(PAGE) > 0
    sound(proc.kernel)


def test_memory_that_could_never_be_had_is_not_promised() -> None:
    proc = process("1x64M")
    refused(lambda: proc.mmap(1 << 40), "ENOMEM")
    assert proc.mmap(1 << 40, flags=0x4000) > 0
    assert proc.mmap(1 << 40, "r") > 0
    proc.mmap(30 * MIB)


@pytest.mark.parametrize(
    ("mode", "prot", "kind", "expected"),
    [
        (3, 3, 1, VM_SHARED | VM_MAYWRITE),
        (1, 1, 1, 0),
        (1, 3, 1, -13),
        (2, 1, 2, -13),
        (3, 3, 2, VM_MAYWRITE),
        (3, 3, 7, -22),
    ],
)
def test_a_file_can_be_mapped_as_it_was_opened(
    monkeypatch: pytest.MonkeyPatch, mode: int, prot: int, kind: int, expected: int
) -> None:
    monkeypatch.setattr("allocator.mmap.file_mode", lambda _m, _file: mode)
    found = file_flags(memoryview(b""), 8, prot, kind, VM_MAYWRITE)
    assert found == expected if expected < 0 else found & (VM_SHARED | VM_MAYWRITE) == expected
