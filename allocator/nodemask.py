# SPDX-License-Identifier: GPL-2.0-only
"""Sets of nodes as one signed word, and the kernel's operations on them (include/linux/nodemask.h).

Bit n stands for node n; node 63 is the sign bit. Plain set algebra is Python's own; here are the
operations that count or renumber nodes. All hot.
"""

from __future__ import annotations

from .mmzone import MAX_NUMNODES

NODE_MASK_ALL = -1


def node_bit(nid: int) -> int:
    """The mask that holds only node `nid` (0-63), as a signed word. Hot."""
    if nid == 63:
        return -(1 << 62) * 2
    return 1 << nid


def next_node_in(node: int, mask: int) -> int:
    """The first node after `node` in `mask`, from the start again at its end. Hot.

    MAX_NUMNODES if the mask is empty. `node` may be -1 or MAX_NUMNODES - 1 for the first one.
    """
    for i in range(1, MAX_NUMNODES + 1):
        nid = (node + i) % MAX_NUMNODES
        if mask >> nid & 1:
            return nid
    return MAX_NUMNODES


def first_node(mask: int) -> int:
    """The lowest node in `mask`, MAX_NUMNODES if there is none. Hot."""
    return next_node_in(MAX_NUMNODES - 1, mask)


def nodes_weight(mask: int) -> int:
    """How many nodes are in `mask`. Hot."""
    n = 0
    for nid in range(MAX_NUMNODES):
        n += mask >> nid & 1
    return n


def node_rank(nid: int, mask: int) -> int:
    """How many nodes of `mask` lie below its member `nid`; -1 if it is none. Hot."""
    if mask >> nid & 1 == 0:
        return -1
    n = 0
    for i in range(nid):
        n += mask >> i & 1
    return n


def nth_node(n: int, mask: int) -> int:
    """The node with rank `n` in `mask`, MAX_NUMNODES if there are not that many. Hot."""
    for nid in range(MAX_NUMNODES):
        if mask >> nid & 1:
            if n == 0:
                return nid
            n -= 1
    return MAX_NUMNODES


def nodes_fold(mask: int, size: int) -> int:
    """`mask` with every node taken modulo `size` (nodes_fold). Hot."""
    out = 0
    if size > 0:
        for nid in range(MAX_NUMNODES):
            if mask >> nid & 1:
                out |= node_bit(nid % size)
    return out


def nodes_onto(mask: int, relative: int) -> int:
    """The nodes of `relative` whose rank is in `mask` (nodes_onto). Hot."""
    out = 0
    n = 0
    for nid in range(MAX_NUMNODES):
        if relative >> nid & 1:
            if mask >> n & 1:
                out |= node_bit(nid)
            n += 1
    return out


def node_remap(nid: int, old: int, new: int) -> int:
    """Where node `nid` goes when the set `old` becomes `new`, rank by rank (node_remap). Hot."""
    weight = nodes_weight(new)
    rank = node_rank(nid, old)
    if rank < 0 or weight == 0:
        return nid
    return nth_node(rank % weight, new)


def nodes_remap(mask: int, old: int, new: int) -> int:
    """node_remap() of every node in `mask` (nodes_remap). Hot."""
    out = 0
    for nid in range(MAX_NUMNODES):
        if mask >> nid & 1:
            out |= node_bit(node_remap(nid, old, new))
    return out
