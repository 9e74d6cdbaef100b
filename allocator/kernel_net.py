# SPDX-License-Identifier: GPL-2.0-only
"""The Kernel's network buffers, the users of page fragments.

A part of `Kernel`. `receive` does what a driver does with a packet; a `Packet` is its sk_buff,
which whoever has read it gives back with `free`.
"""

from __future__ import annotations

from .errors import BadRequest, OutOfMemory
from .gfp import GFP_ATOMIC
from .kernel_files import KernelFiles
from .layout import PAGE_OFFSET
from .skbuff import (
    SKB_DATA,
    SKB_HEAD_FRAG,
    SKB_LEN,
    kfree_skb,
    netdev_alloc_skb,
    skb_init,
    skb_next,
)

MAX_PACKET = 65_535


class KernelNet(KernelFiles):
    """Packets."""

    def receive(self, data: bytes, cpu: int = 0, gfp: str | int = GFP_ATOMIC) -> Packet | None:
        """A packet with `data` comes in on `cpu`: its buffer, or None when it was dropped for want
        of memory. Raises BadRequest for more than 65,535 bytes or for none."""
        flags = self._check_gfp(gfp)
        self._check_cpu(cpu)
        if not 0 < len(data) <= MAX_PACKET:
            raise BadRequest(f"a packet of {len(data)} bytes, not 1 to {MAX_PACKET}")
        self.mm_init(cpu)
        if skb_init(self.m, cpu):
            raise OutOfMemory("no memory for network buffers")
        word = self._run_files(netdev_alloc_skb, cpu, len(data), flags)
        if word == 0:
            return None
        packet = Packet(self, word)
        self.memory.bytes[packet.phys : packet.phys + len(data)] = data
        return packet

    @property
    def packets(self) -> list[Packet]:
        """All buffers that have not been given back, oldest first."""
        found = []
        word = skb_next(self.m, 0)
        while word:
            found.append(Packet(self, word))
            word = skb_next(self.m, word)
        return found


class Packet:
    """A packet in an sk_buff at word index `word`."""

    def __init__(self, kernel: KernelNet, word: int) -> None:
        self.kernel = kernel
        self.word = word

    @property
    def phys(self) -> int:
        """Physical address of its first byte."""
        self._check()
        return self.kernel.m[self.word + SKB_DATA] - PAGE_OFFSET

    @property
    def data(self) -> bytes:
        """Its bytes."""
        at = self.phys
        return bytes(self.kernel.memory.bytes[at : at + self.kernel.m[self.word + SKB_LEN]])

    @property
    def in_fragment(self) -> bool:
        """True if its bytes are a page fragment, False if they were allocated for it alone."""
        self._check()
        return self.kernel.m[self.word + SKB_HEAD_FRAG] != 0

    def free(self, cpu: int = 0) -> None:
        """Gives it back. Raises BadRequest when it has been."""
        self._check()
        self.kernel._run_files(kfree_skb, cpu, self.word)
        self.word = 0

    def _check(self) -> None:
        if self.word == 0:
            raise BadRequest("the packet has been given back")
