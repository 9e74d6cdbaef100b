# SPDX-License-Identifier: GPL-2.0-only
"""allocator/helpers/nodemask.py: which nodes and CPUs there are."""

from __future__ import annotations

import pytest

from allocator.helpers import nodemask
from allocator.layout import CPU_BLOCKS, CPU_ONLINE, CPU_WORDS
from tests.allocator.machines import boot


def test_node_states_tell_memory_and_cpus_apart() -> None:
    kernel = boot(
        "node,nodeid=0,cpus=0,mem=64M", "node,nodeid=1,cpus=1,mem=0", "node,nodeid=2,mem=64M"
    )
    assert list(nodemask.for_each_node(kernel)) == [0, 1, 2]
    assert list(nodemask.for_each_online_node(kernel)) == [0, 1, 2]
    assert list(nodemask.for_each_node_state(kernel, nodemask.N_MEMORY)) == [0, 2]
    assert list(nodemask.for_each_node_state(kernel, nodemask.N_CPU)) == [0, 1]
    assert nodemask.node_state(kernel, 2, nodemask.N_NORMAL_MEMORY)
    assert not nodemask.node_state(kernel, 1, nodemask.N_MEMORY)
    with pytest.raises(ValueError, match="node state 7"):
        nodemask.node_state_mask(kernel, 7)


def test_an_offline_cpu_is_possible_but_not_online() -> None:
    kernel = boot("2x64M,cpus=2")
    kernel.m[CPU_BLOCKS + 2 * CPU_WORDS + CPU_ONLINE] = 0
    assert list(nodemask.for_each_possible_cpu(kernel.m)) == [0, 1, 2, 3]
    assert list(nodemask.for_each_online_cpu(kernel.m)) == [0, 1, 3]
