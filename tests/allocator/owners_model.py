# SPDX-License-Identifier: GPL-2.0-only
"""Random lives of processes, beside a model that knows what every byte must be.

A `World` is a machine with a kernel, some processes, and for each of them a plain Python picture of
its memory: which pages are mapped with what protection, and which words have been written. Every
operation is done in both; every read is compared, every refusal and every death expected. Mixins
add operations: a method `op_<name>` is one, `WEIGHTS` says how often it is taken.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from allocator import start_kernel
from allocator.check import check_frames
from allocator.errors import ProcessKilled, SystemCallError
from allocator.kernel import Kernel
from allocator.kernel_globals import G_THP_FLAGS
from allocator.mmap import MAP_GROWSDOWN
from allocator.process import Process
from allocator.slab import slab_caches
from allocator.slab_common import kmem_cache_shrink
from firmware import power_on
from machine import Machine, Topology

PAGE = 4096
WORDS = PAGE // 8
SIGSEGV = 11


@dataclass
class MappedPage:
    """One page of a process: its protection letters, and the words that are not zero. `cell` is
    shared by all who map the same page of a file, and private otherwise."""

    prot: str
    words: dict[int, int] = field(default_factory=dict)
    locked: bool = False
    private: bool = True

    def copy(self) -> MappedPage:
        """What a child gets at a fork."""
        words = dict(self.words) if self.private else self.words
        return MappedPage(self.prot, words, False, self.private)


@dataclass
class Shadow:
    """The model of one process: its pages by number (address / 4096)."""

    process: Process
    pages: dict[int, MappedPage] = field(default_factory=dict)
    parent: Shadow | None = None


class World:
    """A machine, its processes, and what they should see."""

    WEIGHTS: ClassVar[dict[str, int]] = {
        "map": 8,
        "touch": 14,
        "write": 26,
        "read": 30,
        "fork": 3,
        "unmap": 6,
        "protect": 5,
        "dontneed": 2,
        "lock": 2,
        "grow": 2,
        "heap": 2,
        "huge": 1,
        "move": 3,
        "bind": 2,
        "remap": 3,
        "lock_all": 1,
        "stray": 1,
        "refused": 2,
        "new": 1,
        "exit": 3,
    }
    MAX_PROCESSES = 8
    MAX_PAGES = 1500
    AREA = 48

    def __init__(self, topology: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.machine = Machine(Topology.parse(topology))
        power_on(self.machine)
        self.kernel: Kernel = start_kernel(self.machine)
        self.shadows: list[Shadow] = []
        self.done = 0
        self.counts: dict[str, int] = {}
        self.set_up()
        self.names = [name for name, weight in self.weights().items() for _ in range(weight)]
        self.baseline = self.settle()

    def set_up(self) -> None:
        """One short life, so that what is set up once is there."""
        first = self.kernel.create_process("first")
        first.write(first.mmap(4 * PAGE), b"x")
        first.fork().exit()
        first.exit()

    def weights(self) -> dict[str, int]:
        """The operations of this class and of all it is made of."""
        found: dict[str, int] = {}
        for cls in reversed(type(self).__mro__):
            found |= vars(cls).get("WEIGHTS", {})
        return found

    # --- running ----------------------------------------------------------------------------------

    def step(self) -> None:
        """One operation."""
        if not self.shadows:
            self.op_new()
            return
        name = self.random.choice(self.names)
        getattr(self, f"op_{name}")()
        self.counts[name] = self.counts.get(name, 0) + 1
        self.done += 1

    def check(self) -> None:
        """Every frame is in one legal state."""
        report = check_frames(self.machine.memory)
        assert report.sound, str(report)

    def end(self) -> None:
        """All processes end; every frame must be back."""
        while self.shadows:
            self.leave(self.shadows[-1])
        assert self.kernel.processes == []
        assert self.settle() == self.baseline

    def settle(self) -> list[int]:
        """Free pages by zone once everything that lies ready for reuse has been given back."""
        kernel = self.kernel
        kernel.lru_add_drain_all()
        for cache in list(slab_caches(kernel.m)):
            kmem_cache_shrink(kernel.m, 0, cache)
        kernel.drain_all_pages()
        for cpu in range(kernel.nr_cpus):
            kernel.fold_vm_stats(cpu)
        return [zone.free_pages for zone in kernel.zones]

    # --- choosing ---------------------------------------------------------------------------------

    def someone(self) -> Shadow:
        """Any process."""
        return self.random.choice(self.shadows)

    def some_pages(self, shadow: Shadow, most: int = 16) -> list[int]:
        """A run of neighbouring pages of the process, perhaps none."""
        if not shadow.pages:
            return []
        page = self.random.choice(list(shadow.pages))
        run = [page]
        while len(run) < most and run[-1] + 1 in shadow.pages and self.random.random() < 0.9:
            run.append(run[-1] + 1)
        return run

    # --- operations -------------------------------------------------------------------------------

    def op_new(self) -> None:
        """A process that comes from nowhere."""
        if len(self.shadows) < self.MAX_PROCESSES:
            cpu = self.random.randrange(self.kernel.nr_cpus)
            self.shadows.append(Shadow(self.kernel.create_process(f"p{self.done}", cpu)))

    def op_map(self) -> None:
        """Anonymous memory, sometimes at a place of the caller's choice over what is there."""
        shadow = self.someone()
        pages = self.random.randrange(1, self.AREA)
        if sum(len(s.pages) for s in self.shadows) + pages > self.MAX_PAGES:
            return
        prot = self.random.choice(["rw", "rw", "rw", "r", "rwx", "-"])
        if shadow.pages and self.random.random() < 0.3:
            first = self.random.choice(list(shadow.pages)) + self.random.randrange(-4, 5)
            start = shadow.process.mmap(pages * PAGE, prot, address=first * PAGE, fixed=True)
            assert start == first * PAGE
        else:
            start = shadow.process.mmap(pages * PAGE, prot)
        for page in range(start // PAGE, start // PAGE + pages):
            shadow.pages[page] = MappedPage(prot)

    def op_touch(self) -> None:
        """Reads a run of pages without looking."""
        shadow = self.someone()
        run = [p for p in self.some_pages(shadow) if "r" in shadow.pages[p].prot]
        for page in run:
            shadow.process.touch(page * PAGE, write=False)

    def op_write(self) -> None:
        """Writes a word into each page of a run."""
        shadow = self.someone()
        for page in self.some_pages(shadow, 6):
            mapped = shadow.pages[page]
            word, value = self.random.randrange(WORDS), self.random.getrandbits(63)
            address = page * PAGE + 8 * word
            if "w" in mapped.prot:
                shadow.process.write(address, value.to_bytes(8, "little"))
                mapped.words[word] = value

    def op_read(self) -> None:
        """Reads words that were written, and some that were not."""
        shadow = self.someone()
        for page in self.some_pages(shadow, 6):
            mapped = shadow.pages[page]
            if mapped.prot == "-":
                continue
            known = list(mapped.words)
            word = self.random.choice(known) if known else self.random.randrange(WORDS)
            self.compare(shadow, page, word)
            self.compare(shadow, page, self.random.randrange(WORDS))

    def compare(self, shadow: Shadow, page: int, word: int) -> None:
        """One word of a process is what was written there last."""
        got = int.from_bytes(shadow.process.read(page * PAGE + 8 * word, 8), "little")
        expected = shadow.pages[page].words.get(word, 0)
        assert got == expected, f"{shadow.process} {page * PAGE + 8 * word:#x}: {got} {expected}"

    def op_fork(self) -> None:
        """A child that sees what its parent sees now."""
        if len(self.shadows) < self.MAX_PROCESSES:
            shadow = self.someone()
            if sum(len(s.pages) for s in self.shadows) + len(shadow.pages) > self.MAX_PAGES:
                return
            pages = {page: mapped.copy() for page, mapped in shadow.pages.items()}
            self.shadows.append(Shadow(shadow.process.fork(), pages, shadow))

    def op_unmap(self) -> None:
        """A run of pages goes."""
        shadow = self.someone()
        run = self.some_pages(shadow, self.AREA)
        if run:
            shadow.process.munmap(run[0] * PAGE, len(run) * PAGE)
            for page in run:
                del shadow.pages[page]

    def op_protect(self) -> None:
        """A run of pages gets another protection."""
        shadow = self.someone()
        run = self.some_pages(shadow)
        prot = self.random.choice(["rw", "rw", "r", "-", "rx"])
        if run and all(shadow.pages[page].private for page in run):
            shadow.process.mprotect(run[0] * PAGE, len(run) * PAGE, prot)
            for page in run:
                shadow.pages[page].prot = prot

    def op_dontneed(self) -> None:
        """Private pages are given up: they read as zero afterwards."""
        shadow = self.someone()
        run = self.some_pages(shadow)
        if run and not any(shadow.pages[p].locked or not shadow.pages[p].private for p in run):
            shadow.process.madvise(run[0] * PAGE, len(run) * PAGE, "dontneed")
            for page in run:
                shadow.pages[page].words = {}

    def op_lock(self) -> None:
        """A run of pages is locked in memory, or no longer."""
        shadow = self.someone()
        run = [p for p in self.some_pages(shadow, 8) if shadow.pages[p].prot != "-"]
        if run and run[-1] - run[0] == len(run) - 1:
            lock = self.random.random() < 0.6
            call = shadow.process.mlock if lock else shadow.process.munlock
            call(run[0] * PAGE, len(run) * PAGE)
            for page in run:
                shadow.pages[page].locked = lock

    def op_grow(self) -> None:
        """A stack is made with a page, and grows by a write below it."""
        shadow = self.someone()
        pages = self.random.randrange(2, 24)
        if sum(len(s.pages) for s in self.shadows) + pages > self.MAX_PAGES:
            return
        room = shadow.process.mmap((pages + 300) * PAGE) // PAGE
        shadow.process.munmap(room * PAGE, (pages + 300) * PAGE)
        top = room + pages + 299
        shadow.process.mmap(PAGE, address=top * PAGE, fixed=True, flags=MAP_GROWSDOWN)
        shadow.process.write((top - pages + 1) * PAGE, (99).to_bytes(8, "little"))
        for page in range(top - pages + 1, top + 1):
            shadow.pages[page] = MappedPage("rw")
        shadow.pages[top - pages + 1].words[0] = 99

    def op_heap(self) -> None:
        """The heap grows or shrinks."""
        shadow = self.someone()
        heap = shadow.process.brk() // PAGE
        to = heap + self.random.randrange(-8, 12)
        if shadow.process.brk(to * PAGE) == to * PAGE:
            for page in range(heap, to):
                shadow.pages[page] = MappedPage("rwx")
            for page in range(to, heap):
                shadow.pages.pop(page, None)

    def op_huge(self) -> None:
        """2 MiB that may be one huge page, most of which goes again soon."""
        shadow = self.someone()
        kernel = self.kernel
        before = kernel.m[G_THP_FLAGS]
        kernel.transparent_hugepage(self.random.choice(["always", "madvise"]))
        start = shadow.process.mmap(4 << 20)
        first = -(-start // (2 << 20)) * 512
        shadow.process.madvise(start, 4 << 20, "hugepage")
        value = self.random.getrandbits(63)
        shadow.process.write(first * PAGE + 64, value.to_bytes(8, "little"))
        assert shadow.process.read(first * PAGE + 64, 8) == value.to_bytes(8, "little")
        if start < first * PAGE:
            shadow.process.munmap(start, first * PAGE - start)
        shadow.process.munmap((first + 6) * PAGE, start + (4 << 20) - (first + 6) * PAGE)
        for page in range(first, first + 6):
            shadow.pages[page] = MappedPage("rw")
        shadow.pages[first].words[8] = value
        kernel.m[G_THP_FLAGS] = before

    def op_move(self) -> None:
        """Pages move to another node; their bytes come along."""
        shadow = self.someone()
        run = self.some_pages(shadow, 12)
        # one target for all: a huge page, or a page of a file, may be in the run more than once
        targets = [self.random.choice([node.nid for node in self.kernel.nodes])] * len(run)
        status = shadow.process.move_pages([page * PAGE for page in run], targets)
        for page, target, said in zip(run, targets, status, strict=True):
            there = shadow.process.page(page * PAGE)
            if said == target and there is not None:
                assert there.nid == target

    def op_bind(self) -> None:
        """A run of pages gets a policy for those that come."""
        shadow = self.someone()
        run = self.some_pages(shadow)
        if run:
            mode = self.random.choice(["default", "preferred", "bind", "interleave"])
            nodes = [node.nid for node in self.kernel.nodes]
            nodes = [] if mode == "default" else self.random.sample(nodes, len(nodes) // 2 or 1)
            shadow.process.mbind(run[0] * PAGE, len(run) * PAGE, mode, nodes)

    def op_remap(self) -> None:
        """A run of pages of one anonymous area goes elsewhere, longer or shorter than it was."""
        shadow = self.someone()
        run = self.some_pages(shadow)
        room = self.random.randrange(1, self.AREA)
        if not run or any(type(shadow.pages[page]) is not MappedPage for page in run):
            return
        if sum(len(s.pages) for s in self.shadows) + room > self.MAX_PAGES:
            return
        start = shadow.process.mmap(room * PAGE, "-")
        old, new = len(run) * PAGE, room * PAGE
        try:
            shadow.process.mremap(run[0] * PAGE, old, new, new_address=start)
        except SystemCallError as refusal:
            if refusal.errno != errno.EFAULT:
                raise
            # the pages are of several areas; what was too long has gone before that was seen
            for page in run[room:]:
                del shadow.pages[page]
            return
        moved = [shadow.pages.pop(page) for page in run]
        last = moved[-1]
        moved += [MappedPage(last.prot, {}, last.locked) for _ in range(len(run), room)]
        for i in range(room):
            shadow.pages[start // PAGE + i] = moved[i]

    def op_lock_all(self) -> None:
        """All of a small process is locked for a moment."""
        shadow = self.someone()
        plain = all(type(mapped) is MappedPage for mapped in shadow.pages.values())
        if plain and len(shadow.pages) < 2 * self.AREA:
            shadow.process.mlockall()
            shadow.process.munlockall()
            for mapped in shadow.pages.values():
                mapped.locked = False

    def op_stray(self) -> None:
        """An access that no area allows: the process dies of it, and nobody else."""
        shadow = self.someone()
        page = self.random.choice([*shadow.pages, 1 << 34, 5])
        mapped = shadow.pages.get(page)
        write = self.random.random() < 0.5
        if mapped is not None and ("w" in mapped.prot if write else mapped.prot != "-"):
            return
        with pytest.raises(ProcessKilled) as death:
            shadow.process.touch(page * PAGE, write=write)
        assert (death.value.signal, death.value.address) == (SIGSEGV, page * PAGE)
        self.bury(shadow)

    def op_refused(self) -> None:
        """A call that no kernel grants, with its errno."""
        process = self.someone().process
        calls: list[tuple[Callable[[], object], int]] = [
            (lambda: process.mmap(0), errno.EINVAL),
            (lambda: process.mmap(1 << 48), errno.ENOMEM),
            (lambda: process.mmap(PAGE, address=PAGE, fixed=True), errno.EPERM),
            (lambda: process.mmap(PAGE, address=(1 << 40) + 1, fixed=True), errno.EINVAL),
            (lambda: process.munmap(1, PAGE), errno.EINVAL),
            (lambda: process.munmap(1 << 47, PAGE), errno.EINVAL),
            (lambda: process.mprotect(5 << 39, PAGE, "r"), errno.ENOMEM),
            (lambda: process.mprotect(5 << 39, PAGE, 64), errno.EINVAL),
            (lambda: process.madvise(0, PAGE, 77), errno.EINVAL),
            (lambda: process.madvise(5 << 39, PAGE, "dontneed"), errno.ENOMEM),
            (lambda: process.mlock(5 << 39, PAGE), errno.ENOMEM),
            (lambda: process.set_mempolicy("bind", [60]), errno.EINVAL),
            (lambda: process.wait(31999), errno.ECHILD),
        ]
        call, expected = self.random.choice(calls)
        with pytest.raises(SystemCallError) as refusal:
            call()
        assert refusal.value.errno == expected

    def op_exit(self) -> None:
        """A process ends."""
        if len(self.shadows) > 1:
            self.leave(self.someone())

    # --- ends -------------------------------------------------------------------------------------

    def leave(self, shadow: Shadow) -> None:
        """The process ends by itself."""
        shadow.process.exit(3)
        self.bury(shadow)

    def bury(self, shadow: Shadow) -> None:
        """The process has ended: its parent, if it lives, waits for it."""
        self.shadows.remove(shadow)
        for other in self.shadows:
            if other.parent is shadow:
                other.parent = None
        if shadow.parent is not None:
            waited = shadow.parent.process.wait(shadow.process.pid)
            assert waited is not None
            assert waited[0] == shadow.process.pid
