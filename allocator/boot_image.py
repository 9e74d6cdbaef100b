# SPDX-License-Identifier: GPL-2.0-only
"""From a machine that is off to a boot script about to run its first instruction.

What every way of booting has in common, in the order of a PC: POST, the boot loader (which puts the
image into RAM and tells the kernel where), the kernel, and the entry into the image. Used by
`numalab boot`, by tests, and by whoever drives a machine from Python:

    guest = boot_image(Machine(Topology.parse("2x128M")), "first_light.S")
    stop = guest.machine.run()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike

from firmware import Image, PendingImage, enter_image, place_image, power_on
from machine import Machine

from .hypercall import Hypercalls
from .init_main import Booted, start_kernel
from .layout import KERNEL_IMAGE_SIZE
from .scripts import find_script


@dataclass(frozen=True)
class Guest:
    """A machine with a kernel in it and an image entered: `machine.run()` goes on from here."""

    machine: Machine
    image: Image
    booted: Booted
    hypercalls: Hypercalls


def boot_image(
    machine: Machine,
    image: Image | PendingImage | str | PathLike[str],
    append: str = "",
    sink: Callable[[str], None] | None = None,
) -> Guest:
    """POST, load `image` (a file, or one already being loaded), start the kernel with the command
    line `append`, and enter the image on CPU 0. `sink` gets the kernel's log lines as they come.

    Raises `InputError` and `ImageError` for the image, `UsageError` for the command line,
    `BringUpError` when the machine cannot be brought up.
    """
    if not isinstance(image, (Image, PendingImage)):
        image = PendingImage(find_script(image))
    try:
        power_on(machine, append)
        loaded = image.result() if isinstance(image, PendingImage) else image
    except BaseException:
        if isinstance(image, PendingImage):
            image.cancel()
        raise
    place_image(machine, loaded, KERNEL_IMAGE_SIZE)
    booted = start_kernel(machine, sink=sink)
    hypercalls = Hypercalls(machine)
    hypercalls.install(booted.stacks)
    enter_image(machine, loaded, booted.pgd, booted.stacks[0])
    return Guest(machine, loaded, booted, hypercalls)
