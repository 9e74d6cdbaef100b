# SPDX-License-Identifier: GPL-2.0-only
"""The part of `numalab boot` that boots disk images and Multiboot kernels.

The guest's console and serial port are standard output; `--screen` adds the text screen as it is at
the end, `--registers` the registers and the mode of every CPU. The last line, on standard error,
says how it ended. What the guest writes to its disk stays in the machine (and in a snapshot) unless
`--write-back` puts it into the file."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType

from firmware import Image
from firmware.bios import scan_codes
from firmware.diskimage import open_disk
from firmware.entry import Module
from firmware.images import MAX_IMAGE
from firmware.source import read_file
from machine import InputError, Machine, OutputError, Stop, UsageError
from machine.drive import SECTOR, Drive
from machine.outfile import check_writable

from ..pc_boot import PcGuest, boot_pc
from ..pc_run import run_pc
from .console import LiveConsole, Progress
from .inspect_basic import Inspection
from .report import inspect_guest, save_guest
from .terminal import Terminal

TURN = 0.1
MAX_KEYS = 1 << 20
"""Bytes of a file of keys."""


def load_disk(args: argparse.Namespace, path: Path) -> Drive:
    """The drive that the options describe. Raises `InputError`, `ImageError`."""
    floppy = True if args.floppy else False if args.disk else None
    drive = open_disk(path, floppy=floppy, read_only=args.read_only)
    if drive.size % SECTOR and not args.quiet:
        print(
            f"numalab: {path}: {drive.size:,} bytes are not whole sectors,"
            f" the last one is filled up with zeros",
            file=sys.stderr,
        )
    return drive


def run_image(
    args: argparse.Namespace, machine: Machine, what: Drive | Image, wanted: list[Inspection]
) -> int:
    """Boot `what` on `machine` and report; the exit code."""
    keys = _keys(args.keys)
    sink = _log_line if args.log else None
    modules = _modules(args.module, isinstance(what, Drive))
    append = " ".join(args.append)
    guest = boot_pc(machine, what, append, kernel=args.kernel, sink=sink, modules=modules)
    machine.pc.keyboard.press(keys)
    machine.no_reboot = not args.reboot
    code = run_and_report(args, guest, wanted)
    if args.write_back and isinstance(what, Drive):
        what.write_back()
    return code


def _modules(wanted: list[str], disk: bool) -> list[Module]:
    """The files of --module, each with the line its kernel is told. Raises `UsageError`,
    `InputError`, `ImageError`."""
    if wanted and disk:
        raise UsageError("--module is for Multiboot kernels")
    return [
        Module(read_file(Path(line.split(" ")[0]), MAX_IMAGE, "module"), line) for line in wanted
    ]


def run_and_report(args: argparse.Namespace, guest: PcGuest, wanted: list[Inspection]) -> int:
    """Run `guest`, show what was asked for, and say how it ended; the exit code."""
    if args.save is not None:
        check_writable(args.save)
    machine = guest.machine
    progress = Progress(sys.stderr)
    console = LiveConsole(progress=progress)
    machine.console.sink = machine.serial.sink = console.write
    try:
        stop, interrupted = _run(args, machine, progress)
    finally:
        progress.clear()
        console.flush()
    _show(args, machine)
    unsaved = save_guest(args.save, machine)
    missing = inspect_guest(machine, wanted)
    return _last_line(args, machine, stop, interrupted) or unsaved or missing


def _run(args: argparse.Namespace, machine: Machine, progress: Progress) -> tuple[Stop, bool]:
    """Run to the end; how it ended, and whether that was by Ctrl-C. With a terminal for a keyboard,
    a guest that only waits gets the next key."""
    begun, done = time.monotonic(), 0
    budget = args.max_instructions or None
    with _interrupts() as interrupted, _terminal(args, machine) as terminal:

        def turn(instructions: int) -> float | None:
            now = time.monotonic()
            progress.update(now - begun, done + instructions)
            if terminal is not None:
                terminal.poll(0)
            over = args.timeout is not None and now - begun >= args.timeout
            return None if interrupted or over else now + TURN

        while True:
            left = None if budget is None else budget - done
            stop = run_pc(machine, left, args.max_time, turn, args.threads)
            done += stop.instructions
            if stop.kind != "idle" or terminal is None:
                break
            _show(args, machine)
            while not (interrupted or terminal.ended or terminal.poll(TURN)):
                pass
            if interrupted or terminal.ended:
                break
    return replace(stop, instructions=done), bool(interrupted)


def _terminal(
    args: argparse.Namespace, machine: Machine
) -> AbstractContextManager[Terminal | None]:
    """The terminal as a keyboard, if that was asked for."""
    if getattr(args, "keys", None) == "-" and sys.stdin is not None and sys.stdin.isatty():
        return Terminal(machine.pc.keyboard)
    return nullcontext()


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-C ends the run after the current turn: the list is then no longer empty."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    try:
        old = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread, where none arrive
        yield seen
        return
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, old)


def _keys(path: str | None) -> list[int]:
    """The scan codes of the text in a file, or on standard input if that is no terminal. Raises
    `InputError`, `ImageError`."""
    if path is None or (path == "-" and (sys.stdin is None or sys.stdin.isatty())):
        return []
    try:
        with open(sys.stdin.fileno() if path == "-" else path, "rb", closefd=path != "-") as file:
            data = file.read(MAX_KEYS + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_KEYS:
        raise InputError(f"{path}: more than {MAX_KEYS:,} bytes of keys")
    return list(scan_codes(data.decode("utf-8", "replace"), path))


def _log_line(line: str) -> None:
    print(line, file=sys.stderr)


def _show(args: argparse.Namespace, machine: Machine) -> None:
    """The screen and the registers, on standard output."""
    lines = []
    if args.screen:
        if machine.pc.vga.text:
            lines.append(machine.pc.screen.text())
        else:
            lines.append("(the screen shows graphics)")
    if args.registers:
        lines += [summary(machine, cpu) for cpu in range(len(machine.cpus))]
    if lines:
        try:
            print("\n".join(lines), flush=True)
        except (OSError, ValueError, UnicodeError) as error:
            raise OutputError(f"standard output: {error}") from None


_ROWS = ("rax rbx rcx rdx", "rsi rdi rbp rsp", "cr0 cr2 cr3 cr4", "efer rflags")
_WIDE = ("r8 r9 r10 r11", "r12 r13 r14 r15")


def summary(machine: Machine, number: int) -> str:
    """Mode, place and registers of a CPU, as lines of text."""
    cpu = machine.cpus[number]
    if cpu.mode == "off":
        return f"cpu {number}: never started"
    regs = cpu.regs
    head = f"cpu {number}: {cpu.state}, {cpu.mode} mode, {regs.cs:04x}:{cpu.rip:x}"
    rows = [head]
    long = bool(regs.efer & 1 << 10)
    for row in (*_ROWS[:2], *(_WIDE if long else ()), *_ROWS[2:]):
        rows.append("  ".join(f"{name:>6} {regs[name]:016x}" for name in row.split()))
    names = ("cs", "ss", "ds", "es", "fs", "gs")
    rows.append("  ".join(f"{name:>6} {regs[name]:04x}" for name in names))
    tables = ("gdtr", "idtr")
    rows.append(
        "  ".join(f"{t:>6} {regs[t + '_base']:016x}+{regs[t + '_limit']:04x}" for t in tables)
    )
    return "\n".join(rows)


def _last_line(args: argparse.Namespace, machine: Machine, stop: Stop, interrupted: bool) -> int:
    """Say how it ended; the exit code."""
    done = f"after {stop.instructions:,} instructions"
    if interrupted and stop.kind in ("timeout", "idle"):
        print(f"numalab: interrupted {done} (exit 130)", file=sys.stderr)
        return 130
    text = {
        "exit": f"exit {stop.code} {done}",
        "halt": f"halted {done}",
        "loop": f"{stop.message} {done}",
        "idle": f"{stop.message} ({done})",
        "reset": f"reset {done}: {stop.message}",
        "timeout": f"time limit of {args.timeout} s spent {done} (exit {stop.code})",
    }.get(stop.kind, f"{stop.message} (exit {stop.code})")
    quiet = args.quiet and stop.kind in ("exit", "halt", "loop", "idle", "reset")
    if stop.kind == "fault" and not args.registers:
        print(summary(machine, stop.cpu), file=sys.stderr)
    if not quiet:
        print(f"numalab: {text}", file=sys.stderr)
    return stop.code
