# SPDX-License-Identifier: GPL-2.0-only
"""The part of a CPU that no register access shows: segment caches, mode flags, exception state.

The engine's context (the buffer that Unicorn saves all registers into and restores them from) is a
copy of QEMU's CPUX86State. Interrupt delivery, resets and snapshots work on that copy: `load` takes
it, the properties read and change it, `store` puts it back, all at once. Nothing is ever written
into the engine's own memory, and an operation that fails half way simply does not `store`.

Where the fields lie is not part of Unicorn's API. `_find_layout` has a throwaway engine show it
once a process: it sets registers to known values through the API and finds them in the buffer; if
the known order of the struct (QEMU 5.0, target/i386/cpu.h) does not hold, no CPU is created."""

from __future__ import annotations

import ctypes
import struct
from functools import cache
from typing import TYPE_CHECKING, Any

import unicorn
from unicorn import unicorn_const as uc_const
from unicorn import x86_const
from unicorn.unicorn_py3.unicorn import uclib

from machine.errors import BringUpError
from machine.walk import CR0_PE, CR0_PG, EFER_LMA, EFER_LME

if TYPE_CHECKING:
    from machine.engine import Engine

ES, CS, SS, DS, FS, GS, LDTR, TR, GDTR, IDTR = range(10)
SEGMENT_NUMBERS = {"es": ES, "cs": CS, "ss": SS, "ds": DS, "fs": FS, "gs": GS}
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)

CF, PF, AF, ZF, SF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7
TF, IF, DF, OF, NT = 1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 14
RF, VM, AC = 1 << 16, 1 << 17, 1 << 18
_ARITHMETIC = CF | PF | AF | ZF | SF | OF

DESC_P, DESC_S, DESC_CODE, DESC_RW, DESC_A = 1 << 15, 1 << 12, 1 << 11, 1 << 9, 1 << 8
DESC_CONFORMING, DESC_L, DESC_B, DESC_G = 1 << 10, 1 << 21, 1 << 22, 1 << 23
DESC_DPL_SHIFT = 13

_HF_INHIBIT, _HF_CS32, _HF_SS32, _HF_ADDSEG, _HF_PE = 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7
_HF_LMA, _HF_CS64, _HF_OSFXSR, _HF_IOBPT = 1 << 14, 1 << 15, 1 << 22, 1 << 24
_HF_TASK_SWITCHED = 7 << 9
_CR4_OSFXSR = 1 << 9
_CC_OP_EFLAGS = 1

# Bytes from the first general register.
_RIP, _EFLAGS, _CC_SRC, _CC_OP, _DF, _HFLAGS = 128, 136, 152, 168, 172, 176
_SEGMENTS, _SEGMENT_SIZE, _CR0 = 184, 24, 424
_EFER = 592
# Bytes from DR0.
_ERROR_CODE, _IS_INT, _NEXT_RIP, _OLD_EXCEPTION = -16, -12, -8, 96

Segment = tuple[int, int, int, int]
"""Selector, base, limit in bytes, and the second word of the descriptor (type, DPL, ...)."""


