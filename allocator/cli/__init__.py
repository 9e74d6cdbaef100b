# SPDX-License-Identifier: GPL-2.0-only
"""The `numalab` command.

`main` looks at the first argument, loads that subcommand's module and nothing else, and turns every
error of ours into one line on standard error and its exit code. A subcommand is a module with
`HELP`, `add_arguments(parser)` and `run(args) -> exit code`.

Exit codes: a guest's own code is the command's. The others follow BSD's sysexits.h and are listed
by `numalab boot --help`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from machine.errors import NumalabError, OutputError, UsageError

from .engine_option import chosen_engine

SUBCOMMANDS = {
    "boot": "allocator.cli.boot",
    "resume": "allocator.cli.resume",
    "inspect": "allocator.cli.inspect",
    "explain": "allocator.cli.explain",
    "check": "allocator.cli.check",
    "bench": "allocator.cli.bench",
    "oracle": "allocator.oracle.cli",
}
"""Name and module of every subcommand."""

EXIT_INTERNAL, EXIT_INTERRUPTED = 70, 130

EXIT_CODES = """exit codes:
  0..255  the guest's own; 0 also when all its CPUs have halted
  64      the command line, the topology or the kernel parameters make no sense
  65      the script does not assemble, the image, a table or a snapshot is malformed
  66      a file is missing or cannot be read
  69      the machine or its kernel cannot be brought up
  70      something was asked of guest memory that is not there; a mistake of numalab's own
  73      output cannot be written
  75      the budget of instructions or the time limit is spent
  76      the guest faulted
  130     interrupted (Ctrl-C)"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are `UsageError`s."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parser(names: Sequence[str]) -> Parser:
    """The parser with the arguments of the subcommands `names`."""
    parser = Parser(
        prog="numalab",
        description="A laboratory for physical memory: Linux 4.20's page allocator on an emulated"
        " NUMA x86-64 machine.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for name in names:
        module = import_module(SUBCOMMANDS[name])
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=(module.__doc__ or "").partition("\n\n")[2],
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` (default: the process's); its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        names = [words[0]] if words and words[0] in SUBCOMMANDS else list(SUBCOMMANDS)
        args = _parser(names).parse_args(words)
        with chosen_engine(args):
            code: int = args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_stdout()
        return _complain("standard output: nobody reads it any more", OutputError.exit_code)
    except NumalabError as error:
        if isinstance(error, OutputError):
            _discard_stdout()
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", EXIT_INTERRUPTED)
    except OSError as error:
        return _complain(f"{error.filename or 'output'}: {error.strerror}", OutputError.exit_code)
    except MemoryError:
        return _complain("the host has not enough memory", 69)
    except Exception as error:
        if os.environ.get("NUMALAB_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".replace("\n", " ")
        return _complain(f"internal error, please report it: {what}", EXIT_INTERNAL)


def _complain(message: str, code: int) -> int:
    """The one line about an error; its exit code."""
    with contextlib.suppress(OSError):  # where nobody listens the code must do
        print(f"numalab: {message} (exit {code})", file=sys.stderr, flush=True)
    return code


def _discard_stdout() -> None:
    """Whatever is still buffered for a closed standard output must not be complained about."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
