# SPDX-License-Identifier: GPL-2.0-only
"""Numbers of the hypercalls that act for a process: 32 to 95.

They are apart from the modules that answer them, so that a guest that uses none of them (most
scripts) does not wait for those modules to load. What an argument means stands beside each name;
`firmware/scripts/include/numalab.inc` says the same to the assembler.
"""

PROCESS_CALLS = {
    "MMAP": 32,  # address, length, protection, flags, file, offset (bytes)    -> address
    "MUNMAP": 33,  # address, length    -> 0
    "MPROTECT": 34,  # address, length, protection    -> 0
    "MADVISE": 35,  # address, length, advice    -> 0
    "MLOCK": 36,  # address, length    -> 0
    "MUNLOCK": 37,  # address, length    -> 0
    "BRK": 38,  # address    -> the end of the heap
    "MBIND": 39,  # address, length, mode, node mask, flags    -> 0
    "SET_MEMPOLICY": 40,  # mode, node mask    -> 0
    "MOVE_PAGES": 41,  # count, addresses, nodes (0: ask), status    -> pages not moved
    "FORK": 42,  # -> the child's process id; 0 in the child
    "EXIT_PROCESS": 43,  # status
    "WAIT": 44,  # process id or -1    -> its process id, ARG1 = (status << 8) | signal
    "GETPID": 45,  # -> process id
    "GETPPID": 46,  # -> the parent's, 0 without one
    "SCHED_YIELD": 47,  # the CPU's other processes go first
    "SET_OOM_SCORE_ADJ": 48,  # process id (0: own), -1000 to 1000    -> 0
    "MREMAP": 49,  # address, length, new length, MREMAP_ flags, new address    -> address
    "MLOCKALL": 50,  # MCL_ bits    -> 0
    "MUNLOCKALL": 51,  # -> 0
}
"""Address spaces, processes, policies (`allocator.process_calls`)."""

FILE_CALLS = {
    "OPEN": 64,  # address of the name, its length, O_ flags    -> file
    "READ": 65,  # file, address, length, offset (-1: where it is)    -> bytes read
    "WRITE": 66,  # file, address, length, offset (-1: where it is)    -> bytes written
    "FSYNC": 67,  # file    -> 0 once all of it is on the disk
    "FTRUNCATE": 68,  # file, length    -> 0
    "CLOSE": 69,  # file    -> 0
    "SYNC": 70,  # -> 0 once all files are on the disk
    "UNLINK": 71,  # address of the name, its length    -> 0
    "FSIZE": 72,  # file    -> its length in bytes
}
"""Files (`allocator.file_calls`)."""

PRESSURE_CALLS = {
    "SWAPON": 80,  # pages, priority (-1: any)    -> the area's number
    "COMPACT_NODE": 81,  # nid    -> 0
    "MEMCG_CREATE": 82,  # the parent's number    -> the group's number
    "MEMCG_SET_MAX": 83,  # number, pages    -> 0
    "MEMCG_ATTACH": 84,  # process id (0: own), number    -> 0
    "MEMCG_USAGE": 85,  # number    -> pages charged
}
"""Swap, compaction and memory control groups (`allocator.pressure_calls`)."""

HOTPLUG_CALLS = {
    "OFFLINE": 86,  # first PFN, pages    -> 0
    "ONLINE": 87,  # first PFN, pages    -> 0
    "MEMORY_FAILURE": 88,  # PFN, MF_ flags    -> 0
}
"""Memory that goes and comes back (`allocator.hotplug_calls`)."""
