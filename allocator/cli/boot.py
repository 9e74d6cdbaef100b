# SPDX-License-Identifier: GPL-2.0-only
"""`numalab boot`: power on a machine, bring the kernel up, run a boot script, say how it ended.

The guest's console is standard output, the kernel's log (--log) is standard error, and the last
line on standard error says how it ended. SCRIPT is assembly (.S), a static ELF executable or a flat
binary (.bin); the bare name of a script that comes with numalab will do:
first_light.S e820.S walk_freelist.S exhaust.S smp.S (frames), demand_paging.S cow_fork.S
file_cache.S numa_policy.S (processes), swap_storm.S oom.S memcg.S fragment.S offline.S (pressure)

SCRIPT may also be a disk image (.img, or any file with 55AA at the end of its first sector) or a
Multiboot kernel: these get a plain PC with a BIOS, and the whole RAM.

WHAT to look at after the run: e820 srat slit zones buddyinfo zoneinfo page:PFN
freelist:NODE/ZONE/ORDER hexdump:ADDRESS,LENGTH
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from firmware import PendingImage
from firmware.diskimage import is_disk_image
from firmware.images import KINDS_MULTIBOOT
from machine import Machine, Stop, Topology, UsageError
from machine.outfile import check_writable

from ..kernel_globals import G_LOG_HEAD, G_NR_CPU_IDS
from ..layout import CPU_BLOCKS, CPU_EVENTS, CPU_WORDS
from ..mmzone import MAX_NR_ZONES, NR_CPUS
from ..printk import KERN_WARNING
from ..scripts import find_script
from ..vm_events import PGALLOC, PGFREE
from .boot_options import (
    add_files_argument,
    add_pc_arguments,
    attach_files,
    check_image_arguments,
    check_script_arguments,
    wants_disk,
)
from .console import LiveConsole, Progress
from .engine_option import add_engine_argument
from .report import inspect_guest, save_guest

if TYPE_CHECKING:
    from ..boot_image import Guest
    from .inspect_basic import Inspection
    from .run_loop import Outcome, Runnable

HELP = "boot a machine and run a script on it"
DEFAULT_NUMA = "2x128M"
MAX_QUANTUM = 10_000_000
DEFAULT_BUDGET = 1_000_000_000
"""Instructions, when the user names no budget."""


def _count(text: str) -> int:
    """A whole number, at least 0; underscores and commas may group it."""
    try:
        value = int(text.replace(",", "").replace("_", ""), 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0")
    return value


def _quantum(text: str) -> int:
    value = _count(text)
    if not 1 <= value <= MAX_QUANTUM:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and {MAX_QUANTUM:,}")
    return value


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that describe a machine."""
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--numa",
        metavar="SPEC",
        action="append",
        default=[],
        help="2x128M, or QEMU's node,nodeid=0,cpus=0-1,mem=128M and dist,src=0,dst=1,val=20; may be"
        f" given several times (default: {DEFAULT_NUMA})",
    )
    group.add_argument("--machine", metavar="FILE", help="a TOML file that describes the machine")
    group.add_argument(
        "--machine-type", choices=("pc", "q35"), help="the board: i440FX (default) or Q35"
    )
    group.add_argument(
        "--append",
        metavar="PARAMETERS",
        action="append",
        default=[],
        help="kernel parameters, as in kernelcore=50%%",
    )
    group.add_argument(
        "--quantum",
        metavar="N",
        type=_quantum,
        default=10_000,
        help="instructions of a CPU's turn (default: 10,000)",
    )
    add_engine_argument(group)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `numalab boot`."""
    parser.add_argument(
        "script", metavar="SCRIPT", help="boot script, ELF file, flat binary or disk image"
    )
    add_machine_arguments(parser)
    add_files_argument(parser)
    add_run_arguments(parser)
    add_pc_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a run, whether a script is booted or a snapshot goes on."""
    parser.add_argument(
        "--max-instructions",
        metavar="N",
        type=_count,
        default=DEFAULT_BUDGET,
        help=f"stop after N instructions of all CPUs together (default: {DEFAULT_BUDGET:,};"
        " 0: never)",
    )
    parser.add_argument(
        "--timeout", metavar="S", type=_seconds, help="stop after about S seconds of the host's"
    )
    parser.add_argument(
        "--threads",
        action="store_true",
        help="run each CPU in a thread of its own: faster, but no two runs are the same",
    )
    parser.add_argument("--log", action="store_true", help="the kernel's log on standard error")
    parser.add_argument("--quiet", action="store_true", help="no last line, no warnings")
    parser.add_argument(
        "--inspect",
        metavar="WHAT",
        action="append",
        default=[],
        help="print this after the run; may be given several times",
    )
    parser.add_argument(
        "--save", metavar="FILE", help="keep the machine as it is after the run (numalab resume)"
    )


