# SPDX-License-Identifier: GPL-2.0-only
"""The machines that every boot script must run on."""

from __future__ import annotations

from allocator.boot_image import Guest, boot_image
from machine import Machine, Topology

MACHINES: dict[str, tuple[str, ...]] = {
    "1x64M": ("1x64M",),
    "2x128M": ("2x128M",),
    "2x128M with three cpus each": ("2x128M,cpus=3",),
    "four unequal nodes": (
        "node,cpus=0,mem=64M",
        "node,cpus=1,mem=128M",
        "node,cpus=2,mem=96M",
        "node,cpus=3,mem=224M",
    ),
    "2x3G": ("2x3G",),
    "a memoryless node": (
        "node,cpus=0,mem=128M",
        "node,cpus=1",
        "node,cpus=2,mem=64M",
    ),
    "nodes without a cpu": (
        "node,mem=96M",
        "node,cpus=0-1,mem=64M",
        "node,mem=32M",
    ),
}


def boot(name: str, script: str) -> Guest:
    """The machine called `name` with `script` of the package entered."""
    return boot_image(Machine(Topology.parse(*MACHINES[name])), script)
