"""Hostile bytes in the shared segment: nothing that reads them may crash, hang, raise or lie about its neighbours.

    python -m tests.fuzz --seconds 60 --seed 7

`strikes` says what is done to bytes, and where it hurts; `actors` are the processes that live on the segment meanwhile;
`harness` strikes, starts, ends and counts; `test_parsers` aims at one parser of shared bytes at a time.
"""
