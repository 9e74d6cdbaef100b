# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's physical memory manager, and the tools that look at it.

    from machine import Machine, Topology
    from firmware import power_on
    from allocator import start_kernel

    machine = Machine(Topology.parse("2x128M"))
    power_on(machine)
    kernel = start_kernel(machine, "kernelcore=50%")
    page = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", order=0, nid=1)

Importing this package loads nothing else; `start_kernel` and `Kernel` load what they need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from machine import Machine

    from .errors import BadPage, BadRequest, KernelOops
    from .kernel import Kernel

__all__ = ["BadPage", "BadRequest", "Kernel", "KernelOops", "start_kernel"]


def start_kernel(
    machine: Machine,
    append: str = "",
    sink: Callable[[str], None] | None = None,
    engine: str | None = None,
) -> Kernel:
    """Boots the kernel on a machine after POST, hypercalls served; the `Kernel` to talk to.

    `append` is added to the command line that POST left; `sink` gets the log lines as they come.
    `engine`: "python" (the default: nothing to load), "compiled" or "auto", for the calls of the
    `Kernel`.

    Raises:
        BringUpError: the machine cannot be brought up.
        UsageError: no such engine, or "compiled" without Numba.
    """
    from .hypercall import Hypercalls
    from .init_main import start_kernel as boot
    from .kernel import Kernel

    booted = boot(machine, append, sink)
    Hypercalls(machine).install(booted.stacks)
    return Kernel(machine.memory, machine, booted, engine)


def __getattr__(name: str) -> Any:
    if name == "Kernel":
        from .kernel import Kernel

        return Kernel
    if name in ("BadPage", "BadRequest", "KernelOops"):
        from . import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
