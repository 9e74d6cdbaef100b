# SPDX-License-Identifier: GPL-2.0-only
"""Booted kernels for tests of the allocator."""

from __future__ import annotations

from allocator import start_kernel
from allocator.kernel import Kernel
from firmware import power_on
from machine import Machine, Topology


def boot(*specs: str, append: str = "", distances: list[list[int]] | None = None) -> Kernel:
    """A kernel booted on the machine that `specs` describe."""
    machine = Machine(Topology.parse(*specs, distances=distances))
    power_on(machine)
    return start_kernel(machine, append)
