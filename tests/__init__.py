"""Tests: they mirror the tree, and each has one sentence that says the behaviour."""
