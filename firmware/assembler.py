# SPDX-License-Identifier: GPL-2.0-only
"""GNU-style assembly to an ELF object, by LLVM's own assembler in a child process.

`Assembly` starts the child at once, so that it loads LLVM while the caller does something else, and
hands it the text when the result is asked for. A syntax error ends the child; its message is turned
into an `ImageError` whose line and column are those of the file the mistake is in, through the line
map of source.py.

LLVM names no file for a mistake inside a macro. Then the text is assembled once more with a
`.print` of its number in front of every line: the last numbers printed are the line of the macro
and the line that used it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from firmware.source import Place, Source
from machine.errors import BringUpError, ImageError

CHILD = Path(__file__).resolve().parent / "llvm_child.py"
TIMEOUT = 30.0
"""Seconds a script may take to assemble."""

_BUFFER, _INSTANTIATION = "<inline asm>", "<instantiation>"
_DIAGNOSTIC = re.compile(r"^(error|warning): (.*?):(\d+)(?::(\d+))?: (.*)$", re.MULTILINE)
_ASSERTION = re.compile(r'Assertion .*&& "(.*)".{0,2} failed')
_FATAL = re.compile(r"^(?:LLVM ERROR|fatal error|error): (.*)$", re.MULTILINE)
_PROBE = "numalab probe "
_PRINTED = re.compile(rf"^{_PROBE}(\d+)$", re.MULTILINE)
_UNDEFINED_LABEL = re.compile(r"Undefined temporary symbol")
_LABEL_USE = re.compile(rb"(?<![\w.$@%])(\d+)([bf])(?![\w$@])")
_MACRO_START = re.compile(rb"(?:^|[\s;:])\.macro\b", re.IGNORECASE)
_MACRO_END = re.compile(rb"(?:^|[\s;:])\.(?:endm|endmacro)\b", re.IGNORECASE)


def assembler_identity() -> str:
    """A text that changes when another LLVM is installed, found without loading it.

    Raises `BringUpError` when there is none."""
    version = _llvmlite() / "_version.py"
    try:
        stamp = version.stat()
    except OSError as error:
        raise BringUpError(f"assembler: {version}: {error.strerror}") from None
    return f"{version}:{stamp.st_mtime_ns}:{stamp.st_size}"


def _llvmlite() -> Path:
    spec = importlib.util.find_spec("llvmlite")
    if spec is None or not spec.submodule_search_locations:
        raise BringUpError("assembler: the Python package llvmlite is not installed")
    return Path(spec.submodule_search_locations[0])


class Assembly:
    """One script on its way through the assembler. Raises `BringUpError` when no child process can
    be started. `result` must be asked for, or `cancel` called."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._child = _start(source.directory)

    def result(self) -> tuple[bytes, tuple[str, ...]]:
        """The ELF object and the assembler's warnings. Raises `ImageError` (syntax; also a text
        that makes LLVM crash or takes more than `TIMEOUT`)."""
        code, output, log = _finish(self._child, self.source.text, self.source.name)
        if code == 0 and output:
            return output, self._warnings(log)
        raise ImageError(self._explain(code, log))

    def cancel(self) -> None:
        """Kill the child; for a caller that has changed its mind."""
        self._child.kill()
        self._child.communicate()

    def _warnings(self, log: str) -> tuple[str, ...]:
        out = []
        for kind, file, line, column, message in _DIAGNOSTIC.findall(log):
            if kind == "warning":
                where = self._locate(file, int(line), column)
                out.append(f"{where}: {_one_line(message)}")
        return tuple(out)

    def _explain(self, code: int, log: str) -> str:
        """One line about the first error in what the child wrote."""
        for kind, file, line, column, message in _DIAGNOSTIC.findall(log):
            if kind == "error":
                message = _one_line(message)
                if file == _INSTANTIATION:
                    return self._explain_macro(message)
                if _UNDEFINED_LABEL.match(message):
                    return self._explain_label()
                return f"{self._locate(file, int(line), column)}: {message}"
        fatal = _FATAL.search(log)
        if fatal:
            return f"{self.source.name}: {_one_line(fatal[1])}"
        assertion = _ASSERTION.search(log)
        if assertion:
            return f"{self.source.name}: the assembler gave up: {_one_line(assertion[1])}"
        if "MemoryError" in log or "bad_alloc" in log:
            return f"{self.source.name}: assembling takes too much memory"
        if code < 0:
            return f"{self.source.name}: the assembler was killed by signal {-code}"
        last = log.strip().rpartition("\n")[2]
        return f"{self.source.name}: the assembler failed: {_one_line(last) or f'exit {code}'}"

    def _locate(self, file: str, line: int, column: str) -> str:
        if file == _BUFFER:
            place = self.source.origin(line)
            return f"{place.file}:{place.line}:{column or 1}"
        if file.startswith("<"):
            return self.source.name
        return f"{file}:{line}:{column or 1}"

    def _explain_macro(self, message: str) -> str:
        """Say where in a macro and where it was used, by assembling with a print in every line."""
        lines = [
            b'.print "%s%d"; %s' % (_PROBE.encode(), number, line)
            if not line.lstrip().startswith(b"#")
            else line
            for number, line in enumerate(self.source.lines)
        ]
        _, _, log = _finish(
            _start(self.source.directory), b"\n".join(lines) + b"\n", self.source.name
        )
        printed = [int(number) for number in _PRINTED.findall(log)]
        inside = _macro_lines(self.source.lines)
        users = [number for number in printed if number not in inside]
        if not users or printed[-1] >= len(self.source.lines):
            return f"{self.source.name}: {message}, in a macro"
        place, column = self._statement(users[-1])
        where = f"{place.file}:{place.line}:{column}"
        if printed[-1] == users[-1]:
            return f"{where}: {message}"
        body, _ = self._statement(printed[-1])
        return f"{where}: {message}, in the macro at {body.file}:{body.line}"

    def _statement(self, index: int) -> tuple[Place, int]:
        line = self.source.lines[index]
        return self.source.origins[index], len(line) - len(line.lstrip()) + 1

    def _explain_label(self) -> str:
        """Name the first `1b` or `1f` without a label `1:` on that side of it."""
        lines = [re.split(rb"#|//", line, maxsplit=1)[0] for line in self.source.lines]
        for index, line in enumerate(lines):
            for match in _LABEL_USE.finditer(line):
                label = re.compile(rb"(?:^|[\s;:])" + match[1] + rb":")
                near = (line[: match.start()], line[match.end() :])
                behind = [*lines[:index], near[0]]
                ahead = [near[1], *lines[index + 1 :]]
                if not any(map(label.search, behind if match[2] == b"b" else ahead)):
                    place = self.source.origins[index]
                    return (
                        f"{place.file}:{place.line}:{match.start() + 1}: "
                        f"no label '{match[1].decode()}' for '{match[0].decode()}'"
                    )
        return f"{self.source.name}: a numbered label is used but not defined"


