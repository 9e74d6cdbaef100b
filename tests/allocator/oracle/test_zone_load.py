# SPDX-License-Identifier: GPL-2.0-only
"""Lists written in bulk are the lists that list_add_tail() would have made."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.layout import page_va
from allocator.list_head import list_add_tail, list_init
from allocator.mm_types import P_NEXT
from allocator.mmzone import NUMA_STAT_NAMES, ZONE_STAT_NAMES
from allocator.oracle.zone_load import NUMA_NAMES, STAT_NAMES, link_list

from .machines import TWO_NODES, bring_up


@pytest.mark.parametrize("pfns", [[20000], [20000, 9000, 30001], list(range(20000, 20100, 3))])
def test_a_list_linked_in_bulk_is_one_linked_page_by_page(pfns: list[int]) -> None:
    bulk, single = bring_up(TWO_NODES), bring_up(TWO_NODES)
    link_list(bulk, bulk.scratch, np.asarray(pfns, dtype=np.int64))
    list_init(single.m, single.scratch)
    for pfn in pfns:
        list_add_tail(single.m, single.page(pfn) + P_NEXT, page_va(pfn) + 8, single.scratch)
    assert bytes(bulk.memory.bytes) == bytes(single.memory.bytes)


def test_counters_have_a_name_each() -> None:
    assert len(STAT_NAMES) == len(ZONE_STAT_NAMES)
    assert len(NUMA_NAMES) == len(NUMA_STAT_NAMES)
    assert (STAT_NAMES[0], STAT_NAMES[-1]) == (ZONE_STAT_NAMES[0], "free_cma")
