# SPDX-License-Identifier: GPL-2.0-only
"""Red-black trees in guest RAM, plain and augmented (lib/rbtree.c), and interval trees on them.

A node is three words inside whatever it links: the parent's address with the colour in bit 0 (1 is
black), right child, left child. A root is one word, the address of the topmost node or 0. A tree
may keep in every node a summary of the subtree below it, which insertions, removals and rotations
then hold up to date; `kind` says which: AUG_NONE, AUG_GAP (the largest hole in front of an area,
for `mmap`), AUG_LAST (the largest last index of an interval).

An interval tree node holds its interval [start, last] itself, both ends included, and
`subtree_last` behind; who changes the interval takes the node out first (lib/interval_tree.c).

All hot. `node` and `root` are word indices, 0 for none.
"""

from __future__ import annotations

from .kernel_globals import G_STACK_GUARD_GAP
from .layout import PAGE_OFFSET
from .structs import Struct, scalar

RB_NODE = Struct(
    "rb_node",
    [
        scalar("rb_parent_color"),
        scalar("rb_right", "struct rb_node *"),
        scalar("rb_left", "struct rb_node *"),
    ],
)
RB_PARENT = 0
RB_RIGHT = 1
RB_LEFT = 2
RB_BLACK = 1

INTERVAL_NODE = Struct(
    "interval_node",
    [
        ("rb", "struct rb_node", RB_NODE, 1),
        scalar("start"),
        scalar("last"),
        scalar("subtree_last"),
    ],
)
IT_START = INTERVAL_NODE["start"]
IT_LAST = INTERVAL_NODE["last"]
IT_SUBTREE_LAST = INTERVAL_NODE["subtree_last"]

AUG_NONE = 0
AUG_GAP = 1
AUG_LAST = 2

# Where an area's fields are, seen from its vm_rb (mm_struct.VM_AREA_STRUCT; a test compares).
GAP_START = -4
GAP_PREV = -1
GAP_FIELD = 3
GAP_FLAGS = 6
GROWSDOWN = 0x100


def rb_word(va: int) -> int:
    """Word index of the node at address `va`, 0 for none. Hot."""
    return (va - PAGE_OFFSET) >> 3 if va else 0


def rb_va(node: int) -> int:
    """Address of `node`, 0 for none. Hot."""
    return PAGE_OFFSET + (node << 3) if node else 0


def rb_parent(m: memoryview, node: int) -> int:
    """The node above `node`, 0 at the top. Hot."""
    va = m[node + RB_PARENT] & ~3
    return (va - PAGE_OFFSET) >> 3 if va else 0


def rb_child(m: memoryview, node: int, side: int) -> int:
    """The child of `node` at RB_LEFT or RB_RIGHT. Hot."""
    va = m[node + side]
    return (va - PAGE_OFFSET) >> 3 if va else 0


def rb_is_red(m: memoryview, node: int) -> bool:
    """True for a red node; none counts as black. Hot."""
    return node != 0 and m[node] & RB_BLACK == 0


def rb_set_parent(m: memoryview, node: int, parent: int) -> None:
    """Hangs `node` below `parent`, keeping its colour. Hot."""
    m[node] = rb_va(parent) | (m[node] & RB_BLACK)


def rb_summary(m: memoryview, node: int, kind: int) -> int:
    """What `node` should say about the subtree below it and itself. Hot."""
    if kind == AUG_GAP:
        best = m[node + GAP_START]
        if m[node + GAP_FLAGS] & GROWSDOWN:
            best = max(best - m[G_STACK_GUARD_GAP], 0)
        prev = m[node + GAP_PREV]
        if prev:
            best -= m[((prev - PAGE_OFFSET) >> 3) + 1]
        field = GAP_FIELD
    else:
        best = m[node + IT_LAST]
        field = IT_SUBTREE_LAST
    left = m[node + RB_LEFT]
    if left:
        best = max(best, m[((left - PAGE_OFFSET) >> 3) + field])
    right = m[node + RB_RIGHT]
    if right:
        best = max(best, m[((right - PAGE_OFFSET) >> 3) + field])
    return best


def rb_update(m: memoryview, node: int, kind: int) -> bool:
    """Renews the summary of `node`; True if it has changed. Hot."""
    best = rb_summary(m, node, kind)
    w = node + (GAP_FIELD if kind == AUG_GAP else IT_SUBTREE_LAST)
    if m[w] == best:
        return False
    m[w] = best
    return True


