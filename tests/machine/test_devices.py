# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from machine import DebugConsole, DebugExit, Uart16550

LCR, MCR, LSR, SCR, FCR, IIR, IER = 3, 4, 5, 7, 2, 2, 1


def test_the_debug_console_keeps_and_forwards_what_is_written() -> None:
    console, seen = DebugConsole(), bytearray()
    console.sink = seen.extend
    for byte in b"hi\xff":
        console.port_write(0, 0, 1, byte)
    console.write(b"!")
    assert bytes(console.output) == bytes(seen) == b"hi\xff!"
    assert console.text == "hi\ufffd!"
    assert console.port_read(0, 0, 1) == 0xE9


def test_the_uart_transmits_at_once_and_is_always_ready() -> None:
    uart = Uart16550()
    assert uart.port_read(0, LSR, 1) == 0x60
    uart.port_write(0, 0, 1, 0x41)
    assert uart.output == b"A"


def test_received_bytes_come_in_order_and_then_the_line_is_empty() -> None:
    uart = Uart16550()
    uart.feed(b"ab")
    assert uart.port_read(0, LSR, 1) & 1
    assert [uart.port_read(0, 0, 1) for _ in range(3)] == [0x61, 0x62, 0]
    assert not uart.port_read(0, LSR, 1) & 1


def test_the_divisor_hides_behind_dlab() -> None:
    uart = Uart16550()
    uart.port_write(0, LCR, 1, 0x83)
    uart.port_write(0, 0, 1, 0x01)
    uart.port_write(0, 1, 1, 0x02)
    assert (uart.port_read(0, 0, 1), uart.port_read(0, 1, 1)) == (1, 2)
    uart.port_write(0, LCR, 1, 0x03)
    assert uart.port_read(0, LCR, 1) == 3
    assert uart.port_read(0, IER, 1) == 0
    assert uart.output == b""


def test_a_probe_finds_a_16550a() -> None:
    # What autoconfig() of 8250_port.c looks at: scratch, IER, loopback and the FIFO bits.
    uart = Uart16550()
    uart.port_write(0, SCR, 1, 0x5A)
    assert uart.port_read(0, SCR, 1) == 0x5A
    uart.port_write(0, IER, 1, 0xFF)
    assert uart.port_read(0, IER, 1) == 0x0F
    uart.port_write(0, MCR, 1, 0x1A)
    assert uart.port_read(0, 6, 1) & 0xF0 == 0x90
    uart.port_write(0, FCR, 1, 1)
    assert uart.port_read(0, IIR, 1) & 0xC0 == 0xC0


def test_loopback_returns_what_is_sent_until_the_fifo_overruns() -> None:
    uart = Uart16550()
    uart.port_write(0, MCR, 1, 0x10)
    uart.port_write(0, 0, 1, 1)
    uart.port_write(0, 0, 1, 2)
    assert uart.port_read(0, LSR, 1) & 3 == 3
    assert uart.port_read(0, LSR, 1) & 3 == 1
    assert uart.port_read(0, 0, 1) == 1
    assert uart.output == b""


def test_the_debug_exit_shifts_the_code_and_sets_its_low_bit() -> None:
    codes: list[tuple[int, int]] = []
    device = DebugExit(lambda cpu, code: codes.append((cpu, code)))
    device.port_write(2, 0, 1, 5)
    assert codes == [(2, 11)]


def test_a_restored_device_is_the_one_saved() -> None:
    uart, console = Uart16550(), DebugConsole()
    uart.feed(b"wait")
    uart.port_write(0, LCR, 1, 0x1B)
    uart.port_write(0, 0, 1, 0x42)
    console.write(b"text")
    other, screen = Uart16550(), DebugConsole()
    other.load(uart.save())
    screen.load(console.save())
    assert other.save() == uart.save()
    assert other.port_read(0, 0, 1) == ord("w")
    assert screen.output == b"text"


def rises(uart: Uart16550) -> list[int]:
    seen: list[int] = []
    uart.irq.connect(lambda level: seen.append(level) if level else None)
    return seen


def test_an_empty_transmitter_interrupts_once_until_something_is_sent() -> None:
    uart = Uart16550()
    seen = rises(uart)
    uart.port_write(0, 1, 1, 0x02)
    assert len(seen) == 1
    assert uart.port_read(0, 2, 1) == 0x02
    assert uart.port_read(0, 2, 1) == 0x01
    uart.port_write(0, 0, 1, 0x41)
    assert len(seen) == 2


def test_received_bytes_interrupt_as_long_as_they_wait() -> None:
    uart = Uart16550()
    uart.feed(b"ab")
    assert not uart.irq.level
    uart.port_write(0, 1, 1, 0x01)
    assert uart.irq.level
    assert uart.port_read(0, 2, 1) == 0x04
    assert uart.port_read(0, 0, 1) == 0x61
    assert uart.irq.level
    uart.port_read(0, 0, 1)
    assert not uart.irq.level


def test_a_change_of_the_modem_inputs_interrupts_until_it_is_read() -> None:
    uart = Uart16550()
    uart.port_write(0, 4, 1, 0x10)
    uart.port_read(0, 6, 1)
    uart.port_write(0, 1, 1, 0x08)
    uart.port_write(0, 4, 1, 0x12)
    assert uart.irq.level
    assert uart.port_read(0, 6, 1) & 0x11 == 0x11
    assert not uart.irq.level


def test_a_reset_forgets_the_settings_and_keeps_the_output() -> None:
    uart = Uart16550()
    uart.port_write(0, 0, 1, 0x41)
    uart.port_write(0, 7, 1, 0x5A)
    uart.reset()
    assert uart.port_read(0, 7, 1) == 0
    assert uart.text == "A"
