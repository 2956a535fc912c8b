"""Tests of shmetrics.exporters."""
