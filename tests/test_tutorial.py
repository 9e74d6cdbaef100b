# SPDX-License-Identifier: GPL-2.0-only
"""Testing page frames with pytest: a tutorial that runs.

Read this file from top to bottom. Every test in it passes, and together they show what the plugin
that comes with numalab does for a test of kernel memory management:

    pip install numalab pytest
    pytest test_tutorial.py

Nothing has to be imported or configured. Installing numalab registers the plugin; it costs a test
run nothing until a test asks for one of its fixtures.
"""

from __future__ import annotations

import random

import pytest

from allocator.check import check_frames
from allocator.kernel import Kernel
from allocator.views import Page
from machine import Machine

# 1. The kernel fixture
#
# A test that has an argument called `kernel` gets a machine of its own: two NUMA nodes of 64 MiB
# unless it says otherwise, powered on, its firmware tables written and read back, Linux 4.20's
# page allocator brought up on it. That takes a few hundredths of a second. The kernel object offers
# the calls of include/linux/gfp.h.


def test_a_page_comes_from_the_node_that_was_asked_for(kernel: Kernel) -> None:
    farthest = kernel.nodes[-1].nid
    page = kernel.alloc_pages("GFP_KERNEL", order=0, nid=farthest)
    assert page is not None
    assert page.nid == farthest
    assert page.zone == "DMA32"
    assert page.refcount == 1
    kernel.free_pages(page)


# Note the last line. When a test ends, the plugin looks at every frame of the machine. If one is
# in no legal state, or in two, or if a counter disagrees with a list, the test fails and is told
# which frame, which rule and which bytes. And if a frame was allocated in the test and not freed,
# the test fails too, with a map of the pageblocks that changed and a table of what was left:
#
#     4 frames were allocated in the test and not freed
#       frame    pages  zone     pageblock  asked for           at
#       0x03ffc  4      0:DMA32  Movable    GFP_KERNEL order 2  test_tutorial.py:63
#
# (try it: take the call of free_pages out). So a test says what it wants to know, and "nothing else
# broke" is known without saying.

# 2. Choosing the machine
#
# The marker `numa` describes the machine, in the short form, as QEMU's -numa arguments, or as
# anything else that Topology.parse() understands. `distances` is the SLIT, `append` are kernel
# parameters, `seed` is where everything random begins.


@pytest.mark.numa("3x64M", distances=[[10, 40, 20], [40, 10, 20], [20, 20, 10]])
def test_an_exhausted_node_is_helped_out_by_the_nearest(kernel: Kernel) -> None:
    kernel.exhaust(nid=0)
    page = kernel.alloc_pages("GFP_KERNEL", nid=0)
    assert page is not None
    assert page.nid == 2


# `exhaust` takes all that a node will give. A test that calls it is about a machine that is full,
# so what it still holds at its end is not called a leak. Any other test can say the same of single
# pages, with kernel.keep(page), or of all, with the marker numa_leaks.


@pytest.mark.numa_leaks(reason="the module under test never frees its table")
def test_a_deliberate_leak_is_acknowledged_by_a_marker(kernel: Kernel) -> None:
    kernel.alloc_pages("GFP_KERNEL", order=3)


def test_or_page_by_page(kernel: Kernel) -> None:
    table = kernel.alloc_pages("GFP_KERNEL", order=1)
    assert isinstance(kernel, Kernel)
    kernel.keep(table, order=1)  # type: ignore[attr-defined]


@pytest.mark.numa("2x128M", append="kernelcore=50%")
def test_kernel_parameters_make_a_movable_zone(kernel: Kernel) -> None:
    page = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", nid=1)
    assert page is not None
    assert page.zone == "Movable"
    kernel.free_pages(page)


# A test with several markers runs once for each. One without any runs on every machine that the
# command line names, which turns a suite into a suite over many machines:
#
#     pytest --numa-topologies="1x64M;2x64M;4x64M"


@pytest.mark.numa("1x64M")
@pytest.mark.numa("2x64M,cpus=2")
@pytest.mark.numa("node,nodeid=0,cpus=0,mem=64M", "node,nodeid=1,mem=64M")
def test_every_node_gives_back_what_it_gave(kernel: Kernel) -> None:
    before = kernel.nr_free_pages
    for node in kernel.nodes:
        page = kernel.alloc_pages("GFP_KERNEL", order=4, nid=node.nid)
        assert page is not None
        kernel.free_pages(page, order=4)
    assert kernel.nr_free_pages == before


