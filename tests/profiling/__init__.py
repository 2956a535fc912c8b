"""Tests of profiles, of what makes them, and of the way to a live worker."""
