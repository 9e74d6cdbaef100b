# SPDX-License-Identifier: GPL-2.0-only
"""Arrays that grow: the XArray behind page cache and swap cache (lib/xarray.c).

`struct xarray` lies in its owner: three words, of which the last is the head. An entry is one word:
the address of a struct page, or a value (odd: `v << 1 | 1`). With only index 0 in use the head is
the entry itself; else it points to a tree of nodes with 64 slots each, a node's address being
marked with 2. Nodes count their entries and how many are values. Three marks an entry (dirty,
writeback, towrite) are kept as bitmaps in every node on the way up, the head's in xa_flags.

A node is Linux's 576 bytes: shift, offset, count and nr_values are the bytes of its first word.

Nodes of a file's array that hold nothing but values (shadows of evicted pages) are kept on a list
for their shrinker, `shadow_nodes` (workingset_update_node()). All hot: `xa` is the word index of an
xarray, `node` of a node, an index is below 2^52.
"""

from __future__ import annotations

from .gfp import GFP_NOWAIT, GFP_NOWARN_BIT, GFP_ZERO_BIT
from .kernel_globals import G_RADIX_TREE_NODE_CACHEP, G_SHADOW_NODES
from .layout import NODE_DATA, PAGE_OFFSET
from .list_head import list_init
from .list_lru import list_lru_add, list_lru_del, object_node
from .mmzone import WORKINGSET_NODES
from .slab import SLAB_PANIC, SLAB_RECLAIM_ACCOUNT
from .slab_common import kmem_cache_create
from .slub import kmem_cache_alloc, kmem_cache_free
from .structs import Struct, array, list_head, scalar
from .vmstat import mod_node_page_state

ENOMEM = 12

XARRAY = Struct(
    "xarray", [scalar("xa_lock", "spinlock_t"), scalar("xa_flags", "gfp_t"), scalar("xa_head")]
)
XA_FLAGS = XARRAY["xa_flags"]
XA_HEAD = XARRAY["xa_head"]
XA_WORDS = XARRAY.words

XA_CHUNK_SHIFT = 6
XA_CHUNK_SIZE = 1 << XA_CHUNK_SHIFT
XA_CHUNK_MASK = XA_CHUNK_SIZE - 1
XA_MAX_MARKS = 3
MAX_TRIES = 32

XA_NODE = Struct(
    "xa_node",
    [
        scalar("shift_offset_count_nr_values", "unsigned char[4]"),
        scalar("parent", "struct xa_node *"),
        scalar("array", "struct xarray *"),
        list_head("private_list"),
        array("slots", XA_CHUNK_SIZE, "void *"),
        array("marks", XA_MAX_MARKS),
    ],
)
XN_META = 0
XN_PARENT = XA_NODE["parent"]
XN_ARRAY = XA_NODE["array"]
XN_PRIVATE_LIST = XA_NODE["private_list"]
XN_SLOTS = XA_NODE["slots"]
XN_MARKS = XA_NODE["marks"]
XN_OFFSET_SHIFT = 8
XN_COUNT_SHIFT = 16
XN_VALUES_SHIFT = 24
XN_COUNT_ONE = 1 << XN_COUNT_SHIFT
XN_VALUES_ONE = 1 << XN_VALUES_SHIFT

XA_FLAGS_LOCK_IRQ = 1
XA_FLAGS_ACCOUNT = 8
# not of 4.20: this array's owner passes workingset_update_node to every operation
XA_FLAGS_SHADOWS = 0x10
XA_FLAGS_MARK_SHIFT = 23

PAGECACHE_TAG_DIRTY = 0
PAGECACHE_TAG_WRITEBACK = 1
PAGECACHE_TAG_TOWRITE = 2
XA_PRESENT = -1
"""Any entry, where a mark is asked for."""


def xa_mk_value(v: int) -> int:
    """The entry of the number `v`. Hot."""
    return v << 1 | 1


def xa_to_value(entry: int) -> int:
    """The number of a value entry. Hot."""
    return entry >> 1


def xa_is_value(entry: int) -> bool:
    """True for a value entry. Hot."""
    return entry & 1 != 0


def xa_is_node(entry: int) -> bool:
    """True for the address of a node. Hot."""
    return entry & 3 == 2


