# SPDX-License-Identifier: GPL-2.0-only
"""Packets from Python, and their frames by name."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.inspect.owner import Owners
from tests.allocator.machines import boot


def test_a_packet_keeps_its_bytes_until_it_is_given_back() -> None:
    kernel = boot("1x64M")
    small, large = kernel.receive(b"ping" * 10), kernel.receive(b"x" * 9000)
    assert small is not None
    assert large is not None
    assert (small.in_fragment, large.in_fragment) == (True, False)
    assert small.data == b"ping" * 10
    assert large.data == b"x" * 9000
    assert [packet.word for packet in kernel.packets] == [small.word, large.word]
    owners = Owners(kernel.m)
    assert owners.name(small.phys >> 12) == "network buffers of cpu 0"
    assert owners.name(small.word >> 9) == "slab skbuff_head_cache"
    small.free()
    with pytest.raises(BadRequest, match="given back"):
        small.data  # noqa: B018
    assert [packet.word for packet in kernel.packets] == [large.word]


def test_impossible_packets_are_refused() -> None:
    kernel = boot("1x64M")
    for data in (b"", b"x" * 65_536):
        with pytest.raises(BadRequest, match="a packet of"):
            kernel.receive(data)
    with pytest.raises(BadRequest, match="no cpu 5"):
        kernel.receive(b"x", cpu=5)
