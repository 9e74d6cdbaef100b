# SPDX-License-Identifier: GPL-2.0-only
"""All page tables read at once."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.check.context import Check
from allocator.check.mappings import frame_indices, read_mms, read_tasks
from allocator.kernel_globals import G_MM_INIT_DONE, G_TASKS
from allocator.layout import TASK_MM
from allocator.mm_inline import page_mapcount, page_to_pfn
from allocator.mm_struct import MM_PGD, TASK_TASKS
from allocator.pgtable import mm_find_pmd, mm_find_pte
from tests.allocator.check.owner_lab import OwnerLab
from tests.allocator.process_support import PAGE


@pytest.fixture
def owners() -> OwnerLab:
    return OwnerLab()


def test_every_entry_is_found_with_its_process_and_address(owners: OwnerLab) -> None:
    check = Check(owners.lab.memory)
    maps = check.mappings
    assert read_tasks(check) == [owners.parent, owners.child]
    assert maps.mms == [owners.lab.mm(owners.parent), owners.lab.mm(owners.child)]
    for number, task in enumerate((owners.parent, owners.child)):
        for i in (0, 15, 20, 39):
            w = mm_find_pte(owners.m, owners.lab.mm(task), owners.at + i * PAGE)
            (found,) = np.flatnonzero(maps.words == w)
            assert maps.owners[found] == number
            assert maps.addresses[found] == owners.at + i * PAGE
            assert maps.values[found] == owners.m[w]
    w = mm_find_pmd(owners.m, owners.lab.mm(owners.parent), owners.huge)
    assert maps.huge[maps.words == w].tolist() == [True]
    assert np.count_nonzero(maps.swapped) == 6


def test_counts_are_the_mapcounts(owners: OwnerLab) -> None:
    check = Check(owners.lab.memory)
    for i in (0, 15, 21):
        p = owners.page(i)
        index = check.frames.index(page_to_pfn(owners.m, p))
        assert check.mappings.small_counts[index] == page_mapcount(owners.m, p)


def test_a_machine_without_processes_has_no_mappings(owners: OwnerLab) -> None:
    owners.m[G_MM_INIT_DONE] = 0
    check = Check(owners.lab.memory)
    assert not check.mappings.mms
    assert not check.mappings.values.size


def test_frames_outside_ram_have_no_index(owners: OwnerLab) -> None:
    check = Check(owners.lab.memory)
    pfns = np.array([0, 5, 1 << 29, -1, 1 << 40], dtype=np.int64)
    assert frame_indices(check, pfns).tolist() == [0, 5, -1, -1, -1]


@pytest.mark.parametrize("value", [0, -1, 12345])
def test_a_broken_list_of_tasks_is_a_finding_and_no_error(owners: OwnerLab, value: int) -> None:
    owners.m[owners.parent + TASK_TASKS] = value
    check = Check(owners.lab.memory)
    assert read_tasks(check) == [owners.parent]
    assert {f.rule for f in check.findings} == {"task-list"}
    owners.m[G_TASKS] = value
    assert "task-list" in owners.broken()


def test_pointers_that_lead_nowhere_are_findings(owners: OwnerLab) -> None:
    owners.m[owners.lab.mm(owners.child) + MM_PGD] = 8
    assert "task-mm" in owners.broken()
    owners.m[owners.child + TASK_MM] = -5
    check = Check(owners.lab.memory)
    assert read_mms(check) == [owners.lab.mm(owners.parent)]
    w = mm_find_pmd(owners.m, owners.lab.mm(owners.parent), owners.at)
    owners.m[w] = 0xFFFFFFFF000 | 0x67
    assert "table-entry" in owners.broken()
