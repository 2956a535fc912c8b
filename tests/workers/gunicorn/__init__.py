"""Tests of the gunicorn hooks, under real gunicorns."""
