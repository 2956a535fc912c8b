"""Tests of the rules over a fleet, and of who is told."""
