# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from machine import UsageError


def test_registers_are_attributes_and_items(guest: Callable[..., Any]) -> None:
    regs = guest().start("f4").cpus[0].regs
    regs.rax = -1
    regs["r15"] = 0x1234
    assert regs["rax"] == (1 << 64) - 1
    assert regs.r15 == 0x1234
    regs.fs_base = 0xFFFF_8880_0000_1000
    assert regs.fs_base == 0xFFFF_8880_0000_1000
    regs.gdtr_base, regs.gdtr_limit = 0x5000, 0x27
    assert (regs["gdtr_base"], regs["gdtr_limit"]) == (0x5000, 0x27)


def test_an_unknown_register_is_refused_by_name(guest: Callable[..., Any]) -> None:
    regs = guest().start("f4").cpus[0].regs
    with pytest.raises(UsageError, match="'rzx'"):
        regs["rzx"]
    with pytest.raises(UsageError, match="'rzx'"):
        regs.rzx = 1
    with pytest.raises(UsageError, match="fs cannot be set"):
        regs.fs = 0x18  # there is no GDT


# A run that touches everything: SSE, x87, MSRs, segments, flags.
BUSY = (
    "f20f10042500000000 660f6fc8 d9e8 d9eb b9000001c0 b800100000 31d2 0f30"
    " 48c7c3efbeadde 31c0 fd 0f011425 00201000 b818000000 8ed8 f4"
)


def test_saved_registers_come_back_in_a_fresh_cpu(guest: Callable[..., Any]) -> None:
    first, second = guest(), guest()
    for g in (first, second):
        table = (0, 0x00CF93000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
        g.put(b"".join(entry.to_bytes(8, "little") for entry in table), 0x101000)
        g.put((0x1F).to_bytes(2, "little") + (0x101000).to_bytes(8, "little"), 0x102000)
    stop = first.start(BUSY).run()
    assert stop.kind == "halt", stop
    saved = first.machine.cpus[0].regs.save()
    assert saved["ds"] == 0x18
    assert saved["gdtr_base"] == 0x101000
    other = second.start("f4").cpus[0].regs
    other.load(saved)
    assert other.save() == saved
    assert all(isinstance(value, int | bytes) for value in saved.values())


def test_an_incomplete_or_wrong_state_is_refused(guest: Callable[..., Any]) -> None:
    regs = guest().start("f4").cpus[0].regs
    saved = regs.save()
    for key, value in (("cr3", None), ("xmm3", b"short"), ("fp0", 5)):
        broken = dict(saved)
        if value is None:
            del broken[key]
        else:
            broken[key] = value
        with pytest.raises(UsageError, match="saved CPU state"):
            regs.load(broken)


def test_what_a_segment_register_hides_can_be_seen_and_changed(guest: Callable[..., Any]) -> None:
    regs = guest().start("f4").cpus[0].regs
    assert (regs.ds_base, regs.ds_limit, regs.cs_flags >> 21 & 1) == (0, 0xFFFFFFFF, 1)
    regs.ds_base = 0x1234
    assert (regs.ds_base, regs.ds, regs.ds_limit) == (0x1234, 0x18, 0xFFFFFFFF)


def test_several_are_read_at_once(guest: Callable[..., Any]) -> None:
    regs = guest().start("f4").cpus[0].regs
    regs.rax, regs.rbx = 1, 2
    assert regs.get_many(("rbx", "rax", "cs")) == (2, 1, 0x10)
