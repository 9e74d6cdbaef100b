# SPDX-License-Identifier: GPL-2.0-only
"""Shared anonymous memory in the random lives of processes.

All who have a page of it by fork see the same words, whoever wrote them, whether the page is in
memory or in swap. The model's pages refer to one dictionary of words (`MappedPage.private` False).
"""

from __future__ import annotations

from typing import ClassVar

from tests.allocator.owners_model import PAGE, WORDS, MappedPage, Shadow, World


class SharedOperations(World):
    """Operations on shared anonymous memory."""

    WEIGHTS: ClassVar[dict[str, int]] = {
        "share": 5,
        "share_write": 10,
        "share_drop": 2,
        "share_protect": 2,
    }

    def set_up(self) -> None:
        """A short life of a shared page, too."""
        super().set_up()
        process = self.kernel.create_process("sharer")
        process.write(process.mmap(PAGE, shared=True), b"x")
        process.exit()

    def shared_run(self, shadow: Shadow) -> list[int]:
        """A run of neighbouring pages of shared memory, perhaps none."""
        shared = [page for page, mapped in shadow.pages.items() if type(mapped) is SharedPage]
        if not shared:
            return []
        run = [self.random.choice(shared)]
        while type(shadow.pages.get(run[-1] + 1)) is SharedPage and self.random.random() < 0.8:
            run.append(run[-1] + 1)
        return run

    # --- operations -------------------------------------------------------------------------------

    def op_share(self) -> None:
        """Shared memory; a child that is forked later has it, too."""
        shadow = self.someone()
        pages = self.random.randrange(1, self.AREA)
        if sum(len(s.pages) for s in self.shadows) + pages > self.MAX_PAGES:
            return
        prot = self.random.choice(["rw", "rw", "rw", "r"])
        start = shadow.process.mmap(pages * PAGE, prot, shared=True)
        for page in range(start // PAGE, start // PAGE + pages):
            shadow.pages[page] = SharedPage(prot, {}, False, False)

    def op_share_write(self) -> None:
        """A word into each page of a run."""
        shadow = self.someone()
        for page in self.shared_run(shadow):
            mapped = shadow.pages[page]
            word, value = self.random.randrange(WORDS), self.random.getrandbits(63)
            if "w" in mapped.prot:
                shadow.process.write(page * PAGE + 8 * word, value.to_bytes(8, "little"))
                mapped.words[word] = value
            if mapped.prot != "-":
                self.compare(shadow, page, word)

    def op_share_drop(self) -> None:
        """Giving shared pages up takes them out of the page tables alone."""
        shadow = self.someone()
        run = self.shared_run(shadow)
        if run and not any(shadow.pages[page].locked for page in run):
            advice = self.random.choice(["dontneed", "willneed"])
            shadow.process.madvise(run[0] * PAGE, len(run) * PAGE, advice)

    def op_share_protect(self) -> None:
        """Shared pages get another protection for this process."""
        shadow = self.someone()
        run = self.shared_run(shadow)
        prot = self.random.choice(["rw", "rw", "r", "-"])
        if run:
            shadow.process.mprotect(run[0] * PAGE, len(run) * PAGE, prot)
            for page in run:
                shadow.pages[page].prot = prot


class SharedPage(MappedPage):
    """A page of shared anonymous memory."""

    def copy(self) -> MappedPage:
        """What a child gets at a fork: the same page."""
        return SharedPage(self.prot, self.words, False, False)
