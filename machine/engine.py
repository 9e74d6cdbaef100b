# SPDX-License-Identifier: GPL-2.0-only
"""The thin layer over Unicorn: one 64-bit engine over the shared RAM, stepped an exact distance.

Counting. `Engine.run(rip, limit)` retires at most `limit` instructions and `counter` tells how many
the engine has begun. Both come from Unicorn's own counting hook (native code before every
instruction), which has a second merit: with it in place the engine looks for a stop request before
*every* instruction, so that `stop()` inside an OUT hook takes effect before the next instruction,
where otherwise the rest of the translation block would still run. The counter is not part of
Unicorn's API; it and the exact address of the last MMU fault are read out of the engine's struct,
at places that a throwaway engine is made to show once a process (`_find_fields`): it runs a known
program and the fields are where the known values turn up. A REP prefix counts once an iteration, as
it is interrupted.

The TLB is Unicorn's "virtual" one: it knows no page tables and asks the fill hook on every miss.
Hooks are registered through the C library itself, as plain function pointers: half the cost of the
Python wrapper's, and native code (a compiled page walker) can take a callback's place (`hook_raw`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import unicorn
from unicorn import unicorn_const as uc_const
from unicorn import x86_const
from unicorn.unicorn_py3.unicorn import uc_engine, uc_tb, uc_tlb_entry, uclib

from machine.errors import BringUpError

if TYPE_CHECKING:
    from machine.physmem import PhysicalMemory

FILL_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_bool,
    uc_engine,
    ctypes.c_uint64,
    ctypes.c_int,
    ctypes.POINTER(uc_tlb_entry),
    ctypes.c_void_p,
)
"""bool fill(engine, virtual page, access, entry to fill in, user data)."""
OUT_CALLBACK = ctypes.CFUNCTYPE(
    None, uc_engine, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p
)
IN_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_uint32, uc_engine, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p
)
SKIP_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, uc_engine, ctypes.c_void_p)
"""CPUID, RDTSC: true when the callback has done the instruction's work."""
BLOCK_CALLBACK = ctypes.CFUNCTYPE(
    None, uc_engine, ctypes.POINTER(uc_tb), ctypes.POINTER(uc_tb), ctypes.c_void_p
)
"""void translated(engine, new translation block, the one before, user data)."""
CODE_CALLBACK = ctypes.CFUNCTYPE(None, uc_engine, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)
MMIO_READ_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_uint64, uc_engine, ctypes.c_uint64, ctypes.c_uint, ctypes.c_void_p
)
"""uint64 read(engine, offset, bytes, user data)."""
MMIO_WRITE_CALLBACK = ctypes.CFUNCTYPE(
    None, uc_engine, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p
)
SYSCALL_CALLBACK = ctypes.CFUNCTYPE(None, uc_engine, ctypes.c_void_p)
INTERRUPT_CALLBACK = ctypes.CFUNCTYPE(None, uc_engine, ctypes.c_uint32, ctypes.c_void_p)

OK, INVALID_INSTRUCTION = uc_const.UC_ERR_OK, uc_const.UC_ERR_INSN_INVALID

_ALL = uc_const.UC_PROT_ALL
_MAGIC = 0x5A17_C0DE_1234
_FAULT_VA = 0x0000_7ABC_DEF0_1238
_SCAN_WORDS = 256
_SCRATCH = 1 << 45
"""A physical page beyond any RAM, for the warm-up instruction."""