def xa_err(entry: int) -> int:
    """The negative errno that a store returned in place of an entry, 0 if it is an entry. Hot."""
    return entry >> 2 if entry & 3 == 2 and -4095 << 2 <= entry < 0 else 0


def radix_tree_init(m: memoryview, cpu: int) -> int:
    """Makes the cache of nodes, once: 0 or -ENOMEM."""
    if m[G_RADIX_TREE_NODE_CACHEP] == 0:
        flags = SLAB_PANIC | SLAB_RECLAIM_ACCOUNT
        s = kmem_cache_create(m, cpu, b"radix_tree_node", XA_NODE.size, 0, flags)
        if s == 0:
            return -ENOMEM
        m[G_RADIX_TREE_NODE_CACHEP] = PAGE_OFFSET + (s << 3)
    return 0


def xa_init(m: memoryview, xa: int, flags: int) -> None:
    """An empty array at word `xa`. Hot."""
    m[xa] = 0
    m[xa + XA_FLAGS] = flags
    m[xa + XA_HEAD] = 0


def bit_of(offset: int) -> int:
    """Bit `offset` of a signed word. Hot."""
    return 1 << offset if offset < 63 else -(1 << 63)


# --- nodes ----------------------------------------------------------------------------------------
def workingset_update_node(m: memoryview, cpu: int, node: int) -> None:
    """Puts a node of nothing but shadows on the shrinker's list, takes others off. Hot."""
    if m[G_SHADOW_NODES] == 0:
        return
    lru = (m[G_SHADOW_NODES] - PAGE_OFFSET) >> 3
    meta = m[node + XN_META]
    count = meta >> XN_COUNT_SHIFT & 0xFF
    if count and count == meta >> XN_VALUES_SHIFT & 0xFF:
        if list_lru_add(m, lru, node + XN_PRIVATE_LIST):
            mod_object_node_state(m, cpu, node, WORKINGSET_NODES, 1)
    elif list_lru_del(m, lru, node + XN_PRIVATE_LIST):
        mod_object_node_state(m, cpu, node, WORKINGSET_NODES, -1)


def mod_object_node_state(m: memoryview, cpu: int, x: int, item: int, delta: int) -> None:
    """Adds to a counter of the node that the object at word `x` is on. Hot."""
    nd = (m[NODE_DATA + object_node(m, x)] - PAGE_OFFSET) >> 3
    mod_node_page_state(m, cpu, nd, item, delta)


def xas_update(m: memoryview, cpu: int, xa: int, node: int) -> None:
    """Tells whoever watches this array's nodes that one has changed. Hot."""
    if m[xa + XA_FLAGS] & XA_FLAGS_SHADOWS:
        workingset_update_node(m, cpu, node)


def xa_node_alloc(m: memoryview, cpu: int, xa: int, shift: int, parent: int, offset: int) -> int:
    """A node for indices of `shift` bits below it, hung under `parent` (0: none); or 0. Hot.

    Never reclaims: that could take nodes away under the walk that is going on.
    """
    s = (m[G_RADIX_TREE_NODE_CACHEP] - PAGE_OFFSET) >> 3
    node = kmem_cache_alloc(m, cpu, s, GFP_NOWAIT | GFP_NOWARN_BIT | GFP_ZERO_BIT)
    if node == 0:
        return 0
    m[node + XN_META] = shift | offset << XN_OFFSET_SHIFT
    m[node + XN_ARRAY] = PAGE_OFFSET + (xa << 3)
    list_init(m, node + XN_PRIVATE_LIST)
    if parent:
        m[node + XN_PARENT] = PAGE_OFFSET + (parent << 3)
        m[parent + XN_META] += XN_COUNT_ONE
        xas_update(m, cpu, xa, parent)
    return node


def xas_nomem(m: memoryview, cpu: int, gfp: int) -> bool:
    """Gets memory for one more node where the caller may wait for it; False if there is none. Hot.

    The node lies ready in its cache, for the walk that begins anew.
    """
    s = (m[G_RADIX_TREE_NODE_CACHEP] - PAGE_OFFSET) >> 3
    spare = kmem_cache_alloc(m, cpu, s, gfp)
    if spare == 0:
        return False
    kmem_cache_free(m, cpu, s, spare)
    return True


