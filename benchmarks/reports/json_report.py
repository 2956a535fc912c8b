"""A report as JSON: all that was measured, and what it comes to."""

import json

from shmetrics.benchmarks.figures import Report, as_json


def json_report(report: Report) -> str:
    """All of it."""
    scenarios = {
        chapter.name: {
            "summary": chapter.summary,
            "conditions": dict(chapter.conditions),
            "results": dict(chapter.results),
            "figures": [as_json(figure) for figure in chapter.figures],
        }
        for chapter in report.chapters
    }
    return json.dumps({"machine": dict(report.machine), "scenarios": scenarios}, indent=2, allow_nan=False) + "\n"
