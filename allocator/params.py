# SPDX-License-Identifier: GPL-2.0-only
"""The kernel command line: which parameters 4.20 knows, what they mean, how it complains.

The line is split as next_arg() of kernel/params.c does (quotes, `--`), and read twice as the kernel
does: `parse_early_param` in setup_arch(), `parse_args` later. Each parameter goes to its handler,
which enters what was asked into a `KernelParams`. The handlers follow the
kernel's early_param() and __setup() functions, number syntax included (`memparse`): a handler that
refuses its value gives "Malformed early option", most others say why in their own words.

Parameters that change the e820 map (`mem=`, `memmap=`) are kept in order as `e820_ops`, because
each works on what the one before it left; `e820_setup` applies them. Parameters that belong to
parts of Linux that are not here (consoles, drivers) are accepted in silence, unknown ones are
reported the way later kernels do and kept for init. One parameter is ours: `deferred_meminit=on`,
`off` or `auto` stands for a build option of 4.20 (see `deferred_init`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .cmdline import U64, memparse, simple_strtoull, split_cmdline
from .mm_types import PAGE_SHIFT
from .mmzone import MAX_ORDER
from .printk import CONSOLE_LOGLEVEL_DEBUG, CONSOLE_LOGLEVEL_QUIET, KERN_NOTICE, Printk

COMMAND_LINE_SIZE = 2048
E820_RAM, E820_RESERVED, E820_ACPI, E820_PRAM = 1, 2, 3, 12


@dataclass(frozen=True)
class E820Op:
    """One change of the e820 map: `kind` is "exactmap", "add", "remove" or "update"; bytes."""

    kind: str
    start: int = 0
    size: int = 0
    old_type: int = 0
    new_type: int = 0


@dataclass
class KernelParams:
    """What the command line asks for; sizes in bytes unless named pages."""

    cmdline: str = ""
    e820_ops: list[E820Op] = field(default_factory=list)
    user_defined_map: bool = False
    kernelcore_pages: int = 0
    kernelcore_percent: int = 0
    movablecore_pages: int = 0
    movablecore_percent: int = 0
    mirrored_kernelcore: bool = False
    numa_off: bool = False
    numa_noacpi: bool = False
    numa_fake: str | None = None
    cma_size: int | None = None
    cma_base: int = 0
    cma_limit: int = 0
    reserve_low: int = 64 << 10
    gbpages: bool = True
    memblock_debug: bool = False
    nr_cpus: int | None = None
    max_cpus: int | None = None
    transparent_hugepage: str = "madvise"
    hashdist: bool = True
    debug_pagealloc: bool = False
    debug_guardpage_minorder: int = 0
    page_poison: bool = False
    page_owner: bool = False
    fail_page_alloc: str | None = None
    deferred_meminit: str = "auto"
    unknown: list[str] = field(default_factory=list)
    init_args: list[str] = field(default_factory=list)


# --- handlers: (params, value, printk) -> False when the value is malformed --------------------
Handler = Callable[[KernelParams, "str | None", Printk], bool]


def _core(params: KernelParams, value: str | None, printk: Printk, which: str) -> bool:
    if value is None:
        return False
    amount, at = simple_strtoull(value)
    if value[at : at + 1] == "%":
        if amount > 100:
            printk.warn(f"WARNING: {which}={value} is more than all of memory")
        setattr(params, f"{which}_percent", amount)
    else:
        setattr(params, f"{which}_pages", memparse(value)[0] >> PAGE_SHIFT)
        setattr(params, f"{which}_percent", 0)
    return True


def _kernelcore(params: KernelParams, value: str | None, printk: Printk) -> bool:
    if value is not None and "mirror" in value.split(","):
        params.mirrored_kernelcore = True
        return True
    return _core(params, value, printk, "kernelcore")


def _movablecore(params: KernelParams, value: str | None, printk: Printk) -> bool:
    return _core(params, value, printk, "movablecore")


def _mem(params: KernelParams, value: str | None, printk: Printk) -> bool:
    if value is None:
        return False
    if value == "nopentium":
        printk.warn("mem=nopentium ignored! (only supported on x86_32)")
        return False
    params.user_defined_map = True
    size, _ = memparse(value)
    if size == 0:
        return False
    params.e820_ops.append(E820Op("remove", size, U64 - size, old_type=E820_RAM))
    return True


def _memmap_one(params: KernelParams, text: str) -> None:
    """One comma-separated part of memmap= (arch/x86/kernel/e820.c parse_memmap_one)."""
    ops = params.e820_ops
    if text.startswith("exactmap"):
        params.user_defined_map = True
        ops.append(E820Op("exactmap"))
        return
    size, at = memparse(text)
    if at == 0:
        return
    params.user_defined_map = True
    mark = text[at : at + 1]
    if mark in ("@", "#", "$", "!"):
        start, _ = memparse(text, at + 1)
        kind = {"@": E820_RAM, "#": E820_ACPI, "$": E820_RESERVED, "!": E820_PRAM}[mark]
        ops.append(E820Op("add", start, size, new_type=kind))
    elif mark == "%":
        start, at = memparse(text, at + 1)
        old = new = 0
        if text[at : at + 1] == "-":
            old, at = simple_strtoull(text, at + 1)
        if text[at : at + 1] == "+":
            new, at = simple_strtoull(text, at + 1)
        if at != len(text):
            return
        old, new = old & 0xFFFFFFFF, new & 0xFFFFFFFF
        if old and new:
            ops.append(E820Op("update", start, size, old, new))
        elif new:
            ops.append(E820Op("add", start, size, new_type=new))
        else:
            ops.append(E820Op("remove", start, size, old_type=old))
    else:
        ops.append(E820Op("remove", size, U64 - size, old_type=E820_RAM))


def _memmap(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    for part in (value or "").split(",") if value is not None else ():
        _memmap_one(params, part)
    return True


def _numa(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    if value is None:
        return False
    if value.startswith("off"):
        params.numa_off = True
    if value.startswith("fake="):
        params.numa_fake = value[5:]
    if value.startswith("noacpi"):
        params.numa_noacpi = True
    return True


def _cma(params: KernelParams, value: str | None, printk: Printk) -> bool:
    if value is None:
        printk.err("cma: Config string not provided")
        return False
    params.cma_size, at = memparse(value)
    if value[at : at + 1] != "@":
        return True
    params.cma_base, at = memparse(value, at + 1)
    if value[at : at + 1] != "-":
        params.cma_limit = params.cma_base + params.cma_size
        return True
    params.cma_limit, _ = memparse(value, at + 1)
    return True


def _reservelow(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    if value is None:
        return False
    params.reserve_low = min(max(memparse(value)[0], 4096), 640 << 10)
    return True


def _strtobool(value: str | None) -> bool | None:
    """kstrtobool: y, Y, 1, on / n, N, 0, of; None for anything else."""
    if value:
        head = value[:2].lower()
        if head[0] in "y1" or head == "on":
            return True
        if head[0] in "n0" or head == "of":
            return False
    return None


def _boolean(name: str) -> Handler:
    def handler(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
        on = _strtobool(value)
        if on is not None:
            setattr(params, name, on)
        return on is not None

    return handler


def _page_owner(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    if value is None:
        return False
    if value == "on":
        params.page_owner = True
    return True


def _guardpage(params: KernelParams, value: str | None, printk: Printk) -> bool:
    if not value or not value.isascii() or not value.isdigit() or int(value) > MAX_ORDER // 2:
        printk.err("Bad debug_guardpage_minorder value")
        return True
    params.debug_guardpage_minorder = int(value)
    printk(f"Setting debug_guardpage_minorder to {value}")
    return True


def _zonelist_order(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    if value is None:
        return True
    if value[:1] not in ("d", "D", "n", "N"):
        printk.warn(f"Ignoring unsupported numa_zonelist_order value:  {value}")
        return False
    return True


def _loglevel(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    if not value or not value.isascii() or not value.isdigit():
        return False
    printk.console_loglevel = int(value)
    return True


def _quiet(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    printk.console_loglevel = CONSOLE_LOGLEVEL_QUIET
    return True


def _debug(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    printk.console_loglevel = CONSOLE_LOGLEVEL_DEBUG
    return True


def _ignore_loglevel(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    printk.ignore_loglevel = True
    printk("debug: ignoring loglevel setting.")
    return True


def _memblock(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    if value and "debug" in value:
        params.memblock_debug = True
    return True


def _flag(name: str, on: bool) -> Handler:
    def handler(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
        setattr(params, name, on)
        return True

    return handler


def _count(name: str) -> Handler:
    def handler(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
        if not value or not value.isascii() or not value.isdigit():
            return False
        setattr(params, name, int(value))
        return True

    return handler


def _thp(params: KernelParams, value: str | None, printk: Printk) -> bool:
    if value in ("always", "madvise", "never"):
        params.transparent_hugepage = value
    else:
        printk.warn("transparent_hugepage= cannot parse, ignored")
    return True


def _deferred_meminit(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    """Ours, in place of CONFIG_DEFERRED_STRUCT_PAGE_INIT."""
    if value not in ("on", "off", "auto"):
        return False
    params.deferred_meminit = value
    return True


def _fail_page_alloc(params: KernelParams, value: str | None, printk: Printk) -> bool:  # noqa: ARG001
    params.fail_page_alloc = value or ""
    return True


EARLY_PARAMS: dict[str, Handler] = {
    "kernelcore": _kernelcore,
    "movablecore": _movablecore,
    "mem": _mem,
    "memmap": _memmap,
    "numa": _numa,
    "cma": _cma,
    "reservelow": _reservelow,
    "gbpages": _flag("gbpages", True),
    "nogbpages": _flag("gbpages", False),
    "memblock": _memblock,
    "nr_cpus": _count("nr_cpus"),
    "maxcpus": _count("max_cpus"),
    "debug_pagealloc": _boolean("debug_pagealloc"),
    "debug_guardpage_minorder": _guardpage,
    "page_poison": _boolean("page_poison"),
    "page_owner": _page_owner,
    "deferred_meminit": _deferred_meminit,
    "numa_zonelist_order": _zonelist_order,
    "loglevel": _loglevel,
    "quiet": _quiet,
    "debug": _debug,
    "ignore_loglevel": _ignore_loglevel,
}
SETUP_PARAMS: dict[str, Handler] = {
    "transparent_hugepage": _thp,
    "fail_page_alloc": _fail_page_alloc,
    "hashdist": lambda params, value, printk: True,  # noqa: ARG005
}
# fmt: off
IGNORED_PARAMS = frozenset((
    "acpi", "apic", "audit", "cgroup_disable", "console", "earlycon", "earlyprintk", "init",
    "initrd", "kaslr", "lapic", "log_buf_len", "mitigations", "mminit_loglevel", "noapic",
    "nokaslr", "nopti", "norandmaps", "nosmap", "nosmep", "nosmp", "numa_balancing",
    "page_table_isolation", "panic", "percpu_alloc", "print_time", "pti", "rdinit", "ro", "root",
    "rootflags", "rootfstype", "rw", "selinux", "slub_debug", "spectre_v2", "swapaccount",
    "swiotlb", "tsc", "vga",
))
# fmt: on


def parse_early_param(cmdline: str, printk: Printk) -> KernelParams:
    """What the early parameters of `cmdline` ask for (setup_arch()'s pass over the line).

    Complaints go to `printk`; nothing here raises."""
    params = KernelParams(cmdline=cmdline[: COMMAND_LINE_SIZE - 1])
    for name, value in _kernel_words(params)[0]:
        early = EARLY_PARAMS.get(name.replace("-", "_"))
        if early and not early(params, value, printk):
            printk.warn(f"Malformed early option '{name}'")
    return params


def parse_args(params: KernelParams, printk: Printk) -> None:
    """start_kernel()'s pass: the __setup() parameters; unknown ones are reported and kept."""
    words, init_words = _kernel_words(params)
    params.init_args = [_spell(*word) for word in init_words]
    params.unknown = []
    for name, value in words:
        key = name.replace("-", "_")
        setup = SETUP_PARAMS.get(key)
        if setup:
            setup(params, value, printk)
        elif key not in EARLY_PARAMS and key not in IGNORED_PARAMS and "." not in name:
            params.unknown.append(_spell(name, value))
    if params.unknown:
        printk(
            f'Unknown kernel command line parameters "{" ".join(params.unknown)}", '
            "will be passed to user space.",
            KERN_NOTICE,
        )


Words = list[tuple[str, "str | None"]]


def _kernel_words(params: KernelParams) -> tuple[Words, Words]:
    """Arguments before and behind `--`."""
    words = split_cmdline(params.cmdline)
    names = [name for name, _ in words]
    cut = names.index("--") if "--" in names else len(words)
    return words[:cut], words[cut + 1 :]


def _spell(name: str, value: str | None) -> str:
    return name if value is None else f"{name}={value}"