def rb_propagate(m: memoryview, node: int, kind: int) -> None:
    """Renews the summaries from `node` upwards until one stays as it was. Hot."""
    while node and rb_update(m, node, kind):
        node = rb_parent(m, node)


def rb_replace_child(m: memoryview, old: int, new: int, parent: int, root: int) -> None:
    """Where `parent` (0: the root) points to `old` it points to `new` now. Hot."""
    if parent == 0:
        m[root] = rb_va(new)
    elif rb_child(m, parent, RB_LEFT) == old:
        m[parent + RB_LEFT] = rb_va(new)
    else:
        m[parent + RB_RIGHT] = rb_va(new)


def rb_rotate(m: memoryview, node: int, side: int, root: int, kind: int) -> int:
    """Moves `node` down to `side`, its other child up: that child. Hot."""
    other = RB_LEFT + RB_RIGHT - side
    child = rb_child(m, node, other)
    inner = rb_child(m, child, side)
    parent = rb_parent(m, node)
    m[node + other] = rb_va(inner)
    if inner:
        rb_set_parent(m, inner, node)
    m[child + side] = rb_va(node)
    rb_set_parent(m, child, parent)
    rb_replace_child(m, node, child, parent, root)
    rb_set_parent(m, node, child)
    if kind:
        rb_update(m, node, kind)
        rb_update(m, child, kind)
    return child


def rb_insert(m: memoryview, node: int, parent: int, side: int, root: int, kind: int) -> None:
    """Hangs `node` below `parent` at RB_LEFT or RB_RIGHT (parent 0: empty tree), balancing. Hot."""
    m[node] = rb_va(parent)
    m[node + RB_LEFT] = 0
    m[node + RB_RIGHT] = 0
    if parent:
        m[parent + side] = rb_va(node)
    else:
        m[root] = rb_va(node)
    if kind:
        rb_update(m, node, kind)
        rb_propagate(m, parent, kind)
    while rb_is_red(m, parent):
        grand = rb_parent(m, parent)
        side = RB_LEFT if rb_child(m, grand, RB_LEFT) == parent else RB_RIGHT
        other = RB_LEFT + RB_RIGHT - side
        uncle = rb_child(m, grand, other)
        if rb_is_red(m, uncle):
            m[parent] |= RB_BLACK
            m[uncle] |= RB_BLACK
            m[grand] &= ~RB_BLACK
            node = grand
            parent = rb_parent(m, node)
            continue
        if rb_child(m, parent, other) == node:
            parent = rb_rotate(m, parent, side, root, kind)
        m[parent] |= RB_BLACK
        m[grand] &= ~RB_BLACK
        rb_rotate(m, grand, other, root, kind)
        break
    m[((m[root] - PAGE_OFFSET) >> 3)] |= RB_BLACK


def rb_erase_color(m: memoryview, node: int, parent: int, root: int, kind: int) -> None:
    """Balances after a black node above `node` (0: none), below `parent`, is gone. Hot."""
    while parent and not rb_is_red(m, node):
        side = RB_LEFT if rb_child(m, parent, RB_LEFT) == node else RB_RIGHT
        other = RB_LEFT + RB_RIGHT - side
        sibling = rb_child(m, parent, other)
        if rb_is_red(m, sibling):
            m[sibling] |= RB_BLACK
            m[parent] &= ~RB_BLACK
            rb_rotate(m, parent, side, root, kind)
            sibling = rb_child(m, parent, other)
        near = rb_child(m, sibling, side)
        far = rb_child(m, sibling, other)
        if not rb_is_red(m, near) and not rb_is_red(m, far):
            m[sibling] &= ~RB_BLACK
            node = parent
            parent = rb_parent(m, node)
            continue
        if not rb_is_red(m, far):
            m[near] |= RB_BLACK
            m[sibling] &= ~RB_BLACK
            sibling = rb_rotate(m, sibling, other, root, kind)
            far = rb_child(m, sibling, other)
        m[sibling] = (m[sibling] & ~RB_BLACK) | (m[parent] & RB_BLACK)
        m[parent] |= RB_BLACK
        m[far] |= RB_BLACK
        rb_rotate(m, parent, side, root, kind)
        return
    if node:
        m[node] |= RB_BLACK