def topology_from(args: argparse.Namespace) -> Topology:
    """The topology that the machine options describe. Raises `TopologyError`, `InputError`,
    `UsageError`."""
    if args.machine is not None:
        if args.numa or args.machine_type:
            raise UsageError("--machine describes the whole machine: no --numa, no --machine-type")
        return Topology.from_toml(args.machine)
    return Topology.parse(*(args.numa or [DEFAULT_NUMA]), machine_type=args.machine_type or "pc")


def run(args: argparse.Namespace) -> int:
    """`numalab boot`; the exit code."""
    wanted = inspections(args.inspect)
    path = find_script(args.script)
    if wants_disk(args) or is_disk_image(path):
        from .boot_pc import load_disk, run_image

        check_image_arguments(args)
        drive = load_disk(args, path)
        return run_image(args, Machine(topology_from(args), quantum=args.quantum), drive, wanted)
    progress = Progress(sys.stderr)
    console = LiveConsole(progress=progress)
    image = PendingImage(path)
    kernel = image.binary
    if kernel is not None and kernel.kind in KINDS_MULTIBOOT:
        from .boot_pc import run_image

        check_image_arguments(args)
        return run_image(args, Machine(topology_from(args), quantum=args.quantum), kernel, wanted)
    check_script_arguments(args)
    try:
        # The kernel is loaded while the assembler, if it is needed, works in its own process.
        from ..boot_image import boot_image

        machine = Machine(topology_from(args), quantum=args.quantum)
    except BaseException:
        image.cancel()
        raise
    machine.console.sink = machine.serial.sink = console.write
    guest = boot_image(machine, image, " ".join(args.append), _log_line if args.log else None)
    if not args.log and not args.quiet:
        _warn(guest)
    attach_files(args, machine)
    return run_and_report(args, guest, console, progress, wanted)


def run_and_report(
    args: argparse.Namespace,
    guest: Runnable,
    console: LiveConsole,
    progress: Progress,
    wanted: list[Inspection],
) -> int:
    """Run `guest` with the options of `add_run_arguments`, print what was asked for, and say how it
    ended; the exit code. Raises `OutputError` when --save names what cannot be written."""
    from .run_loop import run_guest

    if args.save is not None:
        check_writable(args.save)  # rather than after a long run
    m = guest.machine.memory.words
    reports = _LogReports(guest)
    before = page_counts(m)

    def between(seconds: float, instructions: int) -> None:
        if args.log and reports.waiting():
            console.flush()
            progress.clear()
            reports.print_new()
        progress.update(seconds, instructions)

    try:
        budget = args.max_instructions or None
        outcome = run_guest(guest, budget, args.timeout, between, args.threads)
    finally:
        progress.clear()
        console.flush()
    if guest.machine.host_disk is not None:
        guest.machine.host_disk.detach()
    unsaved = save_guest(args.save, guest.machine)
    missing = inspect_guest(guest.machine, wanted)
    allocated, freed = (now - then for now, then in zip(page_counts(m), before, strict=True))
    plural = "" if allocated == 1 else "s"
    pages = f"{allocated:,} page{plural} allocated, {freed:,} freed"
    return _last_line(args, guest, outcome, pages) or unsaved or missing


