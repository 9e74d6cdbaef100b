# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel itself holds beside the processes: blocks of all orders, filled and verified.

A block is filled with a pattern of its own over all its bytes when it is allocated, and must still
hold it when it is given back: whoever else wrote to one of its frames is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from allocator.mmzone import MAX_ORDER
from tests.allocator.owners_model import PAGE, World

MAY_WAIT = ("GFP_KERNEL", "GFP_USER", "GFP_HIGHUSER_MOVABLE", "GFP_NOFS", "GFP_NOIO")
MAY_NOT_WAIT = ("GFP_ATOMIC", "GFP_NOWAIT", "GFP_KERNEL|__GFP_NORETRY", "GFP_DMA32|__GFP_NORETRY")
KINDS = (*MAY_WAIT, *MAY_NOT_WAIT, "GFP_KERNEL|__GFP_RETRY_MAYFAIL", "GFP_KERNEL_ACCOUNT")
MODIFIERS = ("", "", "|__GFP_ZERO", "|__GFP_COMP", "|__GFP_RECLAIMABLE", "|__GFP_THISNODE")
COSTLY_ORDER = 3


@dataclass
class Block:
    """2^order frames from `pfn` on that the kernel holds, all words of which are `tag`."""

    pfn: int
    order: int
    tag: bytes


class KernelOperations(World):
    """Blocks allocated and given back on the kernel's own account."""

    WEIGHTS: ClassVar[dict[str, int]] = {"alloc": 14, "free": 10, "drain": 1}
    KERNEL_SHARE = 8
    """The kernel's blocks are at most one part in so many of the machine's memory."""

    def set_up(self) -> None:
        super().set_up()
        self.blocks: list[Block] = []
        self.refused = 0
        self.most = sum(zone.managed_pages for zone in self.kernel.zones) // self.KERNEL_SHARE

    def end(self) -> None:
        """The kernel gives back all that it holds."""
        while self.blocks:
            self.give_back(self.blocks[-1])
        super().end()

    def block_bytes(self, block: Block) -> memoryview:
        """The bytes of a block's frames."""
        start = block.pfn * PAGE
        return self.kernel.memory.bytes[start : start + (PAGE << block.order)]

    def give_back(self, block: Block) -> None:
        """Verifies and frees a block."""
        size = PAGE << block.order
        assert bytes(self.block_bytes(block)) == block.tag * (size // 8), f"block {block.pfn:#x}"
        cpu = self.random.randrange(self.kernel.nr_cpus)
        assert self.kernel.free_pages(block.pfn, block.order, cpu)
        self.blocks.remove(block)

    def op_alloc(self) -> None:
        """A block of any order, for any purpose, sometimes as a process."""
        draw = self.random
        order = draw.choice([0, 0, 0, 1, 1, 2, 3, draw.randrange(MAX_ORDER)])
        if sum(1 << block.order for block in self.blocks) + (1 << order) > self.most:
            return
        gfp = draw.choice(KINDS) + draw.choice(MODIFIERS)
        if "MOVABLE" in gfp:
            gfp = gfp.replace("|__GFP_RECLAIMABLE", "")
        if order > COSTLY_ORDER:
            gfp += "|__GFP_NOWARN"
        nid = draw.choice([None, *(node.nid for node in self.kernel.nodes)])
        if draw.random() < 0.5:
            with self.someone().process.running() as cpu:
                page = self.kernel.alloc_pages(gfp, order, nid, cpu=cpu)
        else:
            cpu = draw.randrange(self.kernel.nr_cpus)
            page = self.kernel.alloc_pages(gfp, order, nid, cpu=cpu)
        self.kernel.daemons.turn(cpu)
        if page is None:
            self.refused += 1
            return
        block = Block(page.pfn, order, draw.getrandbits(64).to_bytes(8, "little"))
        here = self.block_bytes(block)
        if "ZERO" in gfp:
            assert not any(here), f"block {block.pfn:#x} is not zero"
        here[:] = block.tag * ((PAGE << order) // 8)
        self.blocks.append(block)

    def op_free(self) -> None:
        """A block goes back, with every byte as it was."""
        if self.blocks:
            self.give_back(self.random.choice(self.blocks))

    def op_drain(self) -> None:
        """What CPUs keep ready goes back to the buddy lists."""
        if self.random.random() < 0.5:
            self.kernel.drain_all_pages()
        else:
            self.kernel.drain_local_pages(self.random.randrange(self.kernel.nr_cpus))
