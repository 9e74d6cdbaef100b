# SPDX-License-Identifier: GPL-2.0-only
"""Declaring the C structures that live in guest RAM.

The allocator keeps nothing in Python: every structure is a run of 64-bit words in emulated RAM.
A `Struct` is the description of such a run: field names in the kernel's order, how many words
each field takes and how it is to be read by a person. The hot path never touches these objects;
modules pull plain word offsets out of them once, at import (`Z_LOCK = ZONE["lock"]`). The
inspector, the guest include file and drgn read the same descriptions, so there is one place that
says where a field is.

`struct page` is Linux's 64 bytes to the bit. The other structures keep Linux's field names and
order, but every scalar has a whole word to itself: the C types `int`, `s8` and `u16` would make the
word-wise hot path mask and shift for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

WORD = 8


@dataclass(frozen=True)
class Field:
    """One field: its name, C type for display, word offset, words per element and element count."""

    name: str
    ctype: str
    offset: int
    words: int = 1
    count: int = 1

    @property
    def size(self) -> int:
        """Bytes that the whole field takes."""
        return self.words * self.count * WORD


class Struct:
    """A named run of words. `S["field"]` is a word offset, `S.words` the length in words."""

    def __init__(
        self, name: str, fields: list[tuple[str, str, int | Struct, int]], words: int = 0
    ) -> None:
        """`fields` holds (name, C type, words or nested Struct per element, count).

        `words`, when given, pads the structure to that many words.
        """
        self.name = name
        self.fields: dict[str, Field] = {}
        self.nested: dict[str, Struct] = {}
        self.words: int = words
        at = 0
        for field, ctype, unit, count in fields:
            if isinstance(unit, Struct):
                self.nested[field] = unit
                unit = unit.words
            self.fields[field] = Field(field, ctype, at, unit, count)
            at += unit * count
        if words and at > words:
            raise ValueError(f"struct {name}: {at} words do not fit into {words}")
        self.words = self.words or at

    def __getitem__(self, field: str) -> int:
        return self.fields[field].offset

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields.values())

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.words * WORD


def scalar(name: str, ctype: str = "unsigned long") -> tuple[str, str, int, int]:
    """One word."""
    return (name, ctype, 1, 1)


def array(name: str, count: int, ctype: str = "unsigned long") -> tuple[str, str, int, int]:
    """`count` words."""
    return (name, ctype, 1, count)


def list_head(name: str, count: int = 1) -> tuple[str, str, int, int]:
    """`count` list heads of two words: next and prev, guest virtual addresses."""
    return (name, "struct list_head", 2, count)
