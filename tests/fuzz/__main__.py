"""`python -m tests.fuzz`: strike the bytes of a live hub, and print what came of it."""

import argparse
import json
import os
import sys

from shmetrics.cli.options import positive
from tests.fuzz.harness import Fuzz

EXAMPLES = """\
examples:
  python -m tests.fuzz --seconds 60 --seed 7
  python -m tests.fuzz --json | jq .failures
Exit status: 0 nothing happened that must not, 1 something did."""


def main():
    """Run and print; status 1 when something happened that must not."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Change random bytes of a live hub under its writers, readers, aggregator and command line.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=positive, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=None, help="of the strikes; the timing of processes is not its own")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")

    def progress(share):
        if sys.stderr.isatty():
            done = min(40, int(40 * share))
            print(f"\r[{'#' * done}{'.' * (40 - done)}] {min(100.0, 100 * share):5.1f} %", end="", file=sys.stderr)

    report = Fuzz(f"t-{os.getpid()}-fuzz", seconds=options.seconds, seed=seed).run(progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if options.json:
        print(json.dumps({"seed": seed, "good": report.good, **vars(report)}, indent=2))
    else:
        _print(seed, report)
    return 0 if report.good else 1


def _print(seed, report):
    acts = report.acts
    print(f"seed {seed}, {report.seconds:.0f} s on {report.hubs} hubs")
    print(f"strikes   {report.strikes:,}")
    print(f"records   {acts['write']:,}   rounds of reads {acts['read']:,}   ticks {acts['aggregate']:,}")
    print(f"commands  {report.commands:,}   processes killed {report.kills:,}")
    print(f"failures  {sum(report.failures.values())}")
    for kind, count in report.failures.most_common():
        print(f"\n{count} x {kind}\n{report.examples[kind]}")


sys.exit(main())
