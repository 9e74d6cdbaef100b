# SPDX-License-Identifier: GPL-2.0-only
"""How fast the allocator is: the shapes of LLFree's kernel module, guest calls, boot, checking.

`shapes` has bulk, repeat, rand and frag as the LLFree paper's module runs them against Linux;
`threads` runs two of them on CPUs side by side, `guest` counts hypercalls, `scale` times bring-up
by machine size and the check by frames. All give `Row`s, a figure with the spread of its runs,
which `rows` writes as CSV and `plot` draws. Times are the host's; but for `threads` the work is the
same on every run, down to the PFNs.
"""

from __future__ import annotations
