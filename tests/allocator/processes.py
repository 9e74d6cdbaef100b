# SPDX-License-Identifier: GPL-2.0-only
"""Small machines with processes, for the tests of what processes are made of."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from allocator import start_kernel
from allocator.check import check_frames
from allocator.errors import ProcessKilled, SystemCallError
from allocator.kernel import Kernel
from allocator.layout import CPU_BLOCKS, CPU_EVENTS, CPU_WORDS
from allocator.process import Process
from allocator.slab import slab_caches
from allocator.slab_common import kmem_cache_shrink
from allocator.vm_events import VM_EVENT_NAMES
from firmware import power_on
from machine import Machine, Topology

PAGE = 4096
MIB = 1 << 20


def boot(spec: str = "1x64M") -> Kernel:
    """A kernel on a machine of this topology."""
    machine = Machine(Topology.parse(spec))
    power_on(machine)
    return start_kernel(machine)


def process(spec: str = "1x64M") -> Process:
    """The only process of such a machine."""
    return boot(spec).create_process("test")


def sound(kernel: Kernel) -> None:
    """Every frame is in one legal state."""
    report = check_frames(kernel.memory)
    assert report.sound, str(report)


def events(kernel: Kernel, name: str) -> int:
    """An event counter over all CPUs."""
    at = CPU_EVENTS + VM_EVENT_NAMES.index(name)
    return sum(kernel.m[CPU_BLOCKS + cpu * CPU_WORDS + at] for cpu in range(kernel.nr_cpus))


def settle(kernel: Kernel) -> int:
    """Free pages once all that lies ready for reuse has been given back."""
    kernel.lru_add_drain_all()
    for cache in list(slab_caches(kernel.m)):
        kmem_cache_shrink(kernel.m, 0, cache)
    kernel.drain_all_pages()
    for cpu in range(kernel.nr_cpus):
        kernel.fold_vm_stats(cpu)
    return kernel.nr_free_pages


def refused(call: Callable[[], object], name: str) -> None:
    """The call is refused with this errno."""
    with pytest.raises(SystemCallError) as refusal:
        call()
    assert errno.errorcode[refusal.value.errno] == name


def killed(call: Callable[[], object], signal: int, code: int) -> ProcessKilled:
    """The process dies of this signal and code."""
    with pytest.raises(ProcessKilled) as death:
        call()
    assert (death.value.signal, death.value.code) == (signal, code)
    return death.value


def maps(proc: Process) -> list[tuple[int, str]]:
    """Areas as (pages, permissions)."""
    return [((area.end - area.start) // PAGE, area.permissions) for area in proc.areas]
