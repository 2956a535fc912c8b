"""Tests of what takes alerts out of the process: each against a real server on loopback."""