def rb_erase(m: memoryview, node: int, root: int, kind: int) -> None:
    """Takes `node` out of the tree, balancing. Its own words stay as they were. Hot."""
    left = rb_child(m, node, RB_LEFT)
    right = rb_child(m, node, RB_RIGHT)
    parent = rb_parent(m, node)
    black = m[node] & RB_BLACK
    if left and right:
        heir = right
        while m[heir + RB_LEFT]:
            heir = rb_child(m, heir, RB_LEFT)
        black = m[heir] & RB_BLACK
        child = rb_child(m, heir, RB_RIGHT)
        above = rb_parent(m, heir)
        if above == node:
            above = heir
        else:
            m[above + RB_LEFT] = rb_va(child)
            if child:
                rb_set_parent(m, child, above)
            m[heir + RB_RIGHT] = rb_va(right)
            rb_set_parent(m, right, heir)
        m[heir + RB_LEFT] = rb_va(left)
        rb_set_parent(m, left, heir)
        rb_replace_child(m, node, heir, parent, root)
        m[heir] = m[node]
    else:
        child = left or right
        above = parent
        if child:
            rb_set_parent(m, child, parent)
        rb_replace_child(m, node, child, parent, root)
    if kind:
        up = above
        while up:
            rb_update(m, up, kind)
            up = rb_parent(m, up)
    if black:
        rb_erase_color(m, child, above, root, kind)


def rb_first(m: memoryview, root: int) -> int:
    """The leftmost node, 0 in an empty tree. Hot."""
    node = rb_word(m[root])
    while node and m[node + RB_LEFT]:
        node = rb_child(m, node, RB_LEFT)
    return node


def rb_step(m: memoryview, node: int, side: int) -> int:
    """The neighbour of `node` in order: RB_RIGHT the next, RB_LEFT the one before; 0 at the end.
    Hot."""
    other = RB_LEFT + RB_RIGHT - side
    if m[node + side]:
        node = rb_child(m, node, side)
        while m[node + other]:
            node = rb_child(m, node, other)
        return node
    parent = rb_parent(m, node)
    while parent and rb_child(m, parent, side) == node:
        node = parent
        parent = rb_parent(m, node)
    return parent


def rb_next(m: memoryview, node: int) -> int:
    """The node behind `node` in order, 0 at the end. Hot."""
    return rb_step(m, node, RB_RIGHT)


def rb_prev(m: memoryview, node: int) -> int:
    """The node in front of `node` in order, 0 at the beginning. Hot."""
    return rb_step(m, node, RB_LEFT)


# --- interval trees -------------------------------------------------------------------------------


def interval_tree_insert(m: memoryview, node: int, root: int) -> None:
    """Puts an interval, whose start and last are set, into the tree; equals go right. Hot."""
    start = m[node + IT_START]
    parent = 0
    side = RB_LEFT
    at = rb_word(m[root])
    while at:
        parent = at
        side = RB_LEFT if start < m[at + IT_START] else RB_RIGHT
        at = rb_child(m, at, side)
    rb_insert(m, node, parent, side, root, AUG_LAST)


def interval_tree_remove(m: memoryview, node: int, root: int) -> None:
    """Takes an interval out of the tree. Hot."""
    rb_erase(m, node, root, AUG_LAST)


def interval_subtree_search(m: memoryview, node: int, start: int, last: int) -> int:
    """The leftmost interval below `node` that meets [start, last]; 0 for none. Hot."""
    while True:
        left = rb_child(m, node, RB_LEFT)
        if left and start <= m[left + IT_SUBTREE_LAST]:
            node = left
            continue
        if m[node + IT_START] > last:
            return 0
        if start <= m[node + IT_LAST]:
            return node
        node = rb_child(m, node, RB_RIGHT)
        if node == 0 or start > m[node + IT_SUBTREE_LAST]:
            return 0


def interval_tree_iter_first(m: memoryview, root: int, start: int, last: int) -> int:
    """The first interval that meets [start, last], in order of starts; 0 for none. Hot."""
    node = rb_word(m[root])
    if node == 0 or m[node + IT_SUBTREE_LAST] < start:
        return 0
    return interval_subtree_search(m, node, start, last)


def interval_tree_iter_next(m: memoryview, node: int, start: int, last: int) -> int:
    """The next interval behind `node` that meets [start, last]; 0 for none. Hot."""
    while True:
        right = rb_child(m, node, RB_RIGHT)
        if right and start <= m[right + IT_SUBTREE_LAST]:
            return interval_subtree_search(m, right, start, last)
        parent = rb_parent(m, node)
        while parent and rb_child(m, parent, RB_RIGHT) == node:
            node = parent
            parent = rb_parent(m, node)
        if parent == 0:
            return 0
        node = parent
        if m[node + IT_START] > last:
            return 0
        if start <= m[node + IT_LAST]:
            return node
