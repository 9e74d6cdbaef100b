# SPDX-License-Identifier: GPL-2.0-only
"""What the engine of a CPU asks while it runs: pages, ports, devices in memory, CPUID, time.

`install_hooks` registers the callbacks on a fresh engine. They belong to one `VCPU` and leave what
has to be dealt with outside of the engine in its fields: a refused access, an exception, a system
call, what a device raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unicorn import unicorn_const as kinds
from unicorn import x86_const as x86

from machine import engine as callbacks
from machine.biosport import BIOS_PORT
from machine.mmio import OPEN_BUS, WINDOW, WINDOW_PAGES
from machine.mmu import BUS_PAGE, FETCH, page_fault_error, translate_as
from machine.walk import CR0_PE, CR0_PG, EFER_LMA, PROTECTION, walk

if TYPE_CHECKING:
    from machine.engine import ControlReader, Engine
    from machine.registers import Registers
    from machine.vcpu import VCPU

_READ_WRITE = 3
_VM = 1 << 17
"""RFLAGS.VM: virtual-8086 mode is user mode whatever CS says."""
_U32 = 0xFFFFFFFF


def install_hooks(cpu: VCPU, engine: Engine, controls: ControlReader, regs: Registers) -> None:
    """Let `engine` ask `cpu`."""
    _hook_memory(cpu, engine, controls, regs)
    _hook_devices(cpu, engine, controls, regs)
    _hook_instructions(cpu, engine, regs)


def _v86(cr0: int, efer: int, regs: Registers) -> bool:
    """Virtual-8086 mode; `regs` is only asked where there is such a mode."""
    return bool(cr0 & CR0_PE and not efer & EFER_LMA and regs.rflags & _VM)


def _hook_memory(cpu: VCPU, engine: Engine, controls: ControlReader, regs: Registers) -> None:
    memory, mmio = cpu.memory, cpu.mmio
    m, table, read_controls = memory.words, cpu.ram, controls.read
    first_access: int = kinds.UC_MEM_READ

    def fill(_uc: object, va: int, kind: int, entry: Any, _data: object) -> bool:
        access = kind - first_access
        cr0, cr3, cr4, efer, ring3 = read_controls()
        if cr0 & CR0_PG and not efer & EFER_LMA:
            ring3 = ring3 or _v86(cr0, efer, regs)
            cpu.watch_task()
        user = ring3 and not cpu.privileged
        result = walk(m, table, va - (va >> 63 << 64), access, user, cr0, cr3, cr4, efer)
        if cpu.page_fault is not None and 0 > result >= PROTECTION:
            served = cpu.page_fault(va, page_fault_error(result, access, user))
            result = served if served >= 0 else result
        filled = entry.contents
        if result >= 0:
            filled.paddr = result & ~0xFFF & cpu.a20_mask
            filled.perms = result & 7
            return True
        if result == BUS_PAGE and access != FETCH:
            found = translate_as(memory, cr0, cr3, cr4, efer, va)
            page = None if found is None else mmio.window_page(found.phys & cpu.a20_mask)
            if page is None and mmio.open_bus:
                page = OPEN_BUS
            if page is not None and not engine.alone():
                return False
            if page is not None:
                filled.paddr = WINDOW + page * 4096
                filled.perms = _READ_WRITE
                return True
        cpu.refuse(result, access)
        if access == FETCH:
            engine.fetch_refused()
        return False

    def load(_uc: object, offset: int, size: int, _data: object) -> int:
        return cpu.guarded_mmio(lambda: mmio.read(cpu.cpu_id, offset, size))

    def store(_uc: object, offset: int, size: int, value: int, _data: object) -> None:
        def action() -> int:
            mmio.write(cpu.cpu_id, offset, size, value)
            return 0

        cpu.guarded_mmio(action)

    engine.map_mmio(
        WINDOW,
        WINDOW_PAGES * 4096,
        callbacks.MMIO_READ_CALLBACK(load),
        callbacks.MMIO_WRITE_CALLBACK(store),
    )
    walker = cpu.native_walk or engine.own_walker
    if walker:
        engine.walk_with(walker, controls)
    engine.hook(kinds.UC_HOOK_TLB_FILL, callbacks.FILL_CALLBACK(fill))


def _hook_devices(cpu: VCPU, engine: Engine, controls: ControlReader, regs: Registers) -> None:
    ports, number = cpu.ports, cpu.cpu_id

    def allowed(port: int, size: int) -> bool:
        """Unicorn leaves the I/O permissions of user mode to whoever handles the access. The
        BIOS's way out of its ROM is no port of the board, and open to it in virtual-8086 mode
        whatever the monitor has said about ports."""
        cr0, _, _, efer, ring3 = controls.read()
        if _v86(cr0, efer, regs):
            return port == BIOS_PORT or cpu.may_use_port(port, size)
        return not ring3 or cpu.may_use_port(port, size)

    def guarded(action: Callable[[], int], size: int = 0) -> int:
        lock = cpu.lock
        if lock is None:
            return run_device(action, size)
        with lock:
            return run_device(action, size)

    def run_device(action: Callable[[], int], size: int) -> int:
        """Run a device; keep what it raises until the engine has been left."""
        answer = 0
        cpu.count_access()
        try:
            answer = action()
        except BaseException as error:
            cpu.keep(error)
        if cpu.leaving and engine.leave(cpu.code) and size:
            keep = -1 << 8 * size if size < 4 else 0
            regs.rax = regs.rax & keep | answer & ((1 << 8 * size) - 1)
        return answer

    def port_out(_uc: object, port: int, size: int, value: int, _data: object) -> None:
        def action() -> int:
            if allowed(port, size):
                ports.write(number, port, size, value)
            return 0

        guarded(action)

    def port_in(_uc: object, port: int, size: int, _data: object) -> int:
        def action() -> int:
            return ports.read(number, port, size) if allowed(port, size) else _U32

        return guarded(action, size)

    engine.hook_ports(callbacks.OUT_CALLBACK(port_out), callbacks.IN_CALLBACK(port_in))
    engine.serve_doorbell(cpu.native_doorbell, number)


def _hook_instructions(cpu: VCPU, engine: Engine, regs: Registers) -> None:
    def answer_cpuid(_uc: object, _data: object) -> int:
        leaf, subleaf = regs.rax & 0xFFFFFFFF, regs.rcx & 0xFFFFFFFF
        regs.rax, regs.rbx, regs.rcx, regs.rdx = cpu.cpuid(leaf, subleaf)
        return 1

    def answer_rdtsc(_uc: object, _data: object) -> int:
        now = cpu.tsc()
        regs.rax, regs.rdx = now & 0xFFFFFFFF, now >> 32 & 0xFFFFFFFF
        return 1

    def interrupt(_uc: object, vector: int, _data: object) -> None:
        cpu.take_exception(vector)
        engine.stop()

    def system_call(kind: str) -> Callable[[object, object], None]:
        def call(_uc: object, _data: object) -> None:
            cpu.take_system_call(kind)
            engine.stop()

        return call

    engine.hook(kinds.UC_HOOK_INTR, callbacks.INTERRUPT_CALLBACK(interrupt))
    instruction = kinds.UC_HOOK_INSN
    engine.hook(instruction, callbacks.SKIP_CALLBACK(answer_cpuid), x86.UC_X86_INS_CPUID)
    engine.hook(instruction, callbacks.SKIP_CALLBACK(answer_rdtsc), x86.UC_X86_INS_RDTSC)
    engine.hook(instruction, callbacks.SKIP_CALLBACK(answer_rdtsc), x86.UC_X86_INS_RDTSCP)
    for name, number in (
        ("syscall", x86.UC_X86_INS_SYSCALL),
        ("sysenter", x86.UC_X86_INS_SYSENTER),
    ):
        engine.hook(instruction, callbacks.SYSCALL_CALLBACK(system_call(name)), number)