def xa_node_free(m: memoryview, cpu: int, node: int) -> None:
    """Gives a node that is in no tree back. Hot."""
    kmem_cache_free(m, cpu, (m[G_RADIX_TREE_NODE_CACHEP] - PAGE_OFFSET) >> 3, node)


def xas_shrink(m: memoryview, cpu: int, xa: int, node: int) -> None:
    """Lowers a tree whose top `node` holds slot 0 alone. Hot."""
    while m[node + XN_META] >> XN_COUNT_SHIFT & 0xFF == 1:
        entry = m[node + XN_SLOTS]
        if entry == 0 or (entry & 3 != 2 and m[node + XN_META] & 0xFF):
            break
        m[xa + XA_HEAD] = entry
        m[node + XN_META] &= XN_COUNT_ONE - 1
        xas_update(m, cpu, xa, node)
        xa_node_free(m, cpu, node)
        if entry & 3 != 2:
            break
        node = (entry - 2 - PAGE_OFFSET) >> 3
        m[node + XN_PARENT] = 0


def xas_delete_node(m: memoryview, cpu: int, xa: int, node: int) -> None:
    """Frees `node` and the nodes above it that are empty. Hot."""
    while m[node + XN_META] >> XN_COUNT_SHIFT & 0xFF == 0:
        parent_va = m[node + XN_PARENT]
        offset = m[node + XN_META] >> XN_OFFSET_SHIFT & XA_CHUNK_MASK
        xa_node_free(m, cpu, node)
        if parent_va == 0:
            m[xa + XA_HEAD] = 0
            return
        node = (parent_va - PAGE_OFFSET) >> 3
        m[node + XN_SLOTS + offset] = 0
        m[node + XN_META] -= XN_COUNT_ONE
        xas_update(m, cpu, xa, node)
    if m[node + XN_PARENT] == 0:
        xas_shrink(m, cpu, xa, node)


def xa_leaf(m: memoryview, xa: int, index: int) -> int:
    """The lowest node on the way to `index`, 0 if the way ends before or there are none. Hot."""
    entry = m[xa + XA_HEAD]
    if entry & 3 != 2:
        return 0
    node = (entry - 2 - PAGE_OFFSET) >> 3
    shift = m[node] & 0xFF
    if index >> shift > XA_CHUNK_MASK:
        return 0
    while shift:
        entry = m[node + XN_SLOTS + (index >> shift & XA_CHUNK_MASK)]
        if entry == 0:
            return 0
        node = (entry - 2 - PAGE_OFFSET) >> 3
        shift -= XA_CHUNK_SHIFT
    return node


# --- entries --------------------------------------------------------------------------------------
def xa_load(m: memoryview, xa: int, index: int) -> int:
    """The entry at `index`, 0 if there is none. Hot."""
    entry = m[xa + XA_HEAD]
    if entry & 3 != 2:
        return entry if index == 0 else 0
    node = (entry - 2 - PAGE_OFFSET) >> 3
    shift = m[node] & 0xFF
    if index >> shift > XA_CHUNK_MASK:
        return 0
    while True:
        entry = m[node + XN_SLOTS + (index >> shift & XA_CHUNK_MASK)]
        if entry & 3 != 2:
            return entry
        node = (entry - 2 - PAGE_OFFSET) >> 3
        shift -= XA_CHUNK_SHIFT


def xas_expand(m: memoryview, cpu: int, xa: int, index: int) -> int:
    """Makes the tree high enough for `index`: the top node, or 0 without memory. Hot."""
    head = m[xa + XA_HEAD]
    shift = 0
    if head == 0:
        while index >> shift > XA_CHUNK_MASK:
            shift += XA_CHUNK_SHIFT
        node = xa_node_alloc(m, cpu, xa, shift, 0, 0)
        if node:
            m[xa + XA_HEAD] = PAGE_OFFSET + (node << 3) + 2
        return node
    node = 0
    if head & 3 == 2:
        node = (head - 2 - PAGE_OFFSET) >> 3
        shift = (m[node] & 0xFF) + XA_CHUNK_SHIFT
    while node == 0 or index >> (shift - XA_CHUNK_SHIFT) > XA_CHUNK_MASK:
        top = xa_node_alloc(m, cpu, xa, shift, 0, 0)
        if top == 0:
            return 0
        m[top + XN_META] += XN_COUNT_ONE + (XN_VALUES_ONE if head & 1 else 0)
        m[top + XN_SLOTS] = head
        for mark in range(XA_MAX_MARKS):
            m[top + XN_MARKS + mark] = m[xa + XA_FLAGS] >> (XA_FLAGS_MARK_SHIFT + mark) & 1
        if head & 3 == 2:
            m[node + XN_PARENT] = PAGE_OFFSET + (top << 3)
        head = PAGE_OFFSET + (top << 3) + 2
        m[xa + XA_HEAD] = head
        xas_update(m, cpu, xa, top)
        node = top
        shift += XA_CHUNK_SHIFT
    return node


