# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from machine import Fault
from machine.fault import vector_name


def test_exceptions_are_named_and_other_vectors_numbered() -> None:
    assert vector_name(13) == "exception 13 (#GP general protection)"
    assert vector_name(32) == "exception 32 (interrupt)"


def test_a_fault_is_one_line_with_place_and_reason() -> None:
    assert str(Fault(1, 0x10, "why")) == "cpu 1 at rip 0x10: why"
    fault = Fault(0, 0x10, "page not present", "read", 0x2000, 0)
    assert str(fault) == "cpu 0 at rip 0x10: read of 0x2000: page not present"
