# SPDX-License-Identifier: GPL-2.0-only
"""allocator/structs.py: declared structures and their word offsets."""

from __future__ import annotations

import pytest

from allocator.structs import Struct, array, list_head, scalar


def test_fields_follow_each_other_in_the_order_given() -> None:
    inner = Struct("inner", [scalar("a"), array("b", 3)])
    outer = Struct("outer", [scalar("x"), ("in", "struct inner", inner, 2), list_head("l", 2)])
    assert (outer["x"], outer["in"], outer["l"], outer.words) == (0, 1, 9, 13)
    assert outer.size == 104
    assert [field.name for field in outer] == ["x", "in", "l"]
    assert outer.fields["in"].size == 64


def test_padding_sets_the_length_and_too_little_is_refused() -> None:
    assert Struct("s", [scalar("a")], words=8).words == 8
    with pytest.raises(ValueError, match="struct s: 3 words do not fit into 2"):
        Struct("s", [array("a", 3)], words=2)