@cache
def _find_layout() -> tuple[int, int, int]:
    """Size of the context, byte offsets of RAX and of DR0 in it. Raises `BringUpError`."""
    uc: Any = unicorn.Uc(uc_const.UC_ARCH_X86, uc_const.UC_MODE_64)
    uc.ctl_set_cpu_model(x86_const.UC_CPU_X86_WESTMERE)
    mark = 0x5A17_0000_0000
    for number, name in enumerate(["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"]):
        uc.reg_write(getattr(x86_const, f"UC_X86_REG_{name.upper()}"), mark + number)
    uc.reg_write(x86_const.UC_X86_REG_RIP, mark + 16)
    uc.reg_write(x86_const.UC_X86_REG_CR2, mark + 0x30)
    for number in range(4):
        uc.reg_write(getattr(x86_const, f"UC_X86_REG_DR{number}"), mark + 0x20 + number)
    tables = {LDTR: "LDTR", TR: "TR", GDTR: "GDTR", IDTR: "IDTR"}
    for number, name in tables.items():
        uc.reg_write(getattr(x86_const, f"UC_X86_REG_{name}"), (0, mark + 0x40 + number, 0x77, 0))
    data = _Context(uc).bytes()

    def where(value: int) -> int:
        return data.find(value.to_bytes(8, "little"))

    regs, debug = where(mark), where(mark + 0x20)
    expected = {regs + 8 * n: mark + n for n in range(8)}
    expected |= {regs + _RIP: mark + 16, regs + _CR0 + 16: mark + 0x30}
    expected |= {debug + 8 * n: mark + 0x20 + n for n in range(4)}
    for number in tables:
        expected[regs + _SEGMENTS + _SEGMENT_SIZE * number + 8] = mark + 0x40 + number
    known = regs > 0 and debug > 0 and all(where(v) == at for at, v in expected.items())
    if known:
        known = struct.unpack_from("<i", data, debug + _OLD_EXCEPTION) == (-1,)
        known &= struct.unpack_from("<I", data, regs + _CC_OP) == (_CC_OP_EFLAGS,)
        (flags,) = struct.unpack_from("<I", data, regs + _HFLAGS)
        wanted = _HF_LMA | _HF_CS64 | _HF_PE
        known &= flags & (wanted | _HF_INHIBIT) == wanted
        known &= struct.unpack_from("<Q", data, regs + _EFER) == (EFER_LMA | EFER_LME,)
    if not known:
        raise BringUpError(f"Unicorn {unicorn.__version__} keeps its registers in unknown places")
    return len(data), regs, debug


@cache
def _reset_template(long_mode: bool) -> bytes:
    """The context of a CPU fresh from reset, in real mode or as Unicorn has it in 64-bit mode."""
    mode = uc_const.UC_MODE_64 if long_mode else uc_const.UC_MODE_16
    uc: Any = unicorn.Uc(uc_const.UC_ARCH_X86, mode)
    uc.ctl_set_cpu_model(x86_const.UC_CPU_X86_WESTMERE)
    return _Context(uc).bytes()


class _Context:
    """A context buffer of one engine, whose own data lies behind a header."""

    def __init__(self, uc: Any) -> None:
        self._engine = uc._uch
        self._context = ctypes.c_void_p()
        if uclib.uc_context_alloc(self._engine, ctypes.byref(self._context)):
            raise BringUpError("Unicorn has no memory for a context")
        self.size: int = uclib.uc_context_size(self._engine)
        self.buffer = (ctypes.c_ubyte * self.size).from_address(self._context.value or 0)

    def bytes(self) -> bytes:
        self.take()
        return bytes(self.buffer)

    def take(self) -> None:
        uclib.uc_context_save(self._engine, self._context)

    def put(self) -> None:
        uclib.uc_context_restore(self._engine, self._context)

    def __del__(self) -> None:
        if self._context.value:
            uclib.uc_context_free(self._context)


