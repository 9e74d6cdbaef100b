# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from machine import errors


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("NumalabError", 70),
        ("TopologyError", 64),
        ("UsageError", 64),
        ("ImageError", 65),
        ("InputError", 66),
        ("BringUpError", 69),
        ("BusError", 70),
        ("OutputError", 73),
    ],
)
def test_every_error_is_ours_and_has_its_documented_exit_code(name: str, code: int) -> None:
    error = getattr(errors, name)
    assert issubclass(error, errors.NumalabError)
    assert error.exit_code == code


def test_a_bus_error_names_the_address_and_the_size() -> None:
    error = errors.BusError(0xC000_0000, 8)
    assert (error.address, error.size) == (0xC000_0000, 8)
    assert str(error) == "bus error: no RAM behind 8 bytes at physical 0xc0000000"
