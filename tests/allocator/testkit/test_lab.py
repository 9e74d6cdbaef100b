# SPDX-License-Identifier: GPL-2.0-only
"""Labs: machines for tests, and what they say afterwards."""

from __future__ import annotations

import pytest

from allocator.testkit.lab import Config, Lab, SweepFailure, fault_sweep, with_seed
from machine import TopologyError, UsageError


def test_a_config_has_a_short_name() -> None:
    assert Config().name == "2x64M"
    config = Config(("1x64M",), append="a=1 b", seed=5, machine_type="q35")
    assert config.name == "1x64M-q35-a=1,b-seed5"
    assert with_seed(config, None) is config
    assert with_seed(config, 8).seed == 8


def test_a_bad_topology_is_refused_when_the_machine_is_built() -> None:
    with pytest.raises(TopologyError):
        Lab(Config(("2xlots",)))


def test_an_untouched_lab_has_nothing_to_say() -> None:
    assert Lab(Config()).verdict() == ""


def test_pages_on_per_cpu_lists_are_free() -> None:
    lab = Lab(Config())
    pages = [lab.kernel.alloc_pages("GFP_KERNEL") for _ in range(20)]
    for page in pages:
        assert page is not None
        lab.kernel.free_pages(page)
    assert lab.verdict() == ""


def test_pages_the_guest_holds_are_leaks_too() -> None:
    lab = Lab(Config())
    from allocator.kernel import Kernel

    assert Kernel(lab.machine.memory).alloc_pages("GFP_KERNEL", order=1) is not None
    assert "2 frames were allocated in the test and not freed" in lab.verdict()
    assert "(the guest, or a request in bulk)" in lab.verdict()
    assert lab.verdict(leaks_allowed=True) == ""


def test_the_nth_allocation_fails_whatever_it_is() -> None:
    lab = Lab(Config())
    lab.fail_nth(3)
    asked = [("GFP_KERNEL", 0), ("GFP_HIGHUSER", 3), ("GFP_NOWAIT", 0), ("GFP_KERNEL", 1)]
    got = [lab.kernel.alloc_pages(gfp, order) for gfp, order in asked]
    assert [page is None for page in got] == [False, False, True, False]
    assert lab.failed
    with pytest.raises(UsageError, match="count from 1"):
        lab.fail_nth(0)


def test_a_sweep_ends_with_the_run_in_which_nothing_failed() -> None:
    labs = []
    for lab in fault_sweep(Config(("1x64M",))):
        labs.append(lab)
        page = lab.kernel.alloc_pages("GFP_KERNEL")
        if page is not None:
            lab.kernel.free_pages(page)
    assert [lab.failed for lab in labs] == [True, False]


def test_a_sweep_stops_at_a_leak_and_at_its_limit() -> None:
    labs = fault_sweep(Config(("1x64M",)))
    next(labs).kernel.alloc_pages("GFP_KERNEL")
    next(labs).kernel.alloc_pages("GFP_KERNEL")
    with pytest.raises(SweepFailure, match="with allocation 2 failing: 1 frame was"):
        next(labs)
    labs = fault_sweep(Config(("1x64M",)), limit=2)
    for _ in range(2):
        lab = next(labs)
        for page in [lab.kernel.alloc_pages("GFP_KERNEL") for _ in range(4)]:
            if page is not None:
                lab.kernel.free_pages(page)
    with pytest.raises(UsageError, match="more than 2 allocations"):
        next(labs)
