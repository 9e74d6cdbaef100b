# SPDX-License-Identifier: GPL-2.0-only
"""Address spaces and tasks in RAM: fields, sizes, flags."""

from __future__ import annotations

import itertools

import pytest

from allocator import mm_struct as mms
from allocator.layout import CPU, TASK
from allocator.structs import Struct


@pytest.mark.parametrize(
    "struct", [mms.VM_AREA_STRUCT, mms.MM_STRUCT, mms.PROCESS, mms.VM_FAULT], ids=lambda s: s.name
)
def test_fields_lie_one_behind_the_other_without_overlap(struct: Struct) -> None:
    for one, other in itertools.pairwise(struct):
        assert other.offset == one.offset + one.words * one.count


def test_a_process_begins_as_every_task_does() -> None:
    assert mms.PROCESS["task"] == 0
    assert mms.PROCESS["tasks"] == TASK.words


def test_a_cpu_has_room_for_its_fault() -> None:
    assert CPU.fields["vmf"].count == mms.VM_FAULT.words


def test_area_flags_are_those_of_4_20() -> None:
    flags = {
        name: value
        for name, value in vars(mms).items()
        if name.startswith("VM_") and isinstance(value, int) and not name.startswith("VM_FAULT")
    }
    assert flags["VM_STACK_FLAGS"] == 0x100173
    assert flags["VM_SPECIAL"] == 0x10044400
    assert flags["VM_HUGEPAGE"] | flags["VM_NOHUGEPAGE"] == 0x60000000
    single = [v for v in flags.values() if v and v & (v - 1) == 0 and v > 2]
    assert len(set(single)) == len(single)


def test_fault_results_are_those_of_4_20() -> None:
    assert mms.VM_FAULT_ERROR == 0x53
    assert mms.VM_FAULT_ERROR & (mms.VM_FAULT_MAJOR | mms.VM_FAULT_WRITE | mms.VM_FAULT_NOPAGE) == 0
