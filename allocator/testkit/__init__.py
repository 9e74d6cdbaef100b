# SPDX-License-Identifier: GPL-2.0-only
"""What the pytest plugin is made of, usable without pytest: a kernel on a bench.

`lab` boots machines for tests and judges what they leave behind, `tracked` is a Kernel that
remembers who asked for which pages, `picture` draws what changed, `assertions` explains unequal
pages, zones and free lists. The plugin (`allocator.pytest_plugin`) imports this package only when a
test asks for one of its fixtures.
"""
