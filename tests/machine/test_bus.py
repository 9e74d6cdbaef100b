# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from machine import PortBus, UsageError
from machine.bus import State


class Recorder:
    name = "recorder"

    def __init__(self, width: int) -> None:
        self.width = width
        self.log: list[tuple[int, int, int, int]] = []

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return 0xFFFF_FF00 + 0x10 * size + offset

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self.log.append((cpu_id, offset, size, value))

    def save(self) -> State:
        return {}

    def load(self, state: State) -> None:
        self.log.clear()


def test_a_device_sees_the_cpu_the_offset_the_size_and_the_masked_value() -> None:
    bus, device = PortBus(), Recorder(4)
    bus.attach(0x300, 8, device)
    bus.write(3, 0x302, 2, 0x12345678)
    assert device.log == [(3, 2, 2, 0x5678)]
    assert bus.read(3, 0x301, 1) == 0x11


def test_an_access_wider_than_the_device_is_split_into_bytes() -> None:
    bus, device = PortBus(), Recorder(1)
    bus.attach(0x300, 2, device)
    bus.write(0, 0x300, 4, 0x44332211)
    assert device.log == [(0, 0, 1, 0x11), (0, 1, 1, 0x22)]
    assert bus.read(0, 0x300, 4) == 0xFFFF_1110


@pytest.mark.parametrize(("size", "value"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFF_FFFF)])
def test_an_unclaimed_port_floats(size: int, value: int) -> None:
    bus = PortBus()
    assert bus.read(0, 0xFFFF, size) == value
    bus.write(0, 0xFFFF, size, 1)
    assert bus.unclaimed == 2 * size


def test_ports_have_one_owner_and_must_exist() -> None:
    bus = PortBus()
    bus.attach(0x300, 8, Recorder(1))
    with pytest.raises(UsageError, match="0x307 belongs to recorder"):
        bus.attach(0x307, 1, Recorder(1))
    for first, count in ((-1, 1), (0xFFFF, 2), (0, 0)):
        with pytest.raises(UsageError, match="do not exist"):
            bus.attach(first, count, Recorder(1))
