"""A report as text, as Markdown, and as JSON."""

import json

from shmetrics.benchmarks.comparing import Ratio
from shmetrics.benchmarks.figures import Axis, Chapter, Column, Curve, Point, Report, Table, at_least
from shmetrics.benchmarks.reports.cells import shown
from shmetrics.benchmarks.reports.json_report import json_report
from shmetrics.benchmarks.reports.markdown import markdown
from shmetrics.benchmarks.reports.text import text

REPORT = Report(
    {"Python": "CPython 3.11", "governor": "unknown"},
    (
        Chapter(
            "write-cost",
            "what a call costs",
            (
                Table(
                    "a | request",
                    (Column("peer"), Column("median", "us", 1), Column("calls")),
                    (("shmetrics", 1.25, 12345), ("other_one", None, 7)),
                    ("not compared: a_third; pip install it",),
                ),
                Curve(
                    "scaling",
                    Axis("writers"),
                    Axis("rate", "1/s"),
                    {"a": (Point(1, 10.0), Point(2, 20.0)), "b": (Point(2, 5.0),)},
                ),
                at_least("cheaper", 12.0, Ratio(13.0, 12.5, 13.5, (12.8, 13.2))),
                at_least("faster", 2.0, None, why="pip install other"),
            ),
            {"load": "1.0 before, 2.0 after"},
            {"seconds": [1.0, 2.0]},
        ),
    ),
)

TEXT = """\
Python    CPython 3.11
governor  unknown

write-cost: what a call costs
=============================

load  1.0 before, 2.0 after

a | request
  peer       median, us   calls
  shmetrics         1.2  12,345
  other_one           -       7
  not compared: a_third; pip install it

scaling (rate, 1/s)
  writers       a      b
        1  10.000      -
        2  20.000  5.000

[holds] cheaper: wanted at least 12 x, found 13 x
[not measured] faster: wanted at least 2 x (pip install other)
"""

MARKDOWN = """\
# shmetrics bench

- Python: CPython 3.11
- governor: unknown

## write-cost

What a call costs.

- load: 1.0 before, 2.0 after

### a \\| request

| peer | median, us | calls |
| :--- | ---: | ---: |
| shmetrics | 1.2 | 12,345 |
| other\\_one | - | 7 |

- not compared: a\\_third; pip install it

### scaling (rate, 1/s)

| writers | a | b |
| ---: | ---: | ---: |
| 1 | 10.000 | - |
| 2 | 20.000 | 5.000 |

### Claims

| claim | wanted | found | verdict | why |
| :--- | :--- | :--- | :--- | :--- |
| cheaper | at least 12 x | 13 x | holds |  |
| faster | at least 2 x | - | not measured | pip install other |
"""


def test_the_text_aligns_columns_and_draws_curves_as_tables():
    assert text(REPORT) == TEXT


def test_the_markdown_has_tables_and_shows_what_would_be_markup():
    assert markdown(REPORT) == MARKDOWN


def test_the_json_has_what_was_measured_and_what_it_comes_to():
    found = json.loads(json_report(REPORT))
    assert found["machine"]["governor"] == "unknown"
    scenario = found["scenarios"]["write-cost"]
    assert scenario["results"] == {"seconds": [1.0, 2.0]}
    assert [figure["kind"] for figure in scenario["figures"]] == ["table", "curve", "claim", "claim"]


def test_what_is_small_does_not_look_like_nothing():
    column = Column("ratio", "", 2)
    assert [shown(cell, column) for cell in (0.004, -0.0031, 0.0, 0.05, 1.234)] == [
        "0.004",
        "-0.003",
        "0.00",
        "0.05",
        "1.23",
    ]


def test_a_report_finds_its_claims():
    assert [claim.name for claim in REPORT.claims()] == ["cheaper", "faster"]
