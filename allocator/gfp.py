# SPDX-License-Identifier: GPL-2.0-only
"""gfp masks: the bits of Linux 4.20 (include/linux/gfp.h) and what they decide.

The hot path asks two questions of a mask: which zone is the highest that may serve it
(`gfp_zone`) and which migratetype it wants (`gfpflags_to_migratetype`); both are small integer
functions. People name masks: `parse_gfp("GFP_KERNEL|__GFP_ZERO")`, `format_gfp(0x6000c0)`
(the names and their order are those of include/trace/events/mmflags.h).
"""

from __future__ import annotations

from machine import UsageError

GFP_DMA_BIT = 0x1
GFP_HIGHMEM_BIT = 0x2
GFP_DMA32_BIT = 0x4
GFP_MOVABLE_BIT = 0x8
GFP_RECLAIMABLE_BIT = 0x10
GFP_HIGH_BIT = 0x20
GFP_IO_BIT = 0x40
GFP_FS_BIT = 0x80
GFP_WRITE_BIT = 0x100
GFP_NOWARN_BIT = 0x200
GFP_RETRY_MAYFAIL_BIT = 0x400
GFP_NOFAIL_BIT = 0x800
GFP_NORETRY_BIT = 0x1000
GFP_MEMALLOC_BIT = 0x2000
GFP_COMP_BIT = 0x4000
GFP_ZERO_BIT = 0x8000
GFP_NOMEMALLOC_BIT = 0x10000
GFP_HARDWALL_BIT = 0x20000
GFP_THISNODE_BIT = 0x40000
GFP_ATOMIC_BIT = 0x80000
GFP_ACCOUNT_BIT = 0x100000
GFP_DIRECT_RECLAIM_BIT = 0x200000
GFP_KSWAPD_RECLAIM_BIT = 0x400000
GFP_BITS_SHIFT = 23
GFP_BITS_MASK = (1 << GFP_BITS_SHIFT) - 1

GFP_ZONEMASK = 0xF
GFP_MOVABLE_MASK = GFP_RECLAIMABLE_BIT | GFP_MOVABLE_BIT
GFP_MOVABLE_SHIFT = 3

RECLAIM = GFP_DIRECT_RECLAIM_BIT | GFP_KSWAPD_RECLAIM_BIT
GFP_ATOMIC = GFP_HIGH_BIT | GFP_ATOMIC_BIT | GFP_KSWAPD_RECLAIM_BIT
GFP_KERNEL = RECLAIM | GFP_IO_BIT | GFP_FS_BIT
GFP_KERNEL_ACCOUNT = GFP_KERNEL | GFP_ACCOUNT_BIT
GFP_NOWAIT = GFP_KSWAPD_RECLAIM_BIT
GFP_NOIO = RECLAIM
GFP_NOFS = RECLAIM | GFP_IO_BIT
GFP_USER = GFP_KERNEL | GFP_HARDWALL_BIT
GFP_DMA = GFP_DMA_BIT
GFP_DMA32 = GFP_DMA32_BIT
GFP_HIGHUSER = GFP_USER | GFP_HIGHMEM_BIT
GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER | GFP_MOVABLE_BIT
GFP_TRANSHUGE_LIGHT = (
    GFP_HIGHUSER_MOVABLE | GFP_COMP_BIT | GFP_NOMEMALLOC_BIT | GFP_NOWARN_BIT
) & ~RECLAIM
GFP_TRANSHUGE = GFP_TRANSHUGE_LIGHT | GFP_DIRECT_RECLAIM_BIT
GFP_BOOT_MASK = GFP_BITS_MASK & ~(RECLAIM | GFP_IO_BIT | GFP_FS_BIT)

# What a reclaim for a control group keeps of its caller's flags (mm/internal.h)
GFP_RECLAIM_MASK = (
    RECLAIM
    | GFP_HIGH_BIT
    | GFP_IO_BIT
    | GFP_FS_BIT
    | GFP_NOWARN_BIT
    | GFP_RETRY_MAYFAIL_BIT
    | GFP_NOFAIL_BIT
    | GFP_NORETRY_BIT
    | GFP_MEMALLOC_BIT
    | GFP_NOMEMALLOC_BIT
    | GFP_ATOMIC_BIT
)

