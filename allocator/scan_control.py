# SPDX-License-Identifier: GPL-2.0-only
"""What one reclaim is told and what it has come to: struct scan_control (mm/vmscan.c).

It lives on the kernel's stack, so here it is a plain Python object that ends with the call: nothing
of it is state. All counts are pages.
"""

from __future__ import annotations

DEF_PRIORITY = 12
SWAP_CLUSTER_MAX = 32


class ScanControl:
    """The fields of the kernel's struct, and the counts of one round over a node (`nr`)."""

    __slots__ = (
        "compaction_ready",
        "congested",
        "dirty",
        "file_taken",
        "gfp_mask",
        "immediate",
        "kswapd",
        "may_swap",
        "may_unmap",
        "may_writepage",
        "memcg",
        "nodemask",
        "nr_activate",
        "nr_reclaimed",
        "nr_ref_keep",
        "nr_scanned",
        "nr_to_reclaim",
        "nr_unmap_fail",
        "order",
        "priority",
        "reclaim_idx",
        "taken",
        "unqueued_dirty",
        "writeback",
    )

    def __init__(
        self,
        gfp_mask: int,
        order: int = 0,
        reclaim_idx: int = 3,
        *,
        nr_to_reclaim: int = SWAP_CLUSTER_MAX,
        nodemask: int = 0,
        memcg: int = 0,
        priority: int = DEF_PRIORITY,
        may_writepage: bool = True,
        may_unmap: bool = True,
        may_swap: bool = True,
        kswapd: bool = False,
    ) -> None:
        """`memcg`: word index of the control group whose limit is the reason, 0 for all memory;
        `kswapd`: the node's daemon is asking (current_is_kswapd)."""
        self.gfp_mask = gfp_mask
        self.order = order
        self.reclaim_idx = reclaim_idx
        self.nr_to_reclaim = nr_to_reclaim
        self.nodemask = nodemask
        self.memcg = memcg
        self.priority = priority
        self.may_writepage = may_writepage
        self.may_unmap = may_unmap
        self.may_swap = may_swap
        self.kswapd = kswapd
        self.compaction_ready = False
        self.nr_scanned = 0
        self.nr_reclaimed = 0
        self.nr_activate = 0
        self.nr_ref_keep = 0
        self.nr_unmap_fail = 0
        self.reset_round()

    def reset_round(self) -> None:
        """Forgets what the last round over a node found."""
        self.dirty = 0
        self.unqueued_dirty = 0
        self.congested = 0
        self.writeback = 0
        self.immediate = 0
        self.file_taken = 0
        self.taken = 0
