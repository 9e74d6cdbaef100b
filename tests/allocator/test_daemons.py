# SPDX-License-Identifier: GPL-2.0-only
"""Who gets a turn before the guest goes on."""

from __future__ import annotations

import pytest

from allocator.daemons import OOM_KILL, Daemons
from allocator.errors import KernelOops
from allocator.kernel_globals import G_CLOCK, G_PANIC
from allocator.kswapd_wake import KSWAPD_ASLEEP, wake_kswapd
from allocator.layout import CPU_BLOCKS, NODE_DATA, TASK_FATAL_SIGNAL, word_of_va
from allocator.mmzone import (
    MAX_NR_ZONES,
    ND_KSWAPD_CLASSZONE,
    ND_KSWAPD_NAP_END,
    ND_KSWAPD_STATE,
    ZONE_DMA32,
)

from .processes import boot, killed, process


def test_a_node_that_woke_its_kswapd_is_pending_until_it_had_its_turn() -> None:
    kernel = boot("2x64M")
    kernel.mm_init()
    daemons = Daemons(kernel.m)
    daemons.turn(0)
    assert not daemons.pending
    nd = word_of_va(kernel.m[NODE_DATA + 1])
    kernel.m[nd + ND_KSWAPD_CLASSZONE] = ZONE_DMA32
    assert not daemons.pending
    wake_kswapd(kernel.m, nd)
    assert daemons.pending
    daemons.turn(0)
    assert kernel.m[nd + ND_KSWAPD_CLASSZONE] == MAX_NR_ZONES
    assert not daemons.pending
    # it has laid itself down for a nap
    kernel.m[G_CLOCK] = kernel.m[nd + ND_KSWAPD_NAP_END]
    assert daemons.pending
    daemons.turn(0)
    assert kernel.m[nd + ND_KSWAPD_STATE] == KSWAPD_ASLEEP
    assert not daemons.pending


def test_victims_are_told_once() -> None:
    proc = process()
    daemons = Daemons(proc.m)
    assert daemons.victims() == []
    proc.m[proc.task + TASK_FATAL_SIGNAL] = 1
    proc.m[CPU_BLOCKS + OOM_KILL] += 1
    assert daemons.victims() == [proc.task]
    assert daemons.victims() == []
    killed(lambda: proc.mmap(4096), 9, 0x80)


def test_a_panic_has_a_reason_and_is_raised() -> None:
    kernel = boot()
    daemons = Daemons(kernel.m)
    assert daemons.panic == ""
    daemons.check_panic()
    kernel.m[G_PANIC] = 2
    assert "deadlocked" in daemons.panic
    with pytest.raises(KernelOops, match="deadlocked"):
        daemons.check_panic()
