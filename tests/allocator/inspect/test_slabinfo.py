# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/slabinfo.py: /proc/slabinfo to the letter."""

from __future__ import annotations

import re
from typing import Any

from allocator.gfp import GFP_KERNEL
from allocator.inspect import inspect
from allocator.inspect.slabinfo import HEADER
from allocator.kernel import Kernel
from allocator.slab_common import kmem_cache_create
from allocator.slub import flush_all, kmem_cache_alloc, kmem_cache_free
from tests.allocator.machines import boot


def test_before_there_are_caches_there_is_the_header() -> None:
    assert inspect(boot("1x64M").memory, "slabinfo").text == HEADER


def test_a_line_is_what_420_prints() -> None:
    kernel = boot("1x64M")
    m = kernel.m
    s = kmem_cache_create(m, 0, b"dentry", 189, 0, 0)
    found = [kmem_cache_alloc(m, 0, s, GFP_KERNEL) for _ in range(30)]
    report = inspect(kernel.memory, "slabinfo")
    first = report.text.splitlines()[2]
    assert first == (
        "dentry                42     42    192   21    1"
        " : tunables    0    0    0 : slabdata      2      2      0"
    )
    for x in found[:12]:
        kmem_cache_free(m, 0, s, x)
    flush_all(m, s)
    data = report_of(kernel)
    assert data["active_objs"] == 18
    assert data["num_objs"] == 42


def report_of(kernel: Kernel) -> dict[str, int]:
    """The figures of the dentry cache."""
    data: Any = inspect(kernel.memory, "slabinfo").data
    return dict(data["dentry"])


def test_every_line_has_the_fields_of_the_header() -> None:
    kernel = boot("2x64M")
    kernel.create_file("f").close()
    lines = inspect(kernel.memory, "slabinfo").text.splitlines()[2:]
    shape = re.compile(
        r"^\S+ +\d+ +\d+ +\d+ +\d+ +\d+ : tunables +0 +0 +0 : slabdata +\d+ +\d+ +0$"
    )
    assert all(shape.match(line) for line in lines)
    assert {"filp", "inode_cache", "kmalloc-64", "radix_tree_node"} <= {
        line.split()[0] for line in lines
    }
