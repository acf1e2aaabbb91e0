"""The attack: hostile files, processes killed in the middle of a write, and disks that fail. See docs/attack.md.

originals   good models and files, each small, from which hostile ones are made
mutate      bytes: flipped, cut, doubled, swapped, numbers set to extremes
structures  JSON, safetensors, PNG, zip: broken inside and whole outside
kinds       for each kind of input: how one is made from a seed, and what of memae reads it
guard       what counts as a finding: tracebacks, code that runs, memory, writes elsewhere
campaign    forked workers, watched; counts by kind; goes on where it was
kills       SIGKILL before each fsync, rename and remove, and at random moments
disks       full, read-only and slow disks, and two fits to one place
faults.c    the library that kills, fills and slows, loaded before the C library
"""
