# SPDX-License-Identifier: GPL-2.0-only
"""Comparing this allocator with what a real Linux 4.20 was seen to do.

A recording is a folder with an index.json and gzipped JSON files: STATEs (everything that a kernel
could say about its page allocator at one moment), RUNs (scripted requests with the page frame and
the events that each one gave) and logs of a kernel running freely. `numalab oracle DIR` replays
them on this allocator, with all state in emulated RAM, and says where the two differ.

    records        reads the folders; every malformed byte becomes one of our errors
    schema         what the JSON files must look like
    limits         which numbers in them can be true
    guest          the emulated RAM that a recording is replayed in
    state_load     writes a recorded STATE into guest RAM (with zone_load, page_flags)
    state_compare  guest RAM against a recorded STATE, in words (with zone_compare)
    events         trace ring records as the recording's event codes
    replay         applies the operations of a RUN and compares each result
    contig_replay  the operations on pageblocks and contiguous ranges
    decision       one operation again with every trace event on: what was decided, and why
    boot_compare   recordings that start at the memory map: our own bring-up first
    trace_replay   logs of several CPUs running freely, event by event (with log_state)
    ftrace_replay  ftrace text of the kmem events
    jobs           recordings cut into units of work and spread over processes
    cli            the command
"""
