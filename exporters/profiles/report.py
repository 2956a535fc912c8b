"""The report of a profiler and the page of one flame graph: HTML in one file, for a browser without a network."""

import os

from shmetrics.errors import PlatformError
from shmetrics.exporters.files import write_atomically
from shmetrics.exporters.profiles.figures import profile_figure, report_figures, shown
from shmetrics.exporters.profiles.report_data import ReportData
from shmetrics.profiling.profile import Profile

STYLE = "templates/style.css"
_FLAME = "templates/flame.js"
UPLOT = "vendor/uplot/uPlot"
REDRAW = "templates/redraw.js"
"""What a script calls that has drawn charts."""


def write_report(data: ReportData, path: str | os.PathLike[str]) -> None:
    """Write the report of `data` to `path`, whole or not at all.

    OutputError when the path cannot be written to, PlatformError without jinja2; nothing is changed then.
    """
    write_atomically(os.fspath(path), report_page(data).encode())


def report_page(data: ReportData) -> str:
    """The report as HTML. Its size is bounded, and it says what was left out. PlatformError without jinja2."""
    return rendered(
        "report.html",
        (f"{UPLOT}.min.css", STYLE),
        (f"{UPLOT}.iife.min.js", REDRAW, _FLAME, "templates/chart.js"),
        report=report_figures(data),
    )


def flame_graph_page(profile: Profile, title: str) -> str:
    """One profile as a flame graph that can be searched and zoomed, in HTML. PlatformError without jinja2."""
    figure = profile_figure(profile)
    return rendered("flame_graph.html", (STYLE,), (_FLAME,), profile=profile, figure=figure, title=shown(title))


def rendered(template: str, styles: tuple[str, ...], scripts: tuple[str, ...], **context: object) -> str:
    """A page. PlatformError without jinja2."""
    try:
        from shmetrics.exporters.profiles.pages import render  # noqa: PLC0415  jinja2, for whoever wants it
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "markupsafe"):
            raise
        raise PlatformError(
            f"HTML pages are made with jinja2, and there is no module named {error.name!r}; "
            "pip install 'shmetrics[report]'"
        ) from None
    return render(template, styles, scripts, **context)