def xas_create(m: memoryview, cpu: int, xa: int, index: int) -> int:
    """The lowest node for `index`, made if need be; 0 without memory, nothing left over. Hot."""
    node = xas_expand(m, cpu, xa, index)
    if node == 0:
        head = m[xa + XA_HEAD]
        if head & 3 == 2:
            xas_shrink(m, cpu, xa, (head - 2 - PAGE_OFFSET) >> 3)
        return 0
    shift = m[node] & 0xFF
    while shift:
        offset = index >> shift & XA_CHUNK_MASK
        entry = m[node + XN_SLOTS + offset]
        shift -= XA_CHUNK_SHIFT
        if entry == 0:
            child = xa_node_alloc(m, cpu, xa, shift, node, offset)
            if child == 0:
                xas_delete_node(m, cpu, xa, node)
                return 0
            m[node + XN_SLOTS + offset] = PAGE_OFFSET + (child << 3) + 2
            node = child
        else:
            node = (entry - 2 - PAGE_OFFSET) >> 3
    return node


def xa_store(m: memoryview, cpu: int, xa: int, index: int, entry: int, gfp: int) -> int:
    """Puts `entry` at `index`: what was there, or an error (see xa_err()). Hot.

    Marks of an entry that is replaced stay. Replacing needs no memory. 0 erases.
    """
    if entry == 0:
        return xa_erase(m, cpu, xa, index)
    head = m[xa + XA_HEAD]
    if index == 0 and head & 3 != 2:
        m[xa + XA_HEAD] = entry
        return head
    node = xa_leaf(m, xa, index)
    tries = 0
    while node == 0:
        node = xas_create(m, cpu, xa, index)
        if node == 0 and (tries == MAX_TRIES or not xas_nomem(m, cpu, gfp)):
            return -ENOMEM << 2 | 2
        tries += 1
    slot = node + XN_SLOTS + (index & XA_CHUNK_MASK)
    old = m[slot]
    m[slot] = entry
    change = (entry & 1) - (old & 1) << XN_VALUES_SHIFT
    if old == 0:
        change += XN_COUNT_ONE
    if change:
        m[node + XN_META] += change
        xas_update(m, cpu, xa, node)
    return old


def xa_erase(m: memoryview, cpu: int, xa: int, index: int) -> int:
    """Removes the entry at `index` with its marks, and nodes that are empty then: it, or 0. Hot."""
    head = m[xa + XA_HEAD]
    if head & 3 != 2:
        if index:
            return 0
        xa_init_marks(m, xa, 0)
        m[xa + XA_HEAD] = 0
        return head
    node = xa_leaf(m, xa, index)
    if node == 0:
        return 0
    slot = node + XN_SLOTS + (index & XA_CHUNK_MASK)
    old = m[slot]
    if old:
        xa_init_marks(m, xa, index)
        m[slot] = 0
        m[node + XN_META] -= XN_COUNT_ONE + ((old & 1) << XN_VALUES_SHIFT)
        xas_update(m, cpu, xa, node)
        xas_delete_node(m, cpu, xa, node)
    return old


# --- marks ----------------------------------------------------------------------------------------
def xa_marked(m: memoryview, xa: int, mark: int) -> bool:
    """True if any entry carries the mark. Hot."""
    return m[xa + XA_FLAGS] >> (XA_FLAGS_MARK_SHIFT + mark) & 1 != 0


def xa_get_mark(m: memoryview, xa: int, index: int, mark: int) -> bool:
    """True if the entry at `index` carries the mark. Hot."""
    if not xa_marked(m, xa, mark):
        return False
    if m[xa + XA_HEAD] & 3 != 2:
        return index == 0 and m[xa + XA_HEAD] != 0
    node = xa_leaf(m, xa, index)
    return node != 0 and m[node + XN_MARKS + mark] >> (index & XA_CHUNK_MASK) & 1 != 0


