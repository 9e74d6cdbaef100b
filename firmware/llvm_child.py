# SPDX-License-Identifier: GPL-2.0-only
"""The child process in which LLVM assembles: text on standard input, ELF object on standard output.

LLVM reports a syntax error by ending the process, and what it does on hostile input is anybody's
guess, so the parent (assembler.py) never lets it into its own process. This file imports nothing of
numalab and is run by path with `python -I -S`, which makes it start fast; the parent says where
llvmlite lies.

Usage: llvm_child.py SITE_DIRECTORY. Diagnostics and the text of `.print` go to standard error.
"""

from __future__ import annotations

import os
import resource
import sys

TRIPLE = "x86_64-unknown-none-elf"
MEMORY_LIMIT = 1 << 30
CPU_SECONDS = 60

_PLAIN = frozenset(range(0x20, 0x7F)) - set(b'"\\')


def quote(text: bytes) -> str:
    """`text` as an LLVM string constant."""
    escaped = "".join(chr(byte) if byte in _PLAIN else f"\\{byte:02X}" for byte in text)
    return f'"{escaped}"'


def main(site: str) -> None:
    """Assemble standard input."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # .print writes to file descriptor 1

    sys.path.insert(0, site)
    import llvmlite.binding as llvm

    llvm.initialize_native_asmparser()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(TRIPLE)
    machine = target.create_target_machine(reloc="static", codemodel="kernel")
    text = sys.stdin.buffer.read()
    module = llvm.parse_assembly(f'target triple = "{TRIPLE}"\nmodule asm {quote(text)}\n')
    out.write(machine.emit_object(module))
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