def bare_engine(memory_map: Callable[[Any], None], counts: bool = True) -> Any:
    """A Unicorn instance in the state every vCPU starts from; with its own counting hook in place
    if it is to be the one that `counts`."""
    uc: Any = unicorn.Uc(uc_const.UC_ARCH_X86, uc_const.UC_MODE_64)
    # Westmere: the richest model without RDRAND (not repeatable) and without SVM (a guest inside a
    # guest would translate physical addresses behind the page walker's back).
    uc.ctl_set_cpu_model(x86_const.UC_CPU_X86_WESTMERE)
    uc.ctl_exits_enabled(True)  # and none set: no address is special
    memory_map(uc)
    uc.ctl_set_tlb_mode(uc_const.UC_TLB_VIRTUAL)
    # The engine announces every translated block but the first it has run: let that be this
    # jump to itself.
    uc.mem_map(_SCRATCH, 0x1000)
    uc.mem_write(_SCRATCH, b"\xeb\xfe\xf4")
    uclib.uc_emu_start(uc._uch, _SCRATCH, 0, 0, 3)
    if not counts:
        # Taking the hook away reads the code that it was put into: do it while that is there.
        uclib.uc_emu_start(uc._uch, _SCRATCH + 2, 0, 0, 0)
    uc.mem_unmap(_SCRATCH, 0x1000)
    return uc


@cache
def _find_fields() -> tuple[int, int]:
    """Byte offsets in the engine's struct of the instruction counter and the MMU fault address."""
    page = 0x1000
    nops = 5

    def fill(_uc: object, va: int, _access: int, entry: Any, _data: object) -> bool:
        entry.contents.paddr = va
        entry.contents.perms = _ALL
        return va == page

    def memory_map(uc: Any) -> None:
        uc.mem_map(page, 0x1000)
        code = b"\x90" * nops + b"\x48\xa1" + _FAULT_VA.to_bytes(8, "little")  # mov rax, [fault]
        uc.mem_write(page, code)

    uc = bare_engine(memory_map)
    callback = FILL_CALLBACK(fill)
    hook_raw(uc, uc_const.UC_HOOK_TLB_FILL, ctypes.cast(callback, ctypes.c_void_p).value or 0)
    uclib.uc_emu_start(uc._uch, page, 0, 0, _MAGIC)
    words = list((ctypes.c_uint64 * _SCAN_WORDS).from_address(uc._uch.value))
    counts = [n for n, word in enumerate(words) if word == _MAGIC and words[n - 1] == nops + 1]
    faults = [n for n, word in enumerate(words) if word == _FAULT_VA]
    if len(counts) != 1 or len(faults) != 1:
        raise BringUpError(
            f"Unicorn {unicorn.__version__} keeps its instruction counter in an unknown place"
        )
    return 8 * (counts[0] - 1), 8 * faults[0]


def hook_raw(
    uc: Any,
    kind: int,
    function: int,
    user_data: int = 0,
    instruction: int = 0,
    only: int | None = None,
) -> int:
    """Register native code at address `function` as a hook of `kind`, everywhere or only at the
    virtual address `only`; Unicorn's name for it."""
    handle = ctypes.c_size_t()
    arguments: list[Any] = [
        ctypes.c_uint64(1 if only is None else only),
        ctypes.c_uint64(only or 0),
    ]
    if kind == uc_const.UC_HOOK_INSN:
        arguments.append(ctypes.c_int(instruction))
    status = uclib.uc_hook_add(
        uc._uch,
        ctypes.byref(handle),
        kind,
        ctypes.c_void_p(function),
        ctypes.c_void_p(user_data),
        *arguments,
    )
    if status != OK:
        raise BringUpError(f"Unicorn refuses hook {kind}: error {status}")
    return handle.value


