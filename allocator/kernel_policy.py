# SPDX-License-Identifier: GPL-2.0-only
"""The Kernel's policies: NUMA policies, cpusets, memory cgroups, scopes, sysctls, fault injection.

A part of `Kernel`: what decides about requests besides their own arguments. "The task of a CPU" is
the one that is current there. Refusals with an errno raise BadRequest that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from . import cpuset_fs, memcg, memcg_tree, pageset, wmark
from .dirty_sysctl import DIRTY_SYSCTLS
from .errors import BadRequest
from .fail_page_alloc import reset_fail_page_alloc
from .kernel_base import KernelBase
from .kernel_globals import (
    G_FAIL_IGNORE_HIGHMEM,
    G_FAIL_IGNORE_RECLAIM,
    G_FAIL_INTERVAL,
    G_FAIL_MIN_ORDER,
    G_FAIL_PROBABILITY,
    G_FAIL_SPACE,
    G_FAIL_TIMES,
    G_FAIL_VERBOSE,
    G_LOWMEM_RATIO,
    G_MIN_FREE_KBYTES,
    G_PERCPU_PAGELIST_FRACTION,
    G_STATIC_KEYS,
    G_WATERMARK_SCALE,
    KEY_FAIL_PAGE_ALLOC,
)
from .layout import (
    MEM_CGROUPS,
    PF_KTHREAD,
    PF_MEMALLOC,
    PF_MEMALLOC_NOFS,
    PF_MEMALLOC_NOIO,
    TASK_FLAGS,
    TASK_MEMCG,
    unsigned,
    va_of_word,
)
from .mempolicy import (
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_F_RELATIVE_NODES,
    MPOL_F_STATIC_NODES,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_PREFERRED,
)
from .mmzone import MAX_NR_ZONES

MODES = {
    "default": MPOL_DEFAULT,
    "preferred": MPOL_PREFERRED,
    "bind": MPOL_BIND,
    "interleave": MPOL_INTERLEAVE,
    "local": MPOL_LOCAL,
}
MODE_FLAGS = {"": 0, "static": MPOL_F_STATIC_NODES, "relative": MPOL_F_RELATIVE_NODES}
CPUSET_FLAGS = {
    "mem_exclusive": cpuset_fs.CS_MEM_EXCLUSIVE,
    "mem_hardwall": cpuset_fs.CS_MEM_HARDWALL,
    "memory_migrate": cpuset_fs.CS_MEMORY_MIGRATE,
    "memory_spread_page": cpuset_fs.CS_SPREAD_PAGE,
    "memory_spread_slab": cpuset_fs.CS_SPREAD_SLAB,
}
COUNTERS = {"memory": memcg.MC_MEMORY, "memsw": memcg.MC_MEMSW, "kmem": memcg.MC_KMEM}
SYSCTLS: dict[str, tuple[Callable[[memoryview, Any], int], int, int]] = {
    "min_free_kbytes": (wmark.min_free_kbytes_sysctl, G_MIN_FREE_KBYTES, 1),
    "watermark_scale_factor": (wmark.watermark_scale_factor_sysctl, G_WATERMARK_SCALE, 1),
    "lowmem_reserve_ratio": (wmark.lowmem_reserve_ratio_sysctl, G_LOWMEM_RATIO, MAX_NR_ZONES),
    "percpu_pagelist_fraction": (
        pageset.percpu_pagelist_fraction_sysctl,
        G_PERCPU_PAGELIST_FRACTION,
        1,
    ),
    **DIRTY_SYSCTLS,
}
"""/proc/sys/vm: name -> setter, first word, words."""


class KernelPolicy(KernelBase):
    """What decides about requests besides their arguments."""

    def set_mempolicy(
        self, mode: str, nodes: Collection[int] = (), flags: str = "", cpu: int = 0
    ) -> None:
        """Gives the task of `cpu` a NUMA policy, which alloc_pages_current() follows.

        `mode`: default, preferred, bind, interleave or local; `flags`: "", static or relative
        (MPOL_F_STATIC_NODES, MPOL_F_RELATIVE_NODES). Raises BadRequest where 4.20 says -EINVAL.
        """
        if mode not in MODES or flags not in MODE_FLAGS:
            raise BadRequest(f"policy {mode!r} {flags!r}: {', '.join(MODES)}; static or relative")
        mask = self._nodemask(set(nodes)) if nodes else 0
        rc = self._call("set_mempolicy", self._task(cpu), MODES[mode], MODE_FLAGS[flags], mask)
        self._check_errno(rc, f"set_mempolicy {mode} {sorted(nodes)}")

    def create_cpuset(self, name: str, parent: Cpuset | None = None) -> Cpuset:
        """A new cpuset without nodes, below `parent` (None: the root). Raises UsageError."""
        above = cpuset_fs.TOP_CPUSET if parent is None else parent.word
        return Cpuset(self, cpuset_fs.cpuset_create(self.m, above, name))

    @property
    def top_cpuset(self) -> Cpuset:
        """The root of the cpusets, where every task is at first."""
        return Cpuset(self, cpuset_fs.TOP_CPUSET)

    def create_memcg(self, parent: MemCgroup | None = None) -> MemCgroup:
        """A new memory cgroup below `parent` (None: the root). Raises UsageError, or BadRequest
        (ENOMEM) without memory for its LRU lists."""
        above = MEM_CGROUPS if parent is None else parent.word
        word = memcg.memcg_create(self.m, above)
        if memcg_tree.memcg_online(self.m, 0, word):
            memcg_tree.memcg_remove(self.m, 0, word)
            self._check_errno(-memcg_tree.ENOMEM, "create a memory cgroup")
        return MemCgroup(self, word)

    # --- scopes ----------------------------------------------------------------------------------

    @contextmanager
    def _task_flag(self, flag: int, cpu: int) -> Iterator[None]:
        word = self._task(cpu) + TASK_FLAGS
        before = self.m[word] & flag
        self.m[word] |= flag
        try:
            yield
        finally:
            self.m[word] = self.m[word] & ~flag | before

    def memalloc_noio(self, cpu: int = 0) -> Any:
        """`with kernel.memalloc_noio():` the task's requests start no I/O (memalloc_noio_save)."""
        return self._task_flag(PF_MEMALLOC_NOIO, cpu)

    def memalloc_nofs(self, cpu: int = 0) -> Any:
        """`with kernel.memalloc_nofs():` the task's requests enter no file system."""
        return self._task_flag(PF_MEMALLOC_NOFS, cpu)

    def memalloc_noreclaim(self, cpu: int = 0) -> Any:
        """`with kernel.memalloc_noreclaim():` PF_MEMALLOC: the task may use the reserves."""
        return self._task_flag(PF_MEMALLOC, cpu)

    # --- sysctls ---------------------------------------------------------------------------------

    def sysctl(self, name: str) -> int | tuple[int, ...]:
        """The value of /proc/sys/vm/`name` (a tuple for lowmem_reserve_ratio)."""
        _, word, count = self._sysctl(name)
        values = tuple(self.m[word + i] for i in range(count))
        return values if count > 1 else values[0]

    def set_sysctl(self, name: str, value: int | Sequence[int]) -> None:
        """Writes /proc/sys/vm/`name`, with all that follows from it. Raises BadRequest."""
        setter, _, count = self._sysctl(name)
        if isinstance(value, int) != (count == 1):
            raise BadRequest(
                f"sysctl {name}: {count} number{'s' if count > 1 else ''}, not {value}"
            )
        self._check_errno(setter(self.m, value), f"sysctl {name} = {value}")

    def _sysctl(self, name: str) -> tuple[Callable[[memoryview, Any], int], int, int]:
        if name not in SYSCTLS:
            raise BadRequest(f"sysctl {name!r}: one of {', '.join(SYSCTLS)}")
        return SYSCTLS[name]

    # --- fault injection -------------------------------------------------------------------------

    def fail_page_alloc(
        self,
        probability: int = 100,
        interval: int = 1,
        space: int = 0,
        times: int = -1,
        min_order: int = 0,
        ignore_gfp_highmem: bool = False,
        ignore_gfp_wait: bool = False,
        verbose: int = 0,
    ) -> None:
        """Makes allocations fail on purpose, as /sys/kernel/debug/fail_page_alloc does.

        `probability` in percent, of every `interval`-th candidate, after `space` pages, `times`
        times (-1: for ever); requests below `min_order`, for highmem or that may wait can be
        spared. Raises BadRequest for numbers that make no sense.
        """
        if not 0 <= probability <= 100 or interval < 1 or space < 0 or times < -1 or min_order < 0:
            raise BadRequest(
                f"fail_page_alloc: probability {probability}, interval {interval}, space {space}, "
                f"times {times}, min_order {min_order}"
            )
        m = self.m
        reset_fail_page_alloc(m)
        m[G_FAIL_PROBABILITY] = probability
        m[G_FAIL_INTERVAL] = interval
        m[G_FAIL_SPACE] = space
        m[G_FAIL_TIMES] = times
        m[G_FAIL_MIN_ORDER] = min_order
        m[G_FAIL_IGNORE_HIGHMEM] = int(ignore_gfp_highmem)
        m[G_FAIL_IGNORE_RECLAIM] = int(ignore_gfp_wait)
        m[G_FAIL_VERBOSE] = verbose
        m[G_STATIC_KEYS] |= KEY_FAIL_PAGE_ALLOC

    def stop_fail_page_alloc(self) -> None:
        """Ends fault injection."""
        self.m[G_STATIC_KEYS] &= ~KEY_FAIL_PAGE_ALLOC


