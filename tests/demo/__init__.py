"""Tests of shmetrics.demo."""
