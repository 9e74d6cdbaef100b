# SPDX-License-Identifier: GPL-2.0-only
"""The guest that `inspect` and `explain` look at: a snapshot, a script or a disk image run to its
end, or a machine that has only booted its kernel.

Words of the command line come in any order here, because crash's commands have options of their own
(`kmem -f`, `rd -8 ...`): `split_words` takes out what is numalab's and leaves the rest as it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from firmware import PendingImage, power_on
from firmware.diskimage import is_disk_image, open_disk
from machine import BringUpError, Machine, PhysicalMemory, UsageError
from machine.snapshot import is_snapshot, load_snapshot

from ..boot_image import boot_image
from ..init_main import start_kernel
from ..kernel_globals import G_LAYOUT_VERSION, G_MAGIC, G_PGD, KERNEL_MAGIC, LAYOUT_VERSION
from ..mm_types import PAGE_SIZE
from ..scripts import find_script
from .boot import DEFAULT_BUDGET, add_machine_arguments, topology_from
from .run_loop import run_guest

SNAPSHOT_SUFFIXES = (".snap", ".snapshot")
"""Files of these names are read as snapshots even if they do not begin like one, so that a damaged
one is refused for what it is."""


@dataclass(frozen=True)
class Target:
    """A guest at rest. `ended`: how its script ended, "" where none ran or it ended well."""

    machine: Machine
    ended: str = ""

    @property
    def memory(self) -> PhysicalMemory:
        """Its RAM."""
        return self.machine.memory

    def need_kernel(self, what: str) -> None:
        """Raises BringUpError for a machine without page allocator, naming `what` was to be done.

        One whose kernel the guest has overwritten in part still has one, with something to find."""
        memory, m = self.machine.memory, self.machine.memory.words
        if memory.is_ram(G_MAGIC << 3, PAGE_SIZE):
            if m[G_MAGIC] == KERNEL_MAGIC or (m[G_LAYOUT_VERSION] == LAYOUT_VERSION and m[G_PGD]):
                return
        raise BringUpError(f"{what}: no kernel has been booted on this machine")


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a guest to be booted, and how to show things."""
    add_machine_arguments(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--text", action="store_true", help="the kernel's own text on a terminal, too (no tables)"
    )


def split_words(
    args: argparse.Namespace, add: Callable[[argparse.ArgumentParser], None]
) -> list[str]:
    """Parses numalab's options out of `args.words` into `args`; the other words, in order.

    `add` declares the options. Raises UsageError for an option without its value.
    """
    parser = _Rest(prog="numalab", add_help=False, allow_abbrev=False)
    add(parser)
    parser.set_defaults(**{name: getattr(args, name) for name in vars(args)})
    _, rest = parser.parse_known_args(args.words, args)
    return rest


class _Rest(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(message)


def open_target(args: argparse.Namespace, name: str | None) -> Target:
    """Loads, boots or runs what `name` means; None boots a kernel and runs nothing.

    Raises the errors of `boot`, and of reading snapshots.
    """
    if name is None:
        machine = Machine(topology_from(args), quantum=args.quantum)
        power_on(machine, " ".join(args.append))
        start_kernel(machine)
        return Target(machine)
    path = find_script(name)
    if is_snapshot(path) or path.suffix in SNAPSHOT_SUFFIXES:
        return Target(_load_snapshot(path, args))
    if is_disk_image(path):
        return _run_disk(args, path)
    image = PendingImage(path)
    try:
        machine = Machine(topology_from(args), quantum=args.quantum)
    except BaseException:
        image.cancel()
        raise
    guest = boot_image(machine, image, " ".join(args.append))
    stop = run_guest(guest, DEFAULT_BUDGET).stop
    if stop.kind in ("exit", "halt"):
        return Target(machine)
    print(f"numalab: {path}: {stop.message}", file=sys.stderr)
    return Target(machine, stop.message)


def _run_disk(args: argparse.Namespace, path: Path) -> Target:
    """A disk image run to its end on a PC with the page allocator beside it."""
    from ..pc_boot import boot_pc
    from ..pc_run import run_pc

    machine = Machine(topology_from(args), quantum=args.quantum)
    boot_pc(machine, open_disk(path), " ".join(args.append), kernel=True)
    stop = run_pc(machine, DEFAULT_BUDGET)
    if stop.kind in ("exit", "halt", "loop", "idle"):
        return Target(machine)
    print(f"numalab: {path}: {stop.message}", file=sys.stderr)
    return Target(machine, stop.message)


def _load_snapshot(path: Path, args: argparse.Namespace) -> Machine:
    if args.numa or args.machine or args.machine_type or args.append:
        raise UsageError(f"{path} is a snapshot: it has its own machine and kernel parameters")
    return load_snapshot(path)