class Cpuset:
    """A cpuset of a kernel; `word` is its word index in the CPUSETS table."""

    def __init__(self, kernel: KernelPolicy, word: int) -> None:
        self.kernel = kernel
        self.word = word

    @property
    def path(self) -> str:
        """`/` for the root, `/a/b` below it."""
        return cpuset_fs.cpuset_path(self.kernel.m, self.word)

    @property
    def mems(self) -> set[int]:
        """Its nodes."""
        mask = unsigned(self.kernel.m[self.word + cpuset_fs.CS_MEMS])
        return {nid for nid in range(64) if mask >> nid & 1}

    def set_mems(self, nodes: Collection[int]) -> None:
        """Writes cpuset.mems. Raises BadRequest where 4.20 refuses."""
        mask = self.kernel._nodemask(set(nodes)) if nodes else 0
        rc = cpuset_fs.cpuset_set_mems(self.kernel.m, self.word, mask)
        self.kernel._check_errno(rc, f"cpuset {self.path} mems {sorted(nodes)}")

    def set_flag(self, name: str, on: bool = True) -> None:
        """Writes a flag file: mem_exclusive, mem_hardwall, memory_migrate, memory_spread_page or
        memory_spread_slab. Raises BadRequest."""
        if name not in CPUSET_FLAGS:
            raise BadRequest(f"cpuset flag {name!r}: one of {', '.join(CPUSET_FLAGS)}")
        rc = cpuset_fs.cpuset_set_flag(self.kernel.m, self.word, CPUSET_FLAGS[name], on)
        self.kernel._check_errno(rc, f"cpuset {self.path} {name}")

    def attach(self, cpu: int = 0) -> None:
        """Moves the task of `cpu` into it. Raises BadRequest without nodes."""
        rc = cpuset_fs.cpuset_attach(self.kernel.m, self.word, self.kernel._task(cpu))
        self.kernel._check_errno(rc, f"cpuset {self.path} tasks")

    def remove(self) -> None:
        """rmdir. Raises BadRequest while it has children or tasks."""
        path = self.path
        self.kernel._check_errno(cpuset_fs.cpuset_remove(self.kernel.m, self.word), f"rmdir {path}")


