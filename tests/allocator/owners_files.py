# SPDX-License-Identifier: GPL-2.0-only
"""Files in the random lives of processes: read, written, mapped shared and private, cut, synced.

The model of a file is its length in pages and, for each page, the words that are not zero. A shared
mapping refers to the file's own words; a private one does until the process writes to the page,
which makes a copy of it (`PrivateFilePage`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from allocator.kernel_files import File
from allocator.layout import NODE_DATA, PAGE_OFFSET
from allocator.mm_types import PG_DIRTY, PG_WRITEBACK
from allocator.mmzone import (
    MAX_NR_ZONES,
    ND_VM_STAT,
    NR_FILE_DIRTY,
    NR_FILE_PAGES,
    NR_SHMEM,
    NR_WRITEBACK,
    NR_ZONE_WRITE_PENDING,
    Z_VM_STAT,
    ZONE_WORDS,
)
from tests.allocator.owners_model import PAGE, WORDS, MappedPage, World

MAX_FILES = 5
MAX_FILE_PAGES = 60


@dataclass
class FileModel:
    """A file that is open, and what it must hold."""

    file: File
    length: int = 0
    pages: dict[int, dict[int, int]] = field(default_factory=dict)

    def words(self, page: int) -> dict[int, int]:
        """The words of a page that are not zero."""
        return self.pages.setdefault(page, {})


class FollowingWords(dict[int, int]):
    """The words of a private page: the file's until the first is written."""

    def __init__(self, base: dict[int, int]) -> None:
        super().__init__()
        self.base = base
        self.own = False

    def detach(self) -> None:
        """The page is the process's own from now on."""
        if not self.own:
            self.own = True
            self.update(self.base)

    def __setitem__(self, word: int, value: int) -> None:
        self.detach()
        super().__setitem__(word, value)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return super().__iter__() if self.own else iter(self.base)

    def __len__(self) -> int:
        return super().__len__() if self.own else len(self.base)

    def get(self, word: int, default: int = 0) -> int:  # type: ignore[override]
        """The value of a word."""
        return super().get(word, default) if self.own else self.base.get(word, default)


class PrivateFilePage(MappedPage):
    """A page of a private mapping of a file. Giving its words up brings the file's back; locking it
    while it may be written, or making it writable while it is locked, copies it."""

    def __init__(self, prot: str, base: dict[int, int], model: FileModel) -> None:
        self.base = base
        self.model = model
        super().__init__(prot, FollowingWords(base))

    def __setattr__(self, name: str, value: object) -> None:
        if name == "words" and value == {}:
            value = FollowingWords(self.base)
        super().__setattr__(name, value)
        if name in ("prot", "locked") and getattr(self, "locked", False) and "w" in self.prot:
            words = self.words
            if isinstance(words, FollowingWords):
                words.detach()

    def copy(self) -> MappedPage:
        """What a child gets at a fork."""
        child = PrivateFilePage(self.prot, self.base, self.model)
        mine, theirs = self.words, child.words
        if isinstance(mine, FollowingWords) and isinstance(theirs, FollowingWords) and mine.own:
            theirs.detach()
            theirs.clear()
            theirs.update(mine)
        return child


@dataclass
class SharedFilePage(MappedPage):
    """A page of a shared mapping of a file."""

    model: FileModel | None = None

    def copy(self) -> MappedPage:
        """What a child gets at a fork: the same page."""
        return SharedFilePage(self.prot, self.words, False, False, self.model)