def xa_set_mark(m: memoryview, xa: int, index: int, mark: int) -> None:
    """Marks the entry at `index` and the way to it; nothing where there is none. Hot."""
    if xa_load(m, xa, index) == 0:
        return
    node = xa_leaf(m, xa, index)
    offset = index & XA_CHUNK_MASK
    while node:
        bit = bit_of(offset)
        if m[node + XN_MARKS + mark] & bit:
            return
        m[node + XN_MARKS + mark] |= bit
        offset = m[node] >> XN_OFFSET_SHIFT & XA_CHUNK_MASK
        parent = m[node + XN_PARENT]
        node = (parent - PAGE_OFFSET) >> 3 if parent else 0
    m[xa + XA_FLAGS] |= 1 << (XA_FLAGS_MARK_SHIFT + mark)


def xa_clear_mark(m: memoryview, xa: int, index: int, mark: int) -> None:
    """Takes the mark off the entry at `index`, and off the way where it was the last. Hot."""
    if m[xa + XA_HEAD] & 3 != 2 and index:
        return
    node = xa_leaf(m, xa, index)
    if node == 0 and m[xa + XA_HEAD] & 3 == 2:
        return
    offset = index & XA_CHUNK_MASK
    while node:
        bit = bit_of(offset)
        if m[node + XN_MARKS + mark] & bit == 0:
            return
        m[node + XN_MARKS + mark] &= ~bit
        if m[node + XN_MARKS + mark]:
            return
        offset = m[node] >> XN_OFFSET_SHIFT & XA_CHUNK_MASK
        parent = m[node + XN_PARENT]
        node = (parent - PAGE_OFFSET) >> 3 if parent else 0
    m[xa + XA_FLAGS] &= ~(1 << (XA_FLAGS_MARK_SHIFT + mark))


def xa_init_marks(m: memoryview, xa: int, index: int) -> None:
    """Takes all marks off the entry at `index`. Hot."""
    if m[xa + XA_FLAGS] >> XA_FLAGS_MARK_SHIFT & 7:
        for mark in range(XA_MAX_MARKS):
            xa_clear_mark(m, xa, index, mark)


# --- searching ------------------------------------------------------------------------------------
def next_slot(m: memoryview, node: int, offset: int, mark: int) -> int:
    """The first used (mark -1) or marked slot from `offset` on; 64 if there is none. Hot."""
    if mark < 0:
        at = node + XN_SLOTS
        while offset < XA_CHUNK_SIZE and m[at + offset] == 0:
            offset += 1
        return offset
    bits = m[node + XN_MARKS + mark] >> offset
    if bits == 0:
        return XA_CHUNK_SIZE
    while bits & 1 == 0:
        bits >>= 1
        offset += 1
    return offset


def xa_find(m: memoryview, xa: int, index: int, last: int, mark: int) -> int:
    """Lowest index in [`index`, `last`] whose entry carries `mark` (-1: any); or -1. Hot."""
    while index <= last:
        head = m[xa + XA_HEAD]
        if head & 3 != 2:
            found = head != 0 and index == 0 and (mark < 0 or xa_marked(m, xa, mark))
            return 0 if found else -1
        node = (head - 2 - PAGE_OFFSET) >> 3
        shift = m[node] & 0xFF
        if index >> shift > XA_CHUNK_MASK:
            return -1
        while True:
            offset = index >> shift & XA_CHUNK_MASK
            found_at = next_slot(m, node, offset, mark)
            if found_at == XA_CHUNK_SIZE:
                index = ((index >> (shift + XA_CHUNK_SHIFT)) + 1) << (shift + XA_CHUNK_SHIFT)
                break
            if found_at > offset:
                index = ((index >> shift & ~XA_CHUNK_MASK) + found_at) << shift
                if index > last:
                    return -1
            if shift == 0:
                return index
            node = (m[node + XN_SLOTS + found_at] - 2 - PAGE_OFFSET) >> 3
            shift -= XA_CHUNK_SHIFT
    return -1


def xa_empty(m: memoryview, xa: int) -> bool:
    """True if nothing is in the array. Hot."""
    return m[xa + XA_HEAD] == 0