class HiddenState:
    """The registers of one engine as a copy: `load`, look and change, `store`."""

    def __init__(self, engine: Engine) -> None:
        size, self._regs, self._debug = _find_layout()
        self._context = _Context(engine.uc)
        if self._context.size != size:
            raise BringUpError("Unicorn's contexts differ in size")
        self._bytes = memoryview(self._context.buffer).cast("B")
        self._handle = engine.uc._uch
        self._flags = ctypes.c_uint64()
        self._eflags = 0
        self._flags_known = False

    def load(self) -> None:
        """Take the copy. Allowed inside a hook, where some registers may be behind."""
        self._context.take()
        self._flags_known = False

    def store(self) -> None:
        """Put the copy back. Never inside a hook."""
        if self._flags_known:
            self._put_flags()
        self._set32(self._regs + _HFLAGS, self._mode_flags())
        self._context.put()

    def reset(self, long_mode: bool) -> None:
        """Make the copy that of a CPU after reset; `store` puts it into effect."""
        template = _reset_template(long_mode)
        # What is before the registers names the engine's mode and stays the buffer's own.
        self._context.take()
        self._bytes[self._regs :] = template[self._regs :]
        self._flags_known, self._eflags = True, 2

    def _u64(self, at: int) -> int:
        value: int = _QUAD.unpack_from(self._bytes, at)[0]
        return value

    def _set64(self, at: int, value: int) -> None:
        _QUAD.pack_into(self._bytes, at, value & (1 << 64) - 1)

    def _u32(self, at: int) -> int:
        value: int = _DOUBLE.unpack_from(self._bytes, at)[0]
        return value

    def _set32(self, at: int, value: int) -> None:
        _DOUBLE.pack_into(self._bytes, at, value & 0xFFFFFFFF)

    def gpr(self, number: int) -> int:
        """General register by its number in the instruction set (RAX, RCX, RDX, RBX, ...)."""
        return self._u64(self._regs + 8 * number)

    def set_gpr(self, number: int, value: int) -> None:
        """Change a general register."""
        self._set64(self._regs + 8 * number, value)

    @property
    def rip(self) -> int:
        """Instruction pointer: the offset in CS."""
        return self._u64(self._regs + _RIP)

    @rip.setter
    def rip(self, value: int) -> None:
        self._set64(self._regs + _RIP, value)

    @property
    def rsp(self) -> int:
        """Stack pointer, all 64 bits."""
        return self.gpr(RSP)

    @rsp.setter
    def rsp(self, value: int) -> None:
        self.set_gpr(RSP, value)

    @property
    def rflags(self) -> int:
        """The flags. (QEMU works the arithmetic ones out when somebody asks.)"""
        if not self._flags_known:
            uclib.uc_reg_read(self._handle, x86_const.UC_X86_REG_EFLAGS, ctypes.byref(self._flags))
            self._eflags = self._flags.value & 0x3FFFFF
            self._flags_known = True
        return self._eflags

    @rflags.setter
    def rflags(self, value: int) -> None:
        self._eflags, self._flags_known = value | 2, True

    def _put_flags(self) -> None:
        flags = self._eflags
        # At rest the field has all flags; the engine takes them apart when it begins to run.
        self._set64(self._regs + _EFLAGS, flags | 2)
        self._set64(self._regs + _CC_SRC, flags & _ARITHMETIC)
        self._set32(self._regs + _CC_OP, _CC_OP_EFLAGS)
        self._set32(self._regs + _DF, -1 if flags & DF else 1)

    def segment(self, number: int) -> Segment:
        """Segment or table register by number (ES, CS, SS, DS, FS, GS, LDTR, TR, GDTR, IDTR)."""
        at = self._regs + _SEGMENTS + _SEGMENT_SIZE * number
        selector, base, limit, flags = _SEGMENT.unpack_from(self._bytes, at)
        return selector, base, limit, flags

    def set_segment(self, number: int, selector: int, base: int, limit: int, flags: int) -> None:
        """Change it, without looking at any descriptor table."""
        at = self._regs + _SEGMENTS + _SEGMENT_SIZE * number
        _SEGMENT.pack_into(
            self._bytes,
            at,
            selector & 0xFFFF,
            base & (1 << 64) - 1,
            limit & 0xFFFFFFFF,
            flags & 0xFFFFFFFF,
        )

    def control(self, number: int) -> int:
        """Control register CR0, CR2, CR3 or CR4."""
        return self._u64(self._regs + _CR0 + 8 * number)

    def set_control(self, number: int, value: int) -> None:
        """Change it; the engine keeps its address translations until somebody flushes them."""
        self._set64(self._regs + _CR0 + 8 * number, value)

    @property
    def long_mode(self) -> bool:
        """EFER.LMA: 64-bit or compatibility mode."""
        return bool(self.efer & EFER_LMA)

    @property
    def code64(self) -> bool:
        """64-bit mode proper."""
        return self.long_mode and bool(self.segment(CS)[3] & DESC_L)

    @property
    def protected(self) -> bool:
        """CR0.PE."""
        return bool(self.control(0) & CR0_PE)

    @property
    def v86(self) -> bool:
        """Virtual-8086 mode."""
        return self.protected and bool(self.rflags & VM)

    @property
    def cpl(self) -> int:
        """Current privilege level."""
        if not self.protected:
            return 0
        return 3 if self.v86 else self.segment(SS)[3] >> DESC_DPL_SHIFT & 3

    @property
    def inhibited(self) -> bool:
        """In the shadow of STI or of a load of SS: no interrupt before the next instruction."""
        return bool(self._u32(self._regs + _HFLAGS) & _HF_INHIBIT)

    @inhibited.setter
    def inhibited(self, value: bool) -> None:
        flags = self._u32(self._regs + _HFLAGS)
        self._set32(self._regs + _HFLAGS, flags | _HF_INHIBIT if value else flags & ~_HF_INHIBIT)

    @property
    def error_code(self) -> int:
        """Error code of the exception just raised."""
        return self._u32(self._debug + _ERROR_CODE) & 0xFFFF

    @property
    def software(self) -> bool:
        """The exception just raised was INT n, INT3 or INTO."""
        return bool(self._u32(self._debug + _IS_INT))

    def forget_exception(self) -> None:
        """The engine no longer takes the next exception for one within the last."""
        self._set32(self._debug + _OLD_EXCEPTION, -1)
        self._set32(self._debug + _IS_INT, 0)
        self._set32(self._debug + _ERROR_CODE, 0)

    def _mode_flags(self) -> int:
        """QEMU's `hflags`, from the registers they sum up (cpu_x86_load_seg_cache,
        cpu_x86_update_cr0)."""
        at = self._regs + _HFLAGS
        cr0 = self.control(0)
        flags = self._u32(at) & (_HF_INHIBIT | _HF_IOBPT)
        flags |= cr0 << 8 & _HF_TASK_SWITCHED
        flags |= _HF_LMA if self.efer & EFER_LMA else 0
        flags |= _HF_OSFXSR if self.control(4) & _CR4_OSFXSR else 0
        real = not cr0 & CR0_PE
        code, stack = self.segment(CS)[3], self.segment(SS)[3]
        flags |= 0 if real else _HF_PE
        flags |= self.cpl
        if flags & _HF_LMA and code & DESC_L:
            return flags | _HF_CS32 | _HF_SS32 & -(stack >> 22 & 1) | _HF_CS64
        flags |= _HF_CS32 if code & DESC_B else 0
        flags |= _HF_SS32 if stack & DESC_B else 0
        v86 = not real and self.rflags & VM
        bases = self.segment(DS)[1] | self.segment(ES)[1] | self.segment(SS)[1]
        if real or v86 or not code & DESC_B or bases:
            flags |= _HF_ADDSEG
        return flags

    @property
    def mode(self) -> str:
        """The mode of the CPU in words."""
        if not self.protected:
            return "real"
        if self.v86:
            return "v86"
        flags = self.segment(CS)[3]
        if self.long_mode:
            return "long" if flags & DESC_L else "compatibility"
        return "protected 32" if flags & DESC_B else "protected 16"

    @property
    def paging(self) -> bool:
        """CR0.PG."""
        return bool(self.control(0) & CR0_PG)

    @property
    def efer(self) -> int:
        """The EFER register."""
        return self._u64(self._regs + _EFER)

    @efer.setter
    def efer(self, value: int) -> None:
        self._set64(self._regs + _EFER, value)


_QUAD, _DOUBLE, _SEGMENT = struct.Struct("<Q"), struct.Struct("<I"), struct.Struct("<I4xQII")
