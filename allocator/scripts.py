# SPDX-License-Identifier: GPL-2.0-only
"""Finding the boot scripts that come with numalab.

They lie in `firmware/scripts` of the installed package. This module loads nothing but `firmware`,
so that a script can be on its way through the assembler before the kernel's modules are loaded.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import firmware

SCRIPTS = Path(firmware.__file__).resolve().parent / "scripts"
"""Where the boot scripts that come with the package lie."""


def find_script(name: str | PathLike[str]) -> Path:
    """The file that `name` means: a path, or the bare name of a script that comes with numalab.

    A file in the current directory comes first. Nothing is opened."""
    path = Path(name)
    if path.name == str(name) and not path.exists() and (SCRIPTS / path).is_file():
        return SCRIPTS / path
    return path