def _start(directory: Path) -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise BringUpError("assembler: the path of the Python interpreter is not known")
    site = str(_llvmlite().parent)
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(CHILD), site],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory if os.path.isdir(directory) else None,
        )
    except OSError as error:
        raise BringUpError(f"assembler: cannot start {sys.executable}: {error}") from None


def _finish(child: subprocess.Popen[bytes], text: bytes, name: str) -> tuple[int, bytes, str]:
    """Give the child its text; exit code, output and log. Raises `ImageError` on a timeout."""
    try:
        output, log = child.communicate(text, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise ImageError(f"{name}: assembling takes more than {TIMEOUT:g} seconds") from None
    finally:
        if child.poll() is None:
            child.kill()
            with contextlib.suppress(OSError, ValueError):
                child.communicate()
    return child.returncode, output, log.decode("utf-8", "replace")


def _macro_lines(lines: list[bytes]) -> frozenset[int]:
    """Indices of the lines that belong to macro definitions."""
    inside, depth = [], 0
    for index, line in enumerate(lines):
        starts = bool(_MACRO_START.search(line))
        if depth:
            inside.append(index)
        depth += starts
        if _MACRO_END.search(line):
            depth = max(0, depth - 1)
    return frozenset(inside)


def _one_line(message: str) -> str:
    """A message of LLVM's without control characters."""
    return "".join(char if char.isprintable() else " " for char in message).strip()
