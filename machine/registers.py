# SPDX-License-Identifier: GPL-2.0-only
"""A vCPU's registers by name.

`cpu.regs.rip`, `cpu.regs["fs_base"] = x`: Intel's lower-case names; all are ints. Descriptor-table
registers are seen as their parts (`gdtr_base`, `gdtr_limit`, ...). Each access is a call into the
engine, about a microsecond: fine for people and for faults, not for a hot path.

Besides, `ds_base`, `cs_limit`, `ss_flags`, ...: what a segment register hides, in the limit's bytes
and the second word of the descriptor. (fs_base and gs_base are the MSRs, which are the same.)

`save` takes everything a program can see and what the segment registers hide; `load` puts it into a
fresh engine by way of the copy (`hidden`), so that no descriptor table is read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import unicorn
from unicorn import x86_const

from machine.errors import UsageError

if TYPE_CHECKING:
    from machine.engine import Engine
    from machine.hidden import HiddenState

_U64 = (1 << 64) - 1
GENERAL = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"]
GENERAL += [f"r{n}" for n in range(8, 16)]
CONTROL = ["cr0", "cr2", "cr3", "cr4"]
SEGMENTS = ["cs", "ss", "ds", "es", "fs", "gs"]
MSRS = {
    "efer": 0xC0000080,
    "star": 0xC0000081,
    "lstar": 0xC0000082,
    "cstar": 0xC0000083,
    "sfmask": 0xC0000084,
    "fs_base": 0xC0000100,
    "gs_base": 0xC0000101,
    "kernel_gs_base": 0xC0000102,
    "sysenter_cs": 0x174,
    "sysenter_esp": 0x175,
    "sysenter_eip": 0x176,
    "pat": 0x277,
}
_TABLES = ["gdtr", "idtr", "ldtr", "tr"]
_PARTS = ["selector", "base", "limit", "flags"]
_FP = ["fpsw", "fpcw", "fptag", "mxcsr"]
_IDS: dict[str, int] = {
    name: getattr(x86_const, f"UC_X86_REG_{name.upper()}")
    for name in [*GENERAL, "rip", *CONTROL, *SEGMENTS, *_TABLES, *_FP]
}
_IDS["rflags"] = x86_const.UC_X86_REG_EFLAGS
_IDS |= {f"dr{n}": getattr(x86_const, f"UC_X86_REG_DR{n}") for n in (0, 1, 2, 3, 6, 7)}
_XMM = [getattr(x86_const, f"UC_X86_REG_XMM{n}") for n in range(16)]
_FPR = [getattr(x86_const, f"UC_X86_REG_FP{n}") for n in range(8)]
_PART_NAMES = {f"{table}_{part}": (table, n) for table in _TABLES for n, part in enumerate(_PARTS)}

_HIDDEN = {
    f"{name}_{part}": (name, index)
    for name in SEGMENTS
    for index, part in ((1, "base"), (2, "limit"), (3, "flags"))
    if f"{name}_{part}" not in MSRS
}
_SEGMENT_ORDER = ("es", "cs", "ss", "ds", "fs", "gs")

DUMP = ["rip", "rflags", *GENERAL, *CONTROL, "efer", *SEGMENTS, "fs_base", "gs_base"]
"""What a fault report shows."""


class Registers:
    """The registers of one engine, as attributes and as items. Raises `UsageError` for a name that
    is no register and a value the CPU refuses."""

    __slots__ = ("_hidden", "_uc")
    _uc: Any
    _hidden: HiddenState

    def __init__(self, engine: Engine, hidden: HiddenState | None = None) -> None:
        from machine.hidden import HiddenState

        object.__setattr__(self, "_uc", engine.uc)
        object.__setattr__(self, "_hidden", hidden or HiddenState(engine))

    def __getitem__(self, name: str) -> int:
        value: Any
        try:
            if name in MSRS:
                value = self._uc.msr_read(MSRS[name])
            elif name in _PART_NAMES:
                table, part = _PART_NAMES[name]
                value = self._uc.reg_read(_IDS[table])[part]
            elif name in _HIDDEN:
                segment, part = _HIDDEN[name]
                self._hidden.load()
                value = self._hidden.segment(_SEGMENT_ORDER.index(segment))[part]
            else:
                value = self._uc.reg_read(_IDS[name])
        except KeyError:
            raise UsageError(f"'{name}' is no register") from None
        return int(value)

    def __setitem__(self, name: str, value: int) -> None:
        try:
            if name in MSRS:
                self._uc.msr_write(MSRS[name], value & _U64)
            elif name in _PART_NAMES:
                table, part = _PART_NAMES[name]
                parts = list(self._uc.reg_read(_IDS[table]))
                parts[part] = value
                self._uc.reg_write(_IDS[table], tuple(parts))
            elif name in _HIDDEN:
                self._set_hidden(*_HIDDEN[name], value)
            else:
                self._uc.reg_write(_IDS[name], value & _U64)
        except KeyError:
            raise UsageError(f"'{name}' is no register") from None
        except unicorn.UcError:
            raise UsageError(f"{name} cannot be set to {value:#x}") from None

    def __getattr__(self, name: str) -> int:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: int) -> None:
        self[name] = value

    def _set_hidden(self, segment: str, part: int, value: int) -> None:
        """Never inside a hook."""
        number = _SEGMENT_ORDER.index(segment)
        self._hidden.load()
        parts = list(self._hidden.segment(number))
        parts[part] = value
        self._hidden.set_segment(number, *parts)
        self._hidden.store()

    def table(self, name: str) -> tuple[int, int, int, int]:
        """Selector, base, limit and flags of "tr", "ldtr", "gdtr" or "idtr"."""
        selector, base, limit, flags = self._uc.reg_read(_IDS[name])
        return selector, base, limit, flags

    def get_many(self, names: tuple[str, ...]) -> tuple[int, ...]:
        """Several at once."""
        return tuple(self[name] for name in names)

    def dump(self) -> dict[str, int]:
        """The registers a fault report shows, by name."""
        return {name: self[name] for name in DUMP}

    def save(self) -> dict[str, int | bytes]:
        """All registers as plain data."""
        names = [*DUMP, *(name for name in _IDS if name.startswith("dr")), *MSRS, *_FP]
        state: dict[str, int | bytes] = {name: self[name] for name in names}
        state |= {name: self[name] for name in (*_PART_NAMES, *_HIDDEN)}
        state["shadow"] = int(self._hidden.inhibited)
        for n, reg in enumerate(_XMM):
            state[f"xmm{n}"] = int(self._uc.reg_read(reg)).to_bytes(16, "little")
        for n, reg in enumerate(_FPR):
            mantissa, exponent = self._uc.reg_read(reg)
            state[f"fp{n}"] = mantissa.to_bytes(8, "little") + exponent.to_bytes(2, "little")
        return state

    def load(self, state: dict[str, int | bytes]) -> None:
        """Put back what `save` took. RAM must be back already: segments are read from it.

        Raises `UsageError` when the state is incomplete or the CPU refuses a value."""
        numbers = {name: value for name, value in state.items() if isinstance(value, int)}
        try:
            self._load_mode(numbers)
            for name in (*_PART_NAMES, *MSRS):
                if name != "efer":
                    self[name] = numbers[name]
            for name in (*_FP, *GENERAL, "rip", "rflags"):
                self[name] = numbers[name]
            # DR7 comes without effect: the engine arms breakpoints only when a guest writes it.
            for name in ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7"):
                self[name] = numbers[name]
            for n, reg in enumerate(_XMM):
                self._uc.reg_write(reg, int.from_bytes(_bytes(state[f"xmm{n}"], 16), "little"))
            for n, reg in enumerate(_FPR):
                raw = _bytes(state[f"fp{n}"], 10)
                pair = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
                self._uc.reg_write(reg, pair)
        except KeyError as error:
            raise UsageError(f"saved CPU state lacks {error.args[0]}") from None

    def _load_mode(self, numbers: dict[str, int]) -> None:
        """Control registers and segments, which make the mode: looked at first, for the engine
        believes them."""
        cr0, cr4, efer = numbers["cr0"], numbers["cr4"], numbers["efer"]
        paging, long_mode = cr0 >> 31 & 1, efer >> 10 & 1
        wide = numbers["cs_flags"] >> 21 & 1 if long_mode else 0
        sound = not paging or cr0 & 1
        sound = sound and long_mode == (paging & efer >> 8 & 1)
        sound = sound and (not long_mode or bool(cr4 & 0x20))
        if not sound or (wide and numbers["cs_flags"] >> 22 & 1):
            raise UsageError("saved CPU state: no CPU has this mode")
        hidden = self._hidden
        hidden.reset(bool(long_mode))
        for number, name in ((0, "cr0"), (2, "cr2"), (3, "cr3"), (4, "cr4")):
            hidden.set_control(number, numbers[name])
        hidden.efer = efer
        hidden.rflags = numbers["rflags"] & 0x3FFFFF
        for number, name in enumerate(_SEGMENT_ORDER):
            parts = (numbers[f"{name}_{part}"] for part in ("base", "limit", "flags"))
            hidden.set_segment(number, numbers[name], *parts)
        hidden.inhibited = bool(numbers.get("shadow", 0))
        hidden.store()


def _bytes(value: int | bytes, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise UsageError(f"saved CPU state: {size} bytes expected, not {value!r}")
    return value
