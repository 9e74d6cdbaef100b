# SPDX-License-Identifier: GPL-2.0-only
"""allocator/drgn_types.py: types for drgn made from the Struct descriptions."""

from __future__ import annotations

import pytest

from allocator.drgn_types import Types
from allocator.inspect.structure import STRUCTS
from allocator.mm_types import NR_PAGEFLAGS, PAGE
from allocator.mmzone import MIGRATE_ISOLATE, NR_FREE_CMA_PAGES, WMARK_HIGH

drgn = pytest.importorskip("drgn")


@pytest.fixture(scope="module")
def types() -> Types:
    return Types(drgn.Program(drgn.Platform(drgn.Architecture.X86_64)))


def test_every_described_structure_has_its_size_and_its_members_where_they_are(
    types: Types,
) -> None:
    for name, struct in STRUCTS.items():
        made = types.get(f"struct {name}")
        assert made.size == struct.size, name
        if struct is PAGE:
            continue
        for field in struct:
            member = made.member(field.name)
            assert member.bit_offset == field.offset * 64, (name, field.name)
            assert drgn.sizeof(member.type) <= field.size, (name, field.name)


def test_struct_page_is_4_20s_with_its_unions(types: Types) -> None:
    page = types.get("struct page")
    offsets = {
        "flags": 0,
        "lru": 8,
        "compound_head": 8,
        "compound_order": 17,
        "compound_mapcount": 20,
        "mapping": 24,
        "index": 32,
        "private": 40,
        "_mapcount": 48,
        "page_type": 48,
        "_refcount": 52,
        "mem_cgroup": 56,
    }
    assert {name: page.member(name).bit_offset // 8 for name in offsets} == offsets
    assert page.size == 64


def test_constants_have_the_allocators_values(types: Types) -> None:
    for name, value in (
        ("MIGRATE_ISOLATE", MIGRATE_ISOLATE),
        ("MIGRATE_PCPTYPES", 3),
        ("WMARK_HIGH", WMARK_HIGH),
        ("NR_FREE_CMA_PAGES", NR_FREE_CMA_PAGES),
        ("__NR_PAGEFLAGS", NR_PAGEFLAGS),
        ("PG_lru", 4),
        ("N_ONLINE", 1),
    ):
        found = types.enumerator(name)
        assert found is not None
        assert found.value_() == value, name
    assert types.enumerator("ZONE_DEVICE") is None


def test_unknown_names_are_not_types(types: Types) -> None:
    assert types.find("struct", "task_group") is None
    with pytest.raises(KeyError):
        types.get("struct dentry_operations")
    pointer = types.pointer("struct dentry_operations *")
    assert not pointer.type.is_complete()
