# SPDX-License-Identifier: GPL-2.0-only
"""Why a request got the page it got: one allocation or free, told as the kernel decided it.

`explain_alloc` and `explain_free` make the call with every trace event switched on (`records`),
cut the records into passes, visits and steps (`alloc`, `free`, `steps`), spell out the watermark
arithmetic (`arithmetic`), and show the struct pages before and after (`story`). With `whatif` it
happens on a throw-away (`scratch`). It is no second implementation: every decision is read from the
records that the hot path writes.
"""

from .alloc import explain_alloc
from .free import explain_free
from .story import Story

__all__ = ["Story", "explain_alloc", "explain_free"]