# 3. Looking
#
# kernel.zones, kernel.zone(0, "DMA32"), kernel.page(pfn) are views of the structures in guest RAM.
# If an assertion about pages, frame numbers, zones or free lists fails, pytest prints what differs
# and not two long reprs: which free list, the first place where they part, the frames that only one
# of them has.


def test_freeing_undoes_splitting(kernel: Kernel) -> None:
    warm_up = kernel.alloc_pages("GFP_KERNEL", order=3, nid=0)
    assert warm_up is not None
    kernel.free_pages(warm_up, order=3)
    zone = kernel.zone(0, "DMA32")
    before = zone.free_lists()
    page = kernel.alloc_pages("GFP_KERNEL", order=3, nid=0)
    assert page is not None
    assert zone.free_lists() != before
    kernel.free_pages(page, order=3)
    assert zone.free_lists() == before


# (The first request of its kind claims pageblocks for it, which stay claimed: hence the warm-up.)

# 4. Randomness that repeats
#
# `numa_random` is a random.Random seeded with the machine's seed, so that a failure can be had
# again. --numa-seed=N gives the whole run another one.


@pytest.mark.numa("2x64M,cpus=2", seed=7)
def test_any_order_of_frees_leaves_a_sound_machine(
    kernel: Kernel, numa_random: random.Random
) -> None:
    held: list[tuple[Page, int]] = []
    for _ in range(200):
        order = numa_random.choice((0, 0, 1, 2, 5))
        page = kernel.alloc_pages("GFP_KERNEL", order, cpu=numa_random.randrange(4))
        if page is not None:
            held.append((page, order))
    numa_random.shuffle(held)
    for page, order in held:
        kernel.free_pages(page, order, cpu=numa_random.randrange(4))


# 5. What if an allocation fails?
#
# Code that asks for memory has a path for the answer "no", and that path is hardly ever run. With
# the marker fault_sweep the test runs again and again, each time on a fresh machine: first the
# first allocation fails, then the second, and so on, until a run had no allocation left to fail.
# Each time the frames are checked; a page that the error path forgets is a leak, and the test
# fails.


def allocate_ring(kernel: Kernel, slots: int) -> list[Page] | None:
    """A driver's ring: all slots or none."""
    ring: list[Page] = []
    for _ in range(slots):
        page = kernel.alloc_pages("GFP_KERNEL", order=1)
        if page is None:
            for other in ring:
                kernel.free_pages(other, order=1)
            return None
        ring.append(page)
    return ring


@pytest.mark.fault_sweep
def test_a_ring_is_allocated_whole_or_not_at_all(kernel: Kernel) -> None:
    ring = allocate_ring(kernel, slots=5)
    for page in ring or []:
        kernel.free_pages(page, order=1)


# The fixture `fault_sweep` is the same as a loop, for tests that want to see each attempt.


def test_a_ring_of_five_can_fail_in_five_ways(fault_sweep: list[Kernel]) -> None:
    outcomes = []
    for kernel in fault_sweep:
        ring = allocate_ring(kernel, slots=5)
        outcomes.append(ring is not None)
        for page in ring or []:
            kernel.free_pages(page, order=1)
    assert outcomes == [False] * 5 + [True]


# 6. The machine itself
#
# `numa_machine` is the hardware around the kernel: RAM, CPUs, devices. And the check that runs
# after each test can be asked for at any time. Here a test plays the guest that writes where it
# must not.


def test_damage_is_found_and_named(kernel: Kernel, numa_machine: Machine) -> None:
    zone = kernel.zone(0, "DMA32")
    (order, _), pfns = next(iter(sorted(zone.free_lists().items())))
    victim = kernel.page(pfns[0])
    private = victim.word + 5
    numa_machine.memory.words[private] += 1
    report = check_frames(numa_machine.memory)
    assert not report.sound
    assert report.frame_numbers == [victim.pfn]
    assert "free-list-order" in {finding.rule for finding in report.findings}
    numa_machine.memory.words[private] = order
    assert check_frames(numa_machine.memory).sound