class MemCgroup:
    """A memory cgroup of a kernel; `word` is its word index in the MEM_CGROUPS table."""

    def __init__(self, kernel: KernelPolicy, word: int) -> None:
        self.kernel = kernel
        self.word = word

    def usage(self, counter: str = "memory") -> int:
        """Pages charged (stocks of the CPUs included): memory, memsw or kmem."""
        return self.kernel.m[self.word + self._counter(counter) + memcg.PC_USAGE]

    def failcnt(self, counter: str = "memory") -> int:
        """How often the limit has refused."""
        return self.kernel.m[self.word + self._counter(counter) + memcg.PC_FAILCNT]

    def limit(self, pages: int, counter: str = "memory") -> None:
        """Sets the limit in pages. Raises BadRequest (-EBUSY) if more is charged already."""
        if not memcg.memcg_set_max(self.kernel.m, self.word, self._counter(counter), pages):
            raise BadRequest(f"memory cgroup: EBUSY, more than {pages} pages are charged")

    def attach(self, cpu: int = 0) -> None:
        """The task of `cpu` joins: its __GFP_ACCOUNT requests are charged here.

        A kernel thread, as idle tasks are, becomes a user's task by that; nobody charges kernel
        threads.
        """
        task = self.kernel._task(cpu)
        self.kernel.m[task + TASK_MEMCG] = va_of_word(self.word)
        self.kernel.m[task + TASK_FLAGS] &= ~PF_KTHREAD

    def remove(self) -> None:
        """rmdir. Raises BadRequest (EBUSY) while it has children, processes or charges."""
        rc = memcg_tree.memcg_remove(self.kernel.m, 0, self.word)
        self.kernel._check_errno(rc, "rmdir of a memory cgroup")

    def _counter(self, name: str) -> int:
        if name not in COUNTERS:
            raise BadRequest(f"counter {name!r}: one of {', '.join(COUNTERS)}")
        return COUNTERS[name]
