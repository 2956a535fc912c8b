"""Benchmarks: each a script that prints what it measured. Figures are ratios within one interleaved run."""