def inspections(texts: list[str]) -> list[Inspection]:
    """What --inspect asks for. Raises `UsageError`."""
    if not texts:
        return []
    from .inspect_basic import parse_inspection

    return [parse_inspection(text) for text in texts]


def _log_line(line: str) -> None:
    print(line, file=sys.stderr)


def _warn(guest: Guest) -> None:
    """What the kernel found wrong at boot is worth a line even to those who do not want its log."""
    printk = guest.booted.printk
    for line, level in zip(printk.lines, printk.levels, strict=True):
        if level <= KERN_WARNING:
            print(f"numalab: kernel: {line[15:].strip()}", file=sys.stderr)
    for parameter in guest.booted.params.unknown:
        print(f"numalab: kernel: unknown parameter '{parameter}'", file=sys.stderr)


class _LogReports:
    """The reports that the allocator leaves in the log ring while the guest runs."""

    def __init__(self, guest: Runnable) -> None:
        self._m = guest.machine.memory.words
        self._seen = self._m[G_LOG_HEAD]

    def waiting(self) -> bool:
        """True if there are any that have not been printed."""
        return self._m[G_LOG_HEAD] != self._seen

    def print_new(self) -> None:
        """Print them. The ring is guest memory: what is in it may be anything."""
        from ..page_report import log_lines

        first, self._seen = self._seen, self._m[G_LOG_HEAD]
        try:
            for line in log_lines(self._m, first):
                _log_line(line)
        except (IndexError, ValueError, OverflowError) as error:
            _log_line(f"the log ring is damaged ({error})")


def page_counts(m: memoryview) -> tuple[int, int]:
    """Pages allocated and pages freed since power-on, from the kernel's event counters."""
    allocated = freed = 0
    for cpu in range(min(max(m[G_NR_CPU_IDS], 0), NR_CPUS)):
        events = CPU_BLOCKS + cpu * CPU_WORDS + CPU_EVENTS
        allocated += sum(m[events + PGALLOC + zid] for zid in range(MAX_NR_ZONES))
        freed += m[events + PGFREE]
    return allocated, freed


def _last_line(args: argparse.Namespace, guest: Runnable, outcome: Outcome, pages: str) -> int:
    """Say how it ended; the exit code."""
    stop = outcome.stop
    done = f"after {stop.instructions:,} instructions"
    if outcome.interrupted and stop.kind not in ("exit", "halt"):
        print(f"numalab: interrupted {done} (exit 130)", file=sys.stderr)
        return 130
    if stop.kind == "exit" and not args.quiet:
        print(f"numalab: exit {stop.code} {done}, {pages}", file=sys.stderr)
    elif stop.kind == "halt" and not args.quiet:
        print(f"numalab: halted {done}, {pages}", file=sys.stderr)
    elif stop.kind not in ("exit", "halt"):
        if stop.registers:
            print(_registers(guest, stop), file=sys.stderr)
        print(f"numalab: {stop.message} (exit {stop.code})", file=sys.stderr)
    return stop.code


_ROWS = (
    "rip rsp rflags",
    "rax rbx rcx rdx",
    "rsi rdi rbp r8",
    "r9 r10 r11 r12",
    "r13 r14 r15",
    "cr0 cr3 cr4",
)


def _registers(guest: Runnable, stop: Stop) -> str:
    """The registers of the CPU that faulted, and the label in front of RIP."""
    rows = []
    for row in _ROWS:
        names = [name for name in row.split() if name in stop.registers]
        rows.append("  ".join(f"{name:>6} {stop.registers[name]:016x}" for name in names))
    if guest.image is None:
        return "\n".join(rows)
    start, end = guest.image.span
    labels = [(at, name) for name, at in guest.image.symbols.items() if start <= at <= stop.rip]
    if labels and stop.rip < end:
        at, name = max(labels)
        rows[0] += f"  in {name}+{stop.rip - at:#x}"
    return "\n".join(rows)
