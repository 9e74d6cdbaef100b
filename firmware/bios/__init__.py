# SPDX-License-Identifier: GPL-2.0-only
"""The BIOS: POST and services for software of the real mode, one module a service.

`rom` has the stubs and vectors, `call` what a service sees of its caller, `bios` puts everything
together. Services run in Python; guests reach them through the vectors at address 0 as they would
on any PC, and may take those over."""

from firmware.bios.bios import Bios, connect_bios, install_bios
from firmware.bios.keys import scan_codes

__all__ = ["Bios", "connect_bios", "install_bios", "scan_codes"]
