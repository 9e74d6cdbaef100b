# SPDX-License-Identifier: GPL-2.0-only
"""page_owner's start: pages that were allocated before it could watch."""

from __future__ import annotations

import re

from allocator.check.context import Check
from allocator.check.page_ext_rules import ext_column
from allocator.debug_guardpage import EXT_FLAGS, PAGE_EXT_OWNER
from allocator.init_main import start_kernel
from allocator.mm_types import PG_RESERVED
from firmware import power_on
from machine import Machine, Topology
from tests.allocator.machines import boot


def test_every_page_in_use_and_none_that_is_free_or_reserved_gets_an_owner() -> None:
    check = Check(boot("2x64M", append="page_owner=on").memory)
    owned = ext_column(check, EXT_FLAGS) & PAGE_EXT_OWNER != 0
    frames = check.frames
    reserved = frames.flags[:] & PG_RESERVED != 0
    assert not (owned & check.free).any()
    assert not (owned & reserved).any()
    in_use = frames.ram & ~check.free & ~reserved
    assert owned[in_use].all()
    assert in_use.sum() == 256


def test_the_log_says_how_much_page_ext_takes_and_how_many_pages_were_found() -> None:
    machine = Machine(Topology.parse("2x128M"))
    power_on(machine, "page_owner=on")
    log = "\n".join(start_kernel(machine).log)
    assert "allocated 2097152 bytes of page_ext" in log
    found = re.findall(r"Node (\d), zone +(\w+): page owner found early allocated (\d+) pages", log)
    assert [(nid, zone) for nid, zone, _ in found] == [("0", "DMA"), ("0", "DMA32"), ("1", "DMA32")]
    assert sum(int(count) for _, _, count in found) == 512
