"""The torture of the protocol: real processes, killed at every step, watched by one that never is.

    python -m tests.torture --seconds 60 --workers 6 --seed 7

`failpoints` kill a process at a chosen line of a chosen function; `workers` are the processes to kill; `monitor` checks
after every read what must never happen; `harness` starts, kills and counts; `mutants` are deliberate defects of the
protocol, which the harness must catch.
"""
