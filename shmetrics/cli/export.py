"""`shmetrics export`: the fleet once, in a format that other programs read, on standard output or in a file."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

from shmetrics.cli.options import STDOUT, add_choice, add_hub, add_output, hub_name, variable
from shmetrics.exporters.csv_export import export_csv, export_metrics, export_rows
from shmetrics.exporters.files import write_atomically
from shmetrics.exporters.json_export import export_json
from shmetrics.hub import Hub
from shmetrics.resources import Resources

EXAMPLES: Final = """\
  shmetrics export resnet | jq .statistics.p99_inference_time
  shmetrics export resnet --format csv --output fleet.csv        a row for each worker, one for the fleet
  shmetrics export resnet --format csv-rows --output rows.csv    every record of the window
  shmetrics export resnet --format csv-metrics                   every figure of the custom metrics
  shmetrics export resnet --format prometheus --output /var/lib/prometheus/node-exporter/resnet.prom"""


def _json(hub: Hub) -> bytes:
    return (export_json(hub.snapshot(), resources=Resources()) + "\n").encode()


def _csv(hub: Hub) -> bytes:
    return _encoded(export_csv(hub.snapshot(), resources=Resources()))


def _csv_rows(hub: Hub) -> bytes:
    return _encoded(export_rows(hub.snapshot()))


def _csv_metrics(hub: Hub) -> bytes:
    return _encoded(export_metrics(hub.snapshot()))


def _encoded(text: str) -> bytes:
    """As UTF-8; what shared memory says may be none."""
    return text.encode("utf-8", "backslashreplace")


def _prometheus(hub: Hub, *, openmetrics: bool) -> bytes:
    from shmetrics.exporters.prometheus import exposition  # noqa: PLC0415  prometheus_client, for whoever wants it

    return exposition.render(hub, openmetrics=openmetrics)


_FORMATS: Final[dict[str, Callable[[Hub], bytes]]] = {
    "json": _json,
    "csv": _csv,
    "csv-rows": _csv_rows,
    "csv-metrics": _csv_metrics,
    "prometheus": partial(_prometheus, openmetrics=False),
    "openmetrics": partial(_prometheus, openmetrics=True),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_hub(parser)
    add_choice(parser, "--format", tuple(_FORMATS), "json", "what to write")
    parser.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        help=f"the same as --format json, which is the default ({variable('--json')} says nothing new)",
    )
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Read the hub once and write."""
    with Hub.attach(hub_name(options)) as hub:
        content = _FORMATS[options.format](hub)
    if options.output == STDOUT:
        sys.stdout.buffer.write(content)  # as it is: CSV has line ends of its own
    else:
        write_atomically(options.output, content)
    return 0
