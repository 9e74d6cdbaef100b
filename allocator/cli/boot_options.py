# SPDX-License-Identifier: GPL-2.0-only
"""The options of `numalab boot` that only disk images and Multiboot kernels have.

They are declared apart from what serves them (`boot_pc`), so that booting a script need not load
it."""

from __future__ import annotations

import argparse

from machine import Machine, UsageError

DEFAULT_SECONDS = 3600.0
"""Seconds of the guest's own time, when the user names no limit."""


def add_files_argument(parser: argparse.ArgumentParser) -> None:
    """The option of boot scripts that name their disk."""
    parser.add_argument(
        "--files",
        metavar="FILE[,ro]",
        help="a file of the host is the disk on which the script's files lie (made, say, by"
        " truncate -s 64M FILE); ro: it is not written to",
    )


def attach_files(args: argparse.Namespace, machine: Machine) -> None:
    """Attach what --files names. Raises `InputError`, `ImageError`."""
    if args.files is not None:
        from ..host_disk import attach_host_disk

        path = args.files.removesuffix(",ro")
        attach_host_disk(machine, path, read_only=path != args.files)


def add_pc_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of disk images and Multiboot kernels."""
    group = parser.add_argument_group("disk images and Multiboot kernels")
    kind = group.add_mutually_exclusive_group()
    kind.add_argument("--floppy", action="store_true", help="the image is a floppy disk (DL = 0)")
    kind.add_argument("--disk", action="store_true", help="the image is a hard disk (DL = 80h)")
    group.add_argument("--read-only", action="store_true", help="the medium is write protected")
    group.add_argument(
        "--write-back", action="store_true", help="keep in the file what the guest has written"
    )
    group.add_argument(
        "--keys",
        metavar="FILE",
        help="type this text, {Enter} {F1} {Ctrl-C} ...; -: keys from the terminal",
    )
    group.add_argument(
        "--module",
        metavar="FILE[ ARGUMENTS]",
        action="append",
        default=[],
        help="load this file for a Multiboot kernel; may be given several times",
    )
    group.add_argument("--kernel", action="store_true", help="with the page allocator beside it")
    group.add_argument("--reboot", action="store_true", help="a reset boots again")
    add_look_arguments(group)


def add_look_arguments(group: argparse._ArgumentGroup) -> None:
    """What can be asked of any PC, whether booted or resumed."""
    group.add_argument("--screen", action="store_true", help="print the text screen at the end")
    group.add_argument("--registers", action="store_true", help="print the CPUs' registers, too")
    group.add_argument(
        "--max-time",
        metavar="S",
        type=float,
        default=DEFAULT_SECONDS,
        help=f"stop after S seconds of the guest's own time (default: {DEFAULT_SECONDS:,})",
    )


def wants_disk(args: argparse.Namespace) -> bool:
    """True if the options say that the file is a disk."""
    return bool(args.floppy or args.disk or args.read_only or args.write_back)


def check_image_arguments(args: argparse.Namespace) -> None:
    """Raise `UsageError` for an option that makes no sense with a guest that has the whole PC."""
    if args.files is not None:
        raise UsageError("--files is for boot scripts; a disk image brings its own files")


def check_script_arguments(args: argparse.Namespace) -> None:
    """Raise `UsageError` for an option that makes no sense with a boot script."""
    for name in ("keys", "module", "kernel", "reboot"):
        if getattr(args, name):
            raise UsageError(f"--{name} is for disk images and Multiboot kernels")
