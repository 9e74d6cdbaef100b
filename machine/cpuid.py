# SPDX-License-Identifier: GPL-2.0-only
"""CPUID: what the processor says it is.

The model is numalab's own and says only what the engine really does: long mode, NX, 1 GiB pages,
SSE4.2, AES, POPCNT, a local APIC; no RDRAND (its answers could not be repeated), no
virtualisation, no AVX, no x2APIC. The leaves from 0x40000000 are the hypervisor's: signature, then
the doorbell port and this CPU's mailbox, so that a guest needs no fixed addresses (SDM volume 2,
CPUID; Linux's Documentation/virtual/kvm/cpuid.txt for the hypervisor range)."""

from __future__ import annotations

from machine.doorbell import DOORBELL_PORT
from machine.mmu import MAXPHYADDR

Leaf = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX."""

HYPERVISOR_LEAF = 0x4000_0000
SIGNATURE = b"numalab\0\0\0\0\0"
VENDOR = b"GenuineIntel"
BRAND = b"numalab virtual x86-64 processor".ljust(48, b"\0")

_FAMILY_6_MODEL_44_STEPPING_1 = 0x206C1
_EDX_1 = sum(1 << n for n in (0, 2, 3, 4, 5, 6, 8, 9, 11, 13, 15, 16, 17, 19, 23, 24, 25, 26))
"""FPU DE PSE TSC MSR PAE CX8 APIC SEP PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2."""
_ECX_1 = sum(1 << n for n in (0, 1, 9, 13, 19, 20, 23, 25, 31))
"""SSE3 PCLMULQDQ SSSE3 CX16 SSE4.1 SSE4.2 POPCNT AES and: under a hypervisor."""
_EDX_EXT = sum(1 << n for n in (11, 20, 26, 29))
"""SYSCALL NX 1-GiB-pages LM."""
_ECX_EXT = 1 << 0
"""LAHF/SAHF in long mode."""


def _text(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4))


def cpuid(cpu_id: int, cpus: int, eax: int, ecx: int, mailbox: int | None) -> Leaf:
    """The answer of CPU `cpu_id` of `cpus` to leaf `eax`, subleaf `ecx`. `mailbox` is the physical
    address of its mailbox, or None while nobody listens at the doorbell (the leaf then says 0).
    Leaves that do not exist are zero."""
    if eax == 0:
        ebx, edx, third = _text(VENDOR)[0], _text(VENDOR)[1], _text(VENDOR)[2]
        return 0xB, ebx, third, edx
    if eax == 1:
        logical = min(cpus, 255) << 16
        ebx = (cpu_id & 0xFF) << 24 | logical | 8 << 8
        return _FAMILY_6_MODEL_44_STEPPING_1, ebx, _ECX_1, _EDX_1
    if eax == 0xB:
        if ecx > 1:
            return 0, 0, ecx & 0xFF, cpu_id
        level = (1, 1, ecx | 1 << 8) if ecx == 0 else (8, cpus, ecx | 2 << 8)
        return *level, cpu_id
    if eax == HYPERVISOR_LEAF:
        first, second, third = _text(SIGNATURE)
        return HYPERVISOR_LEAF + 1, first, second, third
    if eax == HYPERVISOR_LEAF + 1:
        address = mailbox or 0
        return DOORBELL_PORT, address & 0xFFFFFFFF, address >> 32, cpu_id
    if eax == 0x8000_0000:
        return 0x8000_0008, 0, 0, 0
    if eax == 0x8000_0001:
        return 0, 0, _ECX_EXT, _EDX_EXT
    if 0x8000_0002 <= eax <= 0x8000_0004:
        part = 16 * (eax - 0x8000_0002)
        one, two, three, four = _text(BRAND[part : part + 16])
        return one, two, three, four
    if eax == 0x8000_0008:
        return MAXPHYADDR | 48 << 8, 0, 0, 0
    return 0, 0, 0, 0
