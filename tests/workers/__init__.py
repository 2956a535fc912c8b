"""Tests of shmetrics.workers."""
