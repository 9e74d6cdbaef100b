# SPDX-License-Identifier: GPL-2.0-only
"""Hypercalls: how guest code asks the kernel for pages.

A CPU writes a number and up to six arguments into its mailbox, a page of guest RAM, and rings the
doorbell with one OUT. `Hypercalls` answers: it reads the words, calls the allocator on behalf of
that CPU, and leaves a result and an errno (0, or one of Linux's) before the CPU's next
instruction. The mailbox is the whole interface; no register is looked at. Where the doorbell and
the mailbox are, CPUID tells (leaf 0x40000001).

    word 0 number    words 1-6 arguments    word 7 result    word 8 errno    word 9 stack

The last word is the kernel's to fill in: the upper end of the stack that bring-up set aside for the
CPU, used when it is started without one.

Nothing a guest puts there is believed. A number, order, node, mask, frame, address or count that
makes no sense gets an errno, one call never does more than a bounded amount of work, and
an allocator whose structures the guest has overwritten stops the machine with a fault instead of
raising. The tables at the top are the ABI; `firmware/scripts/include/numalab.inc` says the same to
the assembler, and a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from firmware.boot_params import BOOT_PARAMS
from machine import Machine, PhysicalMemory, Verdict
from machine.machine import EXIT_FAULT

from .gfp import GFP_BITS_MASK, GFP_MOVABLE_MASK, gfp_zone_is_bad
from .layout import (
    CPU_BLOCKS,
    CPU_NUMA_NODE,
    CPU_ONLINE,
    CPU_WORDS,
    G_CLOCK,
    G_NODES_ONLINE,
    G_NR_CPU_IDS,
    G_PGD,
    MAILBOX_WORDS,
    MAILBOXES,
    NODE_DATA,
    PAGE_OFFSET,
    SECTION_MEM_MAP,
    mailbox_phys,
    signed,
    unsigned,
    word_of_va,
)
from .mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER,
    NR_CPUS,
    NR_FREE_PAGES,
    Z_PRESENT,
    ZONE_WORDS,
)
from .page_alloc import FREE_REFUSED, alloc_pages_nodemask, free_pages
from .pcp import drain_all_pages
from .vmstat import zone_page_state_snapshot

ENOMEM, EFAULT, EBUSY, EINVAL, ENOSYS = 12, 14, 16, 22, 38
ERRNO = {"ENOMEM": ENOMEM, "EFAULT": EFAULT, "EBUSY": EBUSY, "EINVAL": EINVAL, "ENOSYS": ENOSYS}

MAILBOX = {"NUMBER": 0, **{f"ARG{n}": n for n in range(1, 7)}, "RESULT": 7, "ERRNO": 8, "STACK": 9}
"""Word offsets in the mailbox."""

HYPERCALLS = {
    "ALLOC_PAGES": 1,  # gfp, order, nid (-1: this CPU's), nodemask (0: all)     -> PFN
    "FREE_PAGES": 2,  # pfn, order           -> 0, or 1 when references are left
    "ALLOC_BULK": 3,  # gfp, order, nid, count, buffer     -> blocks got, their PFNs in buffer
    "FREE_BULK": 4,  # order, count, buffer               -> blocks freed
    "START_CPU": 5,  # cpu, rip, rsp (0: its first stack), value of RDI     -> 0
    "YIELD": 6,  # the rest of the quantum goes to the other CPUs
    "PRINT": 7,  # address, length     -> bytes put on the console
    "EXIT": 8,  # code: the machine stops
    "INFO": 9,  # what, argument     -> see INFO
    "DRAIN_ALL_PAGES": 10,  # all per-cpu lists go back to the buddy lists
}
INFO = {
    "NR_CPUS": 0,
    "NR_NODES": 1,  # highest node id + 1
    "NODE_MASK": 2,  # nodes that have a pglist_data
    "THIS_NODE": 3,  # node of the CPU that asks
    "FREE_PAGES": 4,  # of node `argument`, deltas of all CPUs included
    "CLOCK": 5,  # modelled ns since power-on
    "PGLIST_DATA": 6,  # guest virtual address of node `argument`'s
}

BULK_MAX = 512
"""Blocks of one ALLOC_BULK or FREE_BULK: a page full of PFNs."""
PRINT_MAX = 4096
"""Bytes of one PRINT."""
NUMA_NO_NODE = -1
EXIT_CODE_MAX = 255
_MAX_PHYS = 1 << 46
_ADDRESS_MASK = 0x3FFF_FFFF_F000

Answer = tuple[int, int]
"""Result and errno."""


class RunawayCallError(Exception):
    """Raised inside a hypercall that goes round in a damaged list."""


DAMAGE = (IndexError, ValueError, OverflowError, ZeroDivisionError, RunawayCallError)
"""What the allocator raises when a guest has overwritten its structures."""


def guest_range(memory: PhysicalMemory, address: int, length: int) -> int:
    """Physical address of `length` bytes that a guest named by direct map or physical address
    (signed or not); -1 when they are not all RAM."""
    address = signed(address)
    if PAGE_OFFSET <= address < PAGE_OFFSET + _MAX_PHYS:
        address -= PAGE_OFFSET
    return address if memory.is_ram(address, length) else -1


class Hypercalls:
    """The kernel's side of the doorbell of one machine. `install` connects it.

    `calls` counts the requests served, `serving` is the number of the one being served (0: none);
    whoever runs the machine can tell from them that a call does not come to an end, and may
    raise `RunawayCallError` inside it from a signal handler.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.memory = machine.memory
        self.m = machine.memory.words
        self.calls = 0
        self.serving = 0
        self._verdict = Verdict.CONTINUE
        table: dict[str, Callable[[int, int], Answer]] = {
            "ALLOC_PAGES": self._alloc_pages,
            "FREE_PAGES": self._free_pages,
            "ALLOC_BULK": self._alloc_bulk,
            "FREE_BULK": self._free_bulk,
            "START_CPU": self._start_cpu,
            "YIELD": self._yield,
            "PRINT": self._print,
            "EXIT": self._exit,
            "INFO": self._info,
            "DRAIN_ALL_PAGES": self._drain,
        }
        self._table = {HYPERCALLS[name]: call for name, call in table.items()}

    def install(self, stacks: Sequence[int] = ()) -> None:
        """Answer the machine's doorbell from now on, and let CPUID name the mailboxes.

        `stacks`: guest virtual addresses of the upper ends of the CPUs' first stacks, by CPU; left
        out when RAM knows them already. The machine's clock goes on where bring-up left the
        kernel's.
        """
        for cpu, stack in enumerate(stacks):
            self.m[MAILBOXES + cpu * MAILBOX_WORDS + MAILBOX["STACK"]] = signed(stack)
        clock = self.machine.clock
        clock.advance(self.m[G_CLOCK] - clock.now)
        self.machine.mailbox_address = mailbox_phys
        self.machine.doorbell.handler = self.ring

    def ring(self, cpu: int, value: int) -> Verdict:  # noqa: ARG002
        """CPU `cpu` wants the request in its mailbox served (the value it wrote means nothing).

        Never raises for anything a guest can do."""
        if not 0 <= cpu < NR_CPUS:
            return Verdict.CONTINUE
        m = self.m
        box = MAILBOXES + cpu * MAILBOX_WORDS
        number = m[box]
        self.calls += 1
        self._verdict = Verdict.CONTINUE
        m[G_CLOCK] = self.machine.clock.now
        call = self._table.get(number)
        if call is None:
            result, errno = 0, ENOSYS
        else:
            self.serving = number
            try:
                result, errno = call(cpu, box + 1)
            except DAMAGE as error:
                self._oops(cpu, number, error)
                return Verdict.CONTINUE
            finally:
                self.serving = 0
        m[box + MAILBOX["RESULT"]] = signed(result)
        m[box + MAILBOX["ERRNO"]] = errno
        return self._verdict

    def _oops(self, cpu: int, number: int, error: Exception) -> None:
        """The allocator ran into what the guest made of its structures."""
        name = next(name for name, known in HYPERCALLS.items() if known == number)
        why = f"the allocator's structures are damaged ({error})"
        self.machine.stop("fault", EXIT_FAULT, f"cpu {cpu} in hypercall {name}: {why}")

    # --- argument checks ----------------------------------------------------------------------

    def _known_cpu(self, cpu: int) -> bool:
        """True if the kernel booted with this CPU (it may not have: nr_cpus=, maxcpus=)."""
        m = self.m
        if not 0 <= cpu < min(m[G_NR_CPU_IDS], NR_CPUS, len(self.machine.cpus)):
            return False
        online: int = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE]
        return online != 0

    def _node(self, cpu: int, nid: int) -> int:
        """The node id that a request means, -1 when there is no such node."""
        if nid == NUMA_NO_NODE:
            nid = self.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
        return nid if 0 <= nid < MAX_NUMNODES and self.m[NODE_DATA + nid] else -1

    def _request(self, cpu: int, gfp: int, order: int, nid: int) -> int:
        """The node of a sound request, -1 of any other."""
        if not 0 <= gfp <= GFP_BITS_MASK or not 0 <= order < MAX_ORDER:
            return -1
        if gfp_zone_is_bad(gfp) or gfp & GFP_MOVABLE_MASK == GFP_MOVABLE_MASK:
            return -1
        return self._node(cpu, nid) if self._known_cpu(cpu) else -1

    def _frame(self, pfn: int) -> bool:
        """True if frame `pfn` has a struct page (pfn_valid)."""
        return 0 <= pfn < _MAX_PHYS >> 16 and self.m[SECTION_MEM_MAP + (pfn >> 15 << 2)] != 0

    def _buffer(self, address: int, count: int) -> int:
        """Word index of `count` words at a guest address; -1 if unaligned or not in RAM."""
        phys = guest_range(self.memory, address, max(count, 1) * 8)
        return -1 if phys < 0 or phys & 7 else phys >> 3

    # --- the calls: `a` is the word index of the first argument -------------------------------

    def _alloc_pages(self, cpu: int, a: int) -> Answer:
        m = self.m
        gfp, order = m[a], m[a + 1]
        nid = self._request(cpu, gfp, order, m[a + 2])
        if nid < 0:
            return -1, EINVAL
        pfn = alloc_pages_nodemask(m, cpu, gfp, order, nid, m[a + 3])
        if pfn < 0:
            return -1, ENOMEM
        return pfn, 0

    def _free_pages(self, cpu: int, a: int) -> Answer:
        m = self.m
        pfn, order = m[a], m[a + 1]
        if not 0 <= order < MAX_ORDER or not self._frame(pfn) or not self._known_cpu(cpu):
            return 0, EINVAL
        said = free_pages(m, cpu, pfn, order)
        if said == FREE_REFUSED:
            return 0, EINVAL
        return said, 0

    def _alloc_bulk(self, cpu: int, a: int) -> Answer:
        m = self.m
        gfp, order, count = m[a], m[a + 1], m[a + 3]
        nid = self._request(cpu, gfp, order, m[a + 2])
        if nid < 0 or not 0 <= count <= BULK_MAX:
            return 0, EINVAL
        buffer = self._buffer(m[a + 4], count)
        if buffer < 0:
            return 0, EFAULT
        for got in range(count):
            pfn = alloc_pages_nodemask(m, cpu, gfp, order, nid, 0)
            if pfn < 0:
                return got, ENOMEM
            m[buffer + got] = pfn
        return count, 0

    def _free_bulk(self, cpu: int, a: int) -> Answer:
        m = self.m
        order, count = m[a], m[a + 1]
        if not 0 <= order < MAX_ORDER or not 0 <= count <= BULK_MAX or not self._known_cpu(cpu):
            return 0, EINVAL
        buffer = self._buffer(m[a + 2], count)
        if buffer < 0:
            return 0, EFAULT
        for done in range(count):
            pfn = m[buffer + done]
            said = free_pages(m, cpu, pfn, order) if self._frame(pfn) else FREE_REFUSED
            if said == FREE_REFUSED:
                return done, EINVAL
        return count, 0

    def _start_cpu(self, cpu: int, a: int) -> Answer:
        m = self.m
        target, rip, rsp, arg = m[a], m[a + 1], m[a + 2], m[a + 3]
        if not self._known_cpu(target) or not -(1 << 47) <= rip < 1 << 47:
            return 0, EINVAL
        vcpu = self.machine.cpus[target]
        if target == cpu or vcpu.state != "stopped":
            return 0, EBUSY
        vcpu.start(
            rip=unsigned(rip),
            rsp=unsigned(rsp or m[MAILBOXES + target * MAILBOX_WORDS + MAILBOX["STACK"]]),
            cr3=m[G_PGD] & _ADDRESS_MASK,
            rdi=unsigned(arg),
            rsi=BOOT_PARAMS,
        )
        return 0, 0

    def _yield(self, cpu: int, a: int) -> Answer:  # noqa: ARG002
        self._verdict = Verdict.YIELD
        return 0, 0

    def _print(self, cpu: int, a: int) -> Answer:  # noqa: ARG002
        address, length = self.m[a], self.m[a + 1]
        if not 0 <= length <= PRINT_MAX:
            return 0, EINVAL
        if length:
            phys = guest_range(self.memory, address, length)
            if phys < 0:
                return 0, EFAULT
            self.machine.console.write(bytes(self.memory.bytes[phys : phys + length]))
        return length, 0

    def _exit(self, cpu: int, a: int) -> Answer:
        code = self.m[a]
        # What does not fit into an exit status must not turn into success.
        code = code if 0 <= code <= EXIT_CODE_MAX else EXIT_CODE_MAX
        self.machine.stop("exit", code, f"cpu {cpu} asked to exit with {self.m[a]}")
        return 0, 0

    def _info(self, cpu: int, a: int) -> Answer:
        m = self.m
        what, argument = m[a], m[a + 1]
        if what == INFO["NR_CPUS"]:
            return m[G_NR_CPU_IDS], 0
        if what == INFO["NR_NODES"]:
            return unsigned(m[G_NODES_ONLINE]).bit_length(), 0
        if what == INFO["NODE_MASK"]:
            return m[G_NODES_ONLINE], 0
        if what == INFO["THIS_NODE"]:
            return self._node(cpu, NUMA_NO_NODE), 0
        if what == INFO["CLOCK"]:
            return m[G_CLOCK], 0
        if what in (INFO["FREE_PAGES"], INFO["PGLIST_DATA"]):
            if not 0 <= argument < MAX_NUMNODES or not m[NODE_DATA + argument]:
                return 0, EINVAL
            if what == INFO["PGLIST_DATA"]:
                return m[NODE_DATA + argument], 0
            nd = word_of_va(m[NODE_DATA + argument])
            zones = [nd + zid * ZONE_WORDS for zid in range(MAX_NR_ZONES)]
            free = (
                zone_page_state_snapshot(m, z, NR_FREE_PAGES) for z in zones if m[z + Z_PRESENT]
            )
            return sum(free), 0
        return 0, EINVAL

    def _drain(self, cpu: int, a: int) -> Answer:  # noqa: ARG002
        drain_all_pages(self.m, -1)
        return 0, 0
