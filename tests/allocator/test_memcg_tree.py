# SPDX-License-Identifier: GPL-2.0-only
"""allocator/memcg_tree.py: groups come and go, and reclaim walks them as 4.20 does."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.gfp import GFP_KERNEL
from allocator.kernel import Kernel
from allocator.kernel_policy import MemCgroup
from allocator.layout import MEM_CGROUPS, NODE_DATA, TASK_MEMCG, va_of_word, word_of_va
from allocator.lruvec import mem_cgroup_nodeinfo
from allocator.memcg_tree import Cookie, groups, mem_cgroup_iter, preorder
from allocator.mmzone import ND_NODE_ID
from allocator.process import Process
from allocator.vmscan import try_to_free_mem_cgroup_pages

from .processes import PAGE, boot, sound

FAMILY = "2x64M"


def family(kernel: Kernel) -> dict[str, int]:
    """root -> a -> (b, c), root -> d, by name."""
    kernel.create_process("first").exit()
    a = kernel.create_memcg()
    b, c = kernel.create_memcg(a), kernel.create_memcg(a)
    d = kernel.create_memcg()
    return {"root": MEM_CGROUPS, "a": a.word, "b": b.word, "c": c.word, "d": d.word}


def names(found: list[int], of: dict[str, int]) -> str:
    known = {word: name for name, word in of.items()}
    return " ".join(known[word] for word in found)


def whole_walk(kernel: Kernel, root: int, cookie: Cookie | None = None) -> list[int]:
    found, memcg = [], mem_cgroup_iter(kernel.m, root, 0, cookie)
    while memcg:
        found.append(memcg)
        memcg = mem_cgroup_iter(kernel.m, root, memcg, cookie)
    return found


@pytest.mark.parametrize(("root", "order"), [("root", "root a b c d"), ("a", "a b c"), ("d", "d")])
def test_each_group_comes_before_its_children_and_those_in_order_of_age(
    root: str, order: str
) -> None:
    kernel = boot(FAMILY)
    made = family(kernel)
    assert names(preorder(kernel.m, made[root]), made) == order
    assert names(whole_walk(kernel, made[root]), made) == order


def test_without_groups_a_walk_is_root_alone() -> None:
    kernel = boot()
    kernel.create_process("first").exit()
    assert whole_walk(kernel, 0) == [MEM_CGROUPS]


def test_a_place_that_becomes_free_does_not_change_the_order_of_age() -> None:
    kernel = boot(FAMILY)
    made = family(kernel)
    MemCgroup(kernel, made["b"]).remove()
    made["b"] = kernel.create_memcg(MemCgroup(kernel, made["a"])).word
    assert names(preorder(kernel.m, MEM_CGROUPS), made) == "root a c b d"


def test_the_next_walk_goes_on_where_the_last_one_stopped() -> None:
    kernel = boot(FAMILY)
    m, made = kernel.m, family(kernel)
    node = word_of_va(m[NODE_DATA])
    first = Cookie(node, 12)
    stopped_at = mem_cgroup_iter(m, MEM_CGROUPS, mem_cgroup_iter(m, MEM_CGROUPS, 0, first), first)
    assert names([stopped_at], made) == "a"
    second = Cookie(node, 12)
    assert names(whole_walk(kernel, MEM_CGROUPS, second), made) == "b c d"
    assert names(whole_walk(kernel, MEM_CGROUPS, Cookie(node, 12)), made) == "root a b c d"
    # every priority, every node and every root has a position of its own
    assert names(whole_walk(kernel, MEM_CGROUPS, Cookie(node, 11)), made) == "root a b c d"
    other = Cookie(word_of_va(m[NODE_DATA + 1]), 12)
    assert m[other.node + ND_NODE_ID] == 1
    assert names(whole_walk(kernel, MEM_CGROUPS, other), made) == "root a b c d"
    assert names(whole_walk(kernel, made["a"], Cookie(node, 12)), made) == "a b c"


def test_a_walk_ends_when_another_has_begun_the_next_round() -> None:
    kernel = boot(FAMILY)
    m, made = kernel.m, family(kernel)
    node = word_of_va(m[NODE_DATA])
    slow = Cookie(node, 5)
    at = mem_cgroup_iter(m, MEM_CGROUPS, 0, slow)
    whole_walk(kernel, MEM_CGROUPS, Cookie(node, 5))  # takes the rest of the round
    assert mem_cgroup_iter(m, MEM_CGROUPS, at, slow) == 0
    assert made["a"] in whole_walk(kernel, MEM_CGROUPS, Cookie(node, 5))


def in_group(kernel: Kernel, group: MemCgroup, pages: int) -> tuple[Process, int]:
    process = kernel.create_process("member")
    kernel.m[process.task + TASK_MEMCG] = va_of_word(group.word)
    at = process.mmap(pages * PAGE)
    for i in range(pages):
        process.write(at + i * PAGE, i.to_bytes(8, "little"))
    return process, at


def test_a_group_at_its_limit_gives_up_its_own_pages_alone() -> None:
    kernel = boot(FAMILY)
    made = family(kernel)
    kernel.swapon(pages=2048)
    groups_of = {name: MemCgroup(kernel, made[name]) for name in "bcd"}
    members = {name: in_group(kernel, group, 200) for name, group in groups_of.items()}
    kernel.lru_add_drain_all()
    before = {name: group.usage() for name, group in groups_of.items()}
    freed = 0
    for _ in range(10):
        freed += try_to_free_mem_cgroup_pages(kernel.m, 0, made["a"], 300, GFP_KERNEL, True)
    assert 300 <= freed <= sum(before.values()) - before["d"]
    assert groups_of["d"].usage() == before["d"]
    # both children have given something: neither was spared, neither alone
    assert all(groups_of[name].usage() < before[name] for name in "bc")
    for process, at in members.values():
        for i in range(200):
            assert process.read(at + i * PAGE, 8) == i.to_bytes(8, "little")
    sound(kernel)


def test_a_removed_group_leaves_nothing_behind() -> None:
    kernel = boot()
    kernel.create_process("first").exit()
    group = kernel.create_memcg()
    process, _ = in_group(kernel, group, 50)
    with pytest.raises(BadRequest):
        group.remove()
    process.exit()
    kernel.lru_add_drain_all()
    group.remove()
    assert groups(kernel.m) == [MEM_CGROUPS]
    assert mem_cgroup_nodeinfo(kernel.m, MEM_CGROUPS, 0) == 0
    sound(kernel)


def test_a_group_with_children_cannot_be_removed() -> None:
    kernel = boot(FAMILY)
    made = family(kernel)
    with pytest.raises(BadRequest):
        MemCgroup(kernel, made["a"]).remove()
    for name in "cbad":
        MemCgroup(kernel, made[name]).remove()


def test_groups_made_before_there_are_processes_get_their_lists_with_the_first() -> None:
    kernel = boot()
    group = kernel.create_memcg()
    assert mem_cgroup_nodeinfo(kernel.m, group.word, 0) == 0
    process, _ = in_group(kernel, group, 20)
    assert mem_cgroup_nodeinfo(kernel.m, group.word, 0)
    kernel.lru_add_drain_all()
    sound(kernel)
    process.exit()
