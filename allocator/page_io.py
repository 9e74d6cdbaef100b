# SPDX-License-Identifier: GPL-2.0-only
"""Pages to swap and back (mm/page_io.c).

A slot of a swap area is the block of the same number of its device. Both directions are queued on
the device and end by the modelled clock: a page being read is locked till then, a page being
written is under writeback. All hot; `p` is a locked page in the swap cache.
"""

from __future__ import annotations

from .address_space import swap_info
from .blockdev import submit_page
from .layout import PAGE_OFFSET
from .mm_inline import unlock_page
from .mm_types import P_PRIVATE
from .page_dirty import set_page_writeback
from .swap_map import SI_BDEV
from .swapfile import try_to_free_swap
from .swapops import swp_offset, swp_type
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events

PSWPIN = VM_EVENT_NAMES.index("pswpin")
PSWPOUT = VM_EVENT_NAMES.index("pswpout")


def swap_bdev(m: memoryview, entry: int) -> int:
    """The device that holds the slot of a swap entry. Hot."""
    return (m[swap_info(m, swp_type(entry)) + SI_BDEV] - PAGE_OFFSET) >> 3


def swap_writepage(m: memoryview, cpu: int, p: int) -> int:
    """Writes a page, whose PG_dirty is cleared, to its slot and unlocks it: 0. Hot.

    A page whose slot nobody needs any more is not written, it loses the slot.
    """
    if try_to_free_swap(m, cpu, p):
        unlock_page(m, p)
        return 0
    entry = m[p + P_PRIVATE]
    count_vm_events(m, cpu, PSWPOUT, 1)
    set_page_writeback(m, cpu, p)
    unlock_page(m, p)
    submit_page(m, cpu, swap_bdev(m, entry), 1, swp_offset(entry), p)
    return 0


def swap_readpage(m: memoryview, cpu: int, p: int) -> None:
    """Begins to read a page from its slot; it is unlocked when it is there. Hot."""
    entry = m[p + P_PRIVATE]
    count_vm_events(m, cpu, PSWPIN, 1)
    submit_page(m, cpu, swap_bdev(m, entry), 0, swp_offset(entry), p)
