# SPDX-License-Identifier: GPL-2.0-only
"""The same image under QEMU: what the screen, the serial port and the registers show at the end.

QEMU runs without acceleration, controlled over QMP. A guest is at its end when it stays where it
is: halted with interrupts off, or at a jump to itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QEMU = "qemu-system-x86_64"
MISSING = f"{QEMU} is not installed"
EPOCH = "2018-12-23T12:00:00"
PATIENCE = 30.0
"""Seconds a guest may take."""
_LOOP = b"\xeb\xfe"
_REGISTER = re.compile(r"\b(R?E?[A-Z0-9]{2,4}) *=([0-9a-f]+)")


def there() -> bool:
    """True when QEMU can be run."""
    return shutil.which(QEMU) is not None


@dataclass(frozen=True)
class Seen:
    """A machine at the end. `registers` of every CPU, as QEMU writes their names in lower case."""

    screen: bytes
    serial: bytes
    registers: tuple[dict[str, int], ...]
    memory: bytes

    @property
    def rip(self) -> int:
        """CPU 0's instruction pointer, linear."""
        return self.registers[0]["rip"]


class _Monitor:
    """QMP on standard input and output of a QEMU."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._receive()
        self.do("qmp_capabilities")

    def _receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise RuntimeError(self.process.stderr.read().decode("utf-8", "replace"))
        return dict(json.loads(line))

    def do(self, command: str, **arguments: object) -> Any:
        """The answer to a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(
            json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        )
        self.process.stdin.flush()
        while True:
            answer = self._receive()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(answer["error"])

    def say(self, line: str) -> str:
        """The answer to a command of the human monitor."""
        return str(self.do("human-monitor-command", **{"command-line": line}))

    def registers(self) -> list[dict[str, int]]:
        """The registers of every CPU; `rip` is linear, `hlt` 1 in a halted CPU."""
        out = []
        for text in self.say("info registers -a").split("CPU#")[1:]:
            found = {name.lower(): int(value, 16) for name, value in _REGISTER.findall(text)}
            segment = re.search(r"^CS =([0-9a-f]+) ([0-9a-f]+)", text, re.MULTILINE)
            assert segment is not None
            values = {name.replace("e", "r", 1): v for name, v in found.items() if len(name) == 3
                      and name[0] == "e" and name != "efl"}  # fmt: skip
            values |= {name: v for name, v in found.items() if name not in ("cs",)}
            offset = found.get("rip", found.get("eip", 0))
            values["rip"] = (int(segment[2], 16) + offset) & ((1 << 64) - 1)
            out.append(values)
        return out


def run(
    image: Path,
    *arguments: str,
    floppy: bool = False,
    kernel: bool = False,
    memory: tuple[int, int] = (0, 0),
    work: Path,
    keys: tuple[str, ...] = (),
    only_first: bool = False,
) -> Seen:
    """Boot `image` to its end. `memory`: physical start and length of what is wanted besides;
    `keys` are pressed one after the other once the guest waits for the first (`sendkey` names);
    `only_first`: the other CPUs are still where the BIOS left them."""
    serial, dump, screen = work / "serial", work / "memory", work / "screen"
    drive = f"file={image},format=raw,if={'floppy' if floppy else 'ide'},snapshot=on"
    boots = ("-kernel", str(image)) if kernel else ("-drive", drive)
    command = [
        QEMU, "-accel", "tcg", *boots, "-nic", "none", "-display", "none", "-no-reboot",
        "-serial", f"file:{serial}", "-rtc", f"base={EPOCH},clock=vm", "-qmp", "stdio", *arguments,
    ]  # fmt: skip
    monitor = _Monitor(command)
    try:
        for key in keys:
            time.sleep(0.5 if key is not keys[0] else 3)
            monitor.say(f"sendkey {key}")
        registers = _wait(monitor, only_first)
        monitor.do("stop")
        for start, size, file in ((0xB8000, 4000, screen), (*memory, dump)):
            if size:
                monitor.say(f'pmemsave {start:#x} {size:#x} "{file}"')
        monitor.do("quit")
        monitor.process.wait(PATIENCE)
    finally:
        monitor.process.kill()
        monitor.process.communicate()
    found = dump.read_bytes() if memory[1] else b""
    return Seen(screen.read_bytes(), serial.read_bytes(), tuple(registers), found)


def _wait(monitor: _Monitor, only_first: bool) -> list[dict[str, int]]:
    """Wait until every CPU (or only the first) stays where it is; the registers."""
    end = time.monotonic() + PATIENCE
    before: list[int] = []
    same = 0
    while time.monotonic() < end:
        time.sleep(0.15)
        registers = monitor.registers()
        places = [values["rip"] for values in registers]
        watched = registers[:1] if only_first else registers
        ended = all(_ended(monitor, values) for values in watched)
        same = same + 1 if ended and places == before else 0
        if same >= 2:
            return registers
        before = places
    text = monitor.say("x/2000xh 0xb8000")
    cells = [int(word, 16) & 0xFF for word in re.findall(r"0x([0-9a-f]{4})\b", text)]
    screen = bytes(cells).decode("cp437").split()
    raise AssertionError(f"no end to it: {[hex(n) for n in before]}, screen {screen}")


def _ended(monitor: _Monitor, values: dict[str, int]) -> bool:
    """True for a CPU that is halted, or at a jump to itself."""
    if values.get("hlt") and not values.get("efl", values.get("rfl", 0)) & 0x200:
        return True
    text = monitor.say(f"x/2xb {values['rip']:#x}")
    code = bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})\b", text.split(":")[-1]))
    return code.startswith(_LOOP)
