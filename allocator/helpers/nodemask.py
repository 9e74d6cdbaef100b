# SPDX-License-Identifier: GPL-2.0-only
"""Which nodes and CPUs there are (include/linux/nodemask.h, cpumask.h).

Called by the other helpers and by everything that prints one line a node.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..kernel_globals import G_NODES_CPU, G_NODES_MEMORY, G_NODES_ONLINE, G_NR_CPU_IDS
from ..layout import CPU_BLOCKS, CPU_ONLINE, CPU_WORDS, NODE_DATA
from ..mmzone import MAX_NUMNODES
from .prog import Prog, words

N_POSSIBLE = 0
N_ONLINE = 1
N_NORMAL_MEMORY = 2
N_HIGH_MEMORY = 2
N_MEMORY = 3
N_CPU = 4
NODE_STATE_NAMES = ("N_POSSIBLE", "N_ONLINE", "N_NORMAL_MEMORY", "N_MEMORY", "N_CPU")


def node_state_mask(prog: Prog, state: int) -> int:
    """Bits of the nodes in `state` (N_ONLINE, N_MEMORY ...), unsigned.

    N_POSSIBLE are the nodes with a pglist_data; all memory is N_NORMAL_MEMORY or higher, which
    x86-64 does not tell apart. Raises ValueError for an unknown state.
    """
    m = words(prog)
    if state == N_POSSIBLE:
        return sum(1 << nid for nid in range(MAX_NUMNODES) if m[NODE_DATA + nid])
    word = {
        N_ONLINE: G_NODES_ONLINE,
        N_NORMAL_MEMORY: G_NODES_MEMORY,
        N_MEMORY: G_NODES_MEMORY,
        N_CPU: G_NODES_CPU,
    }.get(state)
    if word is None:
        raise ValueError(f"node state {state}: 0 to {len(NODE_STATE_NAMES) - 1}")
    return m[word] & (1 << MAX_NUMNODES) - 1


def node_state(prog: Prog, nid: int, state: int) -> bool:
    """True if node `nid` is in `state`."""
    return bool(node_state_mask(prog, state) >> nid & 1)


def for_each_node_state(prog: Prog, state: int) -> Iterator[int]:
    """Ids of the nodes in `state`, ascending."""
    mask = node_state_mask(prog, state)
    return (nid for nid in range(MAX_NUMNODES) if mask >> nid & 1)


def for_each_node(prog: Prog) -> Iterator[int]:
    """Ids of all possible nodes, ascending."""
    return for_each_node_state(prog, N_POSSIBLE)


def for_each_online_node(prog: Prog) -> Iterator[int]:
    """Ids of all online nodes, ascending; a node without a pglist_data is left out."""
    m = words(prog)
    return (nid for nid in for_each_node_state(prog, N_ONLINE) if m[NODE_DATA + nid])


def for_each_possible_cpu(prog: Prog) -> Iterator[int]:
    """All CPU numbers below nr_cpu_ids."""
    return iter(range(words(prog)[G_NR_CPU_IDS]))


def for_each_online_cpu(prog: Prog) -> Iterator[int]:
    """Numbers of the CPUs that are online, ascending."""
    m = words(prog)
    return (cpu for cpu in range(m[G_NR_CPU_IDS]) if m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE])