class FileOperations(World):
    """Operations on files and with them."""

    WEIGHTS: ClassVar[dict[str, int]] = {
        "file_new": 1,
        "file_write": 10,
        "file_read": 12,
        "file_map": 4,
        "file_cut": 2,
        "file_sync": 2,
        "file_time": 1,
        "file_drop": 1,
        "file_end": 1,
    }

    def set_up(self) -> None:
        """One short file, too."""
        super().set_up()
        self.files: list[FileModel] = []
        self.nameless: list[FileModel] = []
        self.kernel.create_file("first", 3 * PAGE).close()
        self.kernel.unlink("first")

    def settle(self) -> list[int]:
        """Everything written and the caches dropped."""
        self.kernel.sync()
        self.kernel.drop_caches(3)
        return super().settle()

    def end(self) -> None:
        """Files end after the processes that map them."""
        while self.shadows:
            self.leave(self.shadows[-1])
        while self.files:
            self.verify(self.files[-1])
            self.forget(self.files[-1])
        self.close_nameless()
        assert not self.nameless
        super().end()

    def check(self) -> None:
        """Counters of file pages are the pages that there are, by node and state."""
        super().check()
        kernel = self.kernel
        for cpu in range(kernel.nr_cpus):
            kernel.fold_vm_stats(cpu)
        pages = [
            page for model in (*self.files, *self.nameless) for page in model.file.pages.values()
        ]
        for node in kernel.nodes:
            here = [page.flags for page in pages if page.nid == node.nid]
            dirty = sum(flags & PG_DIRTY != 0 for flags in here)
            writeback = sum(flags & PG_WRITEBACK != 0 for flags in here)
            stat = kernel.m[NODE_DATA + node.nid] - PAGE_OFFSET >> 3
            counted = [
                kernel.m[stat + ND_VM_STAT + item]
                for item in (NR_FILE_PAGES, NR_FILE_DIRTY, NR_WRITEBACK)
            ]
            # shared memory is counted here as well; frame rules look after its number
            counted[0] -= kernel.m[stat + ND_VM_STAT + NR_SHMEM]
            assert counted == [len(here), dirty, writeback], f"node {node.nid}"
            pending = sum(
                kernel.m[stat + zid * ZONE_WORDS + Z_VM_STAT + NR_ZONE_WRITE_PENDING]
                for zid in range(MAX_NR_ZONES)
            )
            assert pending == dirty + writeback, f"node {node.nid}"

    def verify(self, model: FileModel) -> None:
        """The whole file is what it must be."""
        expected = bytearray(model.length * PAGE)
        for page, words in model.pages.items():
            for word, value in words.items():
                at = page * PAGE + 8 * word
                expected[at : at + 8] = value.to_bytes(8, "little")
        assert model.file.read(-1, 0) == bytes(expected)

    def forget(self, model: FileModel) -> None:
        """A file loses its name; one that is mapped stays open until it is not."""
        self.kernel.unlink(model.file.name)
        self.files.remove(model)
        self.nameless.append(model)
        self.close_nameless()

    def close_nameless(self) -> None:
        """Files without a name that nobody maps any more end."""
        for model in [model for model in self.nameless if not self.is_mapped(model)]:
            self.verify(model)
            model.file.close()
            self.nameless.remove(model)

    def is_mapped(self, model: FileModel) -> bool:
        """True if any process maps the file."""
        return any(
            getattr(mapped, "model", None) is model
            for shadow in self.shadows
            for mapped in shadow.pages.values()
        )

    # --- operations -------------------------------------------------------------------------------

    def op_file_new(self) -> None:
        """A file of some zeroes."""
        if len(self.files) < MAX_FILES:
            pages = self.random.randrange(MAX_FILE_PAGES)
            file = self.kernel.create_file(f"f{self.done}", pages * PAGE)
            self.files.append(FileModel(file, pages))

    def op_file_write(self) -> None:
        """Words in some pages; the file may become longer."""
        if not self.files:
            return
        model = self.random.choice(self.files)
        cpu = self.random.randrange(self.kernel.nr_cpus)
        for _ in range(self.random.randrange(1, 5)):
            page, word = self.random.randrange(MAX_FILE_PAGES), self.random.randrange(WORDS)
            value = self.random.getrandbits(63)
            raw = value.to_bytes(8, "little")
            assert model.file.write(raw, page * PAGE + 8 * word, cpu) == 8
            model.words(page)[word] = value
            if page >= model.length:
                model.length = page + 1
                model.file.truncate(model.length * PAGE)

    def op_file_read(self) -> None:
        """Words that were written, and some that were not."""
        if not self.files:
            return
        model = self.random.choice(self.files)
        for _ in range(4 if model.length else 0):
            page = self.random.randrange(model.length)
            known = list(model.words(page)) or [self.random.randrange(WORDS)]
            word = self.random.choice(known)
            cpu = self.random.randrange(self.kernel.nr_cpus)
            got = int.from_bytes(model.file.read(8, page * PAGE + 8 * word, cpu), "little")
            assert got == model.words(page).get(word, 0), f"{model.file} page {page} word {word}"

    def op_file_map(self) -> None:
        """A process maps a piece of a file, shared or for itself."""
        if not self.files:
            return
        shadow, model = self.someone(), self.random.choice(self.files)
        total = sum(len(s.pages) for s in self.shadows)
        if model.length == 0 or total + model.length > self.MAX_PAGES:
            return
        first = self.random.randrange(model.length)
        count = self.random.randrange(1, model.length - first + 1)
        shared = self.random.random() < 0.5
        prot = self.random.choice(["rw", "rw", "r"])
        start = shadow.process.mmap(
            count * PAGE, prot, file=model.file, offset=first * PAGE, shared=shared
        )
        for i in range(count):
            words = model.words(first + i)
            shadow.pages[start // PAGE + i] = (
                SharedFilePage(prot, words, False, False, model)
                if shared
                else PrivateFilePage(prot, words, model)
            )

    def op_file_cut(self) -> None:
        """A file that nobody maps gets another length."""
        if not self.files:
            return
        model = self.random.choice(self.files)
        if not self.is_mapped(model):
            model.length = self.random.randrange(MAX_FILE_PAGES)
            model.file.truncate(model.length * PAGE)
            model.pages = {p: w for p, w in model.pages.items() if p < model.length}

    def op_file_sync(self) -> None:
        """One file or all of them go to the disk."""
        if self.files and self.random.random() < 0.7:
            self.random.choice(self.files).file.fsync()
        else:
            self.kernel.sync()

    def op_file_time(self) -> None:
        """Time passes, so that the flusher has its turns."""
        self.kernel.advance_clock(self.random.randrange(20 * 10**9))

    def op_file_drop(self) -> None:
        """What is clean and unused leaves memory."""
        self.kernel.drop_caches(self.random.choice([1, 2, 3]))

    def op_file_end(self) -> None:
        """A file ends, or lives on without a name as long as it is mapped."""
        self.close_nameless()
        if self.files and len(self.nameless) < MAX_FILES:
            model = self.random.choice(self.files)
            self.verify(model)
            self.forget(model)