# Longest combinations first: format_gfp() takes each name whose bits are all still there.
GFP_NAMES: tuple[tuple[str, int], ...] = (
    ("GFP_TRANSHUGE", GFP_TRANSHUGE),
    ("GFP_TRANSHUGE_LIGHT", GFP_TRANSHUGE_LIGHT),
    ("GFP_HIGHUSER_MOVABLE", GFP_HIGHUSER_MOVABLE),
    ("GFP_HIGHUSER", GFP_HIGHUSER),
    ("GFP_USER", GFP_USER),
    ("GFP_KERNEL_ACCOUNT", GFP_KERNEL_ACCOUNT),
    ("GFP_KERNEL", GFP_KERNEL),
    ("GFP_NOFS", GFP_NOFS),
    ("GFP_ATOMIC", GFP_ATOMIC),
    ("GFP_NOIO", GFP_NOIO),
    ("GFP_NOWAIT", GFP_NOWAIT),
    ("GFP_DMA", GFP_DMA_BIT),
    ("__GFP_HIGHMEM", GFP_HIGHMEM_BIT),
    ("GFP_DMA32", GFP_DMA32_BIT),
    ("__GFP_HIGH", GFP_HIGH_BIT),
    ("__GFP_ATOMIC", GFP_ATOMIC_BIT),
    ("__GFP_IO", GFP_IO_BIT),
    ("__GFP_FS", GFP_FS_BIT),
    ("__GFP_NOWARN", GFP_NOWARN_BIT),
    ("__GFP_RETRY_MAYFAIL", GFP_RETRY_MAYFAIL_BIT),
    ("__GFP_NOFAIL", GFP_NOFAIL_BIT),
    ("__GFP_NORETRY", GFP_NORETRY_BIT),
    ("__GFP_COMP", GFP_COMP_BIT),
    ("__GFP_ZERO", GFP_ZERO_BIT),
    ("__GFP_NOMEMALLOC", GFP_NOMEMALLOC_BIT),
    ("__GFP_MEMALLOC", GFP_MEMALLOC_BIT),
    ("__GFP_HARDWALL", GFP_HARDWALL_BIT),
    ("__GFP_THISNODE", GFP_THISNODE_BIT),
    ("__GFP_RECLAIMABLE", GFP_RECLAIMABLE_BIT),
    ("__GFP_MOVABLE", GFP_MOVABLE_BIT),
    ("__GFP_ACCOUNT", GFP_ACCOUNT_BIT),
    ("__GFP_WRITE", GFP_WRITE_BIT),
    ("__GFP_RECLAIM", RECLAIM),
    ("__GFP_DIRECT_RECLAIM", GFP_DIRECT_RECLAIM_BIT),
    ("__GFP_KSWAPD_RECLAIM", GFP_KSWAPD_RECLAIM_BIT),
)
_BY_NAME = dict(GFP_NAMES) | {"__GFP_DMA": GFP_DMA_BIT, "__GFP_DMA32": GFP_DMA32_BIT, "0": 0}

# Highest zone for each value of the four zone bits (GFP_ZONE_TABLE with DMA and DMA32, without
# HIGHMEM); the combinations that GFP_ZONE_BAD names read 0, ZONE_DMA, like the kernel's table.
ZONE_TABLE = (2, 0, 2, 0, 1, 0, 0, 0, 2, 0, 3, 0, 1, 0, 0, 0)
GFP_ZONE_BAD = 0b1110_1000_1110_1000


def gfp_zone(gfp: int) -> int:
    """The highest zone index that may serve `gfp` (include/linux/gfp.h gfp_zone)."""
    return ZONE_TABLE[gfp & GFP_ZONEMASK]


def gfp_zone_is_bad(gfp: int) -> bool:
    """True for zone bits that contradict each other (the VM_BUG_ON of gfp_zone)."""
    return bool(GFP_ZONE_BAD >> (gfp & GFP_ZONEMASK) & 1)


def parse_gfp(text: str | int) -> int:
    """A gfp mask from names joined by `|`, a number, or an int.

    Raises:
        UsageError: an unknown name, or a value outside the 23 bits of 4.20.
    """
    if isinstance(text, int):
        value = text
    else:
        value = 0
        for word in text.split("|"):
            name = word.strip()
            if name in _BY_NAME:
                value |= _BY_NAME[name]
                continue
            try:
                value |= int(name, 0)
            except ValueError:
                raise UsageError(f"gfp mask {text!r}: unknown flag {name!r}") from None
    if not 0 <= value <= GFP_BITS_MASK:
        raise UsageError(f"gfp mask {value:#x} has bits outside the {GFP_BITS_SHIFT} of Linux 4.20")
    return value


def format_gfp(gfp: int) -> str:
    """Names of a mask as the kernel's %pGg prints them (show_gfp_flags)."""
    if not gfp:
        return "none"
    left, names = gfp, []
    for name, bits in GFP_NAMES:
        if left and left & bits == bits:
            names.append(name)
            left &= ~bits
    if left:
        names.append(f"{left:#x}")
    return "|".join(names)