class Engine:
    """One Unicorn engine over `memory`."""

    counts_itself = True
    """Unicorn's own hook counts the instructions."""
    rip_register: int = x86_const.UC_X86_REG_RIP
    """Unicorn's number of the register that holds RIP."""

    def __init__(self, memory: PhysicalMemory) -> None:
        counter, fault = _find_fields()

        def memory_map(uc: Any) -> None:
            for start, end in memory.extents:
                uc.mem_map_ptr(start, end - start, _ALL, memory.host_address(start))

        try:
            self.uc = bare_engine(memory_map, self.counts_itself)
        except unicorn.UcError as error:
            raise BringUpError(f"cannot create a CPU: {error}") from None
        self.memory = memory  # what the engine points into must outlive it
        self._handle = self.uc._uch
        self._counter = ctypes.c_uint64.from_address(self._handle.value + counter)
        self._limit = ctypes.c_uint64.from_address(self._handle.value + counter + 8)
        self._fault = ctypes.c_uint64.from_address(self._handle.value + fault)
        self._callbacks: list[object] = []
        self._left_at = 0
        self.lock: Any = None
        """What whoever runs the engine holds, to be given back while it runs; None: nothing."""

    @property
    def counter(self) -> int:
        """Instructions begun since `run` was called, the current one included."""
        return self._counter.value

    @property
    def entered(self) -> int:
        """The same at a moment when no instruction is under way: while a block is translated."""
        return self.counter

    @property
    def behind(self) -> int:
        """After a run that `leave` ended: how many instructions retired."""
        return self._left_at

    @property
    def fault_address(self) -> int:
        """Virtual address of the last access that the fill hook refused."""
        return self._fault.value

    def run(self, rip: int, limit: int) -> int:
        """Run from `rip` for at most `limit` instructions; Unicorn's error number. Releases the
        GIL. `counter` is `limit` + 1 afterwards if and only if the limit ended the run."""
        return self._go(rip, limit)

    def _go(self, rip: int, count: int = 0) -> int:
        """Enter the engine itself."""
        lock = self.lock
        if lock is None:
            status: int = uclib.uc_emu_start(self._handle, rip, 0, 0, count)
            return status
        lock.release()
        try:
            status = uclib.uc_emu_start(self._handle, rip, 0, 0, count)
        finally:
            lock.acquire()
        return status

    def run_beside_others(self, on: bool) -> bool:
        """Outside of a run: from now on other engines over the same RAM run at the same time, or no
        longer. Locked instructions are atomic then. False when this engine cannot do that."""
        return not on

    def step_undivided(self, rip: int, limit: int = 1) -> int:
        """While every other engine rests: run the one instruction at `rip` as if there were none.
        What is locked and not aligned, on a device's page or 16 bytes long, an engine that runs
        beside others does not get done. The status."""
        return self.run(rip, limit)

    def stop(self) -> None:
        """From inside a hook: end the run before the next instruction."""
        uclib.uc_emu_stop(self._handle)

    def leave(self, code_at: Callable[[int, int], bytes]) -> bool:  # noqa: ARG002
        """From inside the callback of an IN or OUT: end the run behind that instruction. `code_at`
        reads so many bytes of guest code at a virtual address. True when the instruction will not
        be finished by the engine: the result of an IN must be put into RAX by the caller."""
        self._left_at = self.counter
        self.stop()
        return False

    def alone(self) -> bool:
        """From inside the fill hook, for a device's page: may the instruction access it now? If
        not, the hook must refuse, and is asked again when the instruction runs alone."""
        return True

    def leave_soon(self) -> None:
        """From inside an MMIO callback, where stopping would cut the instruction in two: end the
        run behind that instruction, or at the latest behind its block. `behind` and `left_soon`
        tell about it afterwards."""
        self._left_at = self._limit.value = self.counter

    @property
    def left_soon(self) -> bool:
        """After a run in which `leave_soon` was called: it is what ended the run, not a HLT."""
        return True

    def map_mmio(self, start: int, size: int, read: Any, write: Any) -> None:
        """Let the ctypes callbacks answer physical [start, start + size)."""
        self._callbacks += [read, write]
        functions = [ctypes.cast(callback, ctypes.c_void_p) for callback in (read, write)]
        none = ctypes.c_void_p(0)
        status = uclib.uc_mmio_map(
            self._handle,
            ctypes.c_uint64(start),
            ctypes.c_size_t(size),
            functions[0],
            none,
            functions[1],
            none,
        )
        if status != OK:
            raise BringUpError(f"Unicorn refuses MMIO at {start:#x}: error {status}")

    def fetch_refused(self) -> None:
        """From inside the fill hook: it refuses a fetch, which no instruction has begun for."""

    def hook_ports(self, out: Any, into: Any) -> None:
        """Register the ctypes callbacks of OUT and IN."""
        self.hook(uc_const.UC_HOOK_INSN, out, x86_const.UC_X86_INS_OUT)
        self.hook(uc_const.UC_HOOK_INSN, into, x86_const.UC_X86_INS_IN)

    def serve_doorbell(self, function: int, cpu: int) -> None:
        """Let compiled code answer the doorbell of CPU `cpu` first: `int64 function(words, ram,
        cpu, now)`; arrays are pointers to {address, length}. What it answers with anything but 0
        comes to the OUT callback. 0: no such code. An engine that cannot ignores this."""

    def walk_with(self, function: int, controls: ControlReader) -> None:
        """Let compiled code answer TLB misses first: `int64 function(words, ram, va, access, user,
        cr0, cr3, cr4, efer)`, which is `machine.walk.walk`. What it refuses comes to the fill hook.
        An engine that cannot ignores this."""

    @property
    def own_walker(self) -> int:
        """Address of `machine.walk.walk` as native code that is always there; 0: there is none."""
        return 0

    def native_walk_on(self, on: bool) -> None:
        """Ask the code given to `walk_with`, or do not."""

    def start_clock(self, now: int) -> None:
        """Tell compiled code the modelled time at the start of the next run."""

    @property
    def tired(self) -> bool:
        """Compiled code has answered so many rings that whoever runs the CPU should see to other
        things, too."""
        return False

    @property
    def rings(self) -> int:
        """Rings of the doorbell that compiled code has answered alone, and nobody taken."""
        return 0

    def take_rings(self) -> int:
        """Rings of the doorbell, since the last call, that compiled code answered alone."""
        return 0

    def take_answer(self) -> int:
        """What compiled code said to the ring being dealt with; 0 when it was not asked."""
        return 0

    def hook(self, kind: int, callback: Any, instruction: int = 0, only: int | None = None) -> None:
        """Register a ctypes callback, which the engine then keeps alive."""
        self._callbacks.append(callback)
        function = ctypes.cast(callback, ctypes.c_void_p).value or 0
        hook_raw(self.uc, kind, function, 0, instruction, only)

    def save_context(self) -> Any:
        """All registers, hidden parts included, as an opaque object of this process."""
        return self.uc.context_save()

    def load_context(self, context: Any) -> None:
        """Back to what `save_context` gave; whatever was translated under other registers or
        another RAM is forgotten. Never inside a hook."""
        self.uc.context_restore(context)
        self.flush_tlb()
        self.flush_code()

    def flush_tlb(self) -> None:
        """Forget all translations of addresses. Allowed inside OUT and IN hooks."""
        self.uc.ctl(uc_const.UC_CTL_TLB_FLUSH, uc_const.UC_CTL_IO_WRITE)

    def flush_code(self) -> None:
        """Forget all translated code. Never inside a hook: the code that called it is
        translated."""
        self.uc.ctl_flush_tb()


class ControlReader:
    """Reads the few registers the page walker needs in one call, into buffers made once."""

    def __init__(self, engine: Engine) -> None:
        names = ("CR0", "CR3", "CR4", "CS")
        ids = [getattr(x86_const, f"UC_X86_REG_{name}") for name in names]
        ids.append(x86_const.UC_X86_REG_MSR)
        self._handle = engine.uc._uch
        self._count = len(ids)
        self.ids = (ctypes.c_int32 * self._count)(*ids)
        self.values = (ctypes.c_uint64 * 8)()
        """CR0, CR3, CR4, CS, and an MSR, a struct of its number and its value."""
        self.values[4] = 0xC000_0080
        base = ctypes.addressof(self.values)
        self.pointers = (ctypes.c_void_p * self._count)(*(base + 8 * n for n in range(5)))
        self._read = uclib.uc_reg_read_batch

    def read(self) -> tuple[int, int, int, int, bool]:
        """CR0, CR3, CR4, EFER, and whether the CPU is in user mode (CPL 3)."""
        values = self.values
        self._read(self._handle, self.ids, self.pointers, self._count)
        return values[0], values[1], values[2], values[5], values[3] & 3 == 3
