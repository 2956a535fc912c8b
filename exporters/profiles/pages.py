"""HTML pages that stand alone: style, scripts and data are in the file, and its policy forbids a browser all else.

The one file that knows jinja2; whoever makes no page does not import it. Templates escape whatever they are given.
"""

import base64
import hashlib
import math
import re
import time
import zlib
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jinja2
from markupsafe import Markup

from shmetrics.exporters.profiles.figures import Section, shown
from shmetrics.texts import duration

_HUES: Final = 8
"""Colours of one's own modules in style.css."""
_SMALLEST: Final = 0.03
"""Of the width: narrower frames show no name before the page's script has measured."""


def render(template: str, styles: tuple[str, ...], scripts: tuple[str, ...], **context: Any) -> str:
    """A template as a page, with the style sheets and scripts that are named by their files.

    Files are those of this package, and of another one as ``package:path``.
    """
    style, script = _together(styles), _together(scripts)
    # Nothing is loaded, sent or framed; of scripts and styles only these two may run. Images: the icon's empty one.
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template(template)
    return page.render(policy=policy, style=Markup(style), script=Markup(script), **context)


def _text(name: str) -> str:
    """A file of this package, or of the one that is named before a colon."""
    package, colon, path = name.rpartition(":")
    return files(package if colon else __package__).joinpath(*path.split("/")).read_text(encoding="utf-8")


def _template(name: str) -> str:
    """A template, which other packages keep in a folder of the same name."""
    package, colon, path = name.rpartition(":")
    return _text(f"{package}{colon}templates/{path}")


@cache
def _together(names: tuple[str, ...]) -> str:
    return "\n" + "\n".join(_text(name) for name in names)


def _source(content: str) -> str:
    """What a policy calls an element with this content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": shown,
        "breakable": _breakable,
        "time": _time,
        "moment": _moment,
        "share": _share,
        "thousands": _thousands,
        "hue": _hue,
        "chart": _chart,
    }
    environment.globals |= {"smallest": _SMALLEST, "licence": _text("vendor/uplot/LICENSE")}
    return environment


def _breakable(name: str) -> Markup:
    """A name that a narrow column breaks after its dots and underscores."""
    return Markup("<wbr>").join(re.split(r"(?<=[._:/])(?=[^._:/])", name))


def _time(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return "-"
    return duration(seconds).replace(" us", " µs")


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def _share(fraction: float) -> str:
    """A fraction as a percentage, with the digits that matter."""
    if 0.0 < fraction < 0.0005:
        return "< 0.1 %"
    return f"{100.0 * fraction:.1f} %"


def _thousands(number: int) -> str:
    return f"{number:,}"


def _hue(frame: str) -> str:
    """The class of a frame's colour: frames of one module have one, those of all libraries another."""
    module, colon, _ = frame.partition(":")
    return f"h{zlib.crc32(module.encode(errors='replace')) % _HUES}" if colon else "library"


def _chart(section: Section) -> dict[str, Any]:
    """What chart.js draws, on a scale of base-2 logarithms: bars as (from, to, calls), and percentiles."""
    of = section.function.data
    marks = (("p50", of.p50), ("p95", of.p95), ("p99", of.p99))
    return {
        "bars": [[math.log2(bar.above), math.log2(bar.upto), bar.calls] for bar in section.bars],
        "marks": [[name, math.log2(value)] for name, value in marks if 0.0 < value < math.inf],
    }
