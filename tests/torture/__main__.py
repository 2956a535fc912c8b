"""`python -m tests.torture`: torture the protocol, and print what came of it."""

import argparse
import json
import os
import signal
import sys

from shmetrics.cli.options import positive
from tests.torture import mutants
from tests.torture.harness import Torture
from tests.torture.progress import Progress
from tests.torture.report import BROKEN

DESCRIPTION = """\
Torture the protocol of shmetrics: writers, readers, reapers and others share one hub, are killed and stopped at
random and at every step of what they do, and are replaced at once. A monitor that is never killed checks after every
read that no promise is broken. The status is 1 when one was.

broken promises:
""" + "\n".join(f"  {kind:<15} {meaning}" for kind, meaning in BROKEN.items())

EXAMPLES = """\
examples:
  python -m tests.torture --seconds 30
  python -m tests.torture --seconds 10 --seed 7 --json
  python -m tests.torture --mutant 'fold in place'     # a deliberate defect, until it is caught
  python -m tests.torture --mutants                    # all of them, one after another
"""


def main():
    """Run and print; status 1 when a promise was broken, or a mutant not caught."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=positive, default=60.0, help="how long (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=6, help="writers alive at once (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of every random choice of the harness (default: another each time)")
    parser.add_argument("--mutant", choices=sorted(mutants.MUTANTS), metavar="NAME",
                        help=f"inject this defect until it is caught: {'; '.join(mutants.MUTANTS)}")  # fmt: skip
    parser.add_argument("--mutants", action="store_true", help="inject every defect, each in its turn")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"argument --workers: a fleet of {options.workers} keeps every promise; at least 1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to clean up then too
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")
    if options.mutants:
        return _all_mutants(options.seconds, options.workers, seed, as_json=options.json)
    if options.mutant:
        mutants.MUTANTS[options.mutant].inject()
    torture = Torture(f"torture-{os.getpid()}", seconds=options.seconds, count=options.workers, seed=seed,
                      until_broken=bool(options.mutant))  # fmt: skip
    progress = Progress(sys.stderr)
    report = torture.run(progress)
    progress.clear()
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.table())
    return 0 if report.good else 1


def _all_mutants(seconds, workers, seed, *, as_json):
    missed, reports = 0, {}
    for name, mutant in mutants.MUTANTS.items():
        report = reports[name] = mutants.hunt(name, f"torture-{os.getpid()}", seconds=seconds, count=workers, seed=seed)
        caught = mutant.is_caught(report)
        missed += not caught
        if not as_json:
            after = f"{report.broken_after if caught else report.seconds:6.1f} s"
            print(f"{'caught' if caught else 'MISSED'} {after}  {name:<28} {report.first_broken}", flush=True)
    if as_json:
        print(json.dumps({name: report.as_dict() for name, report in reports.items()}, indent=2))
    else:
        print(f"verdict: {len(reports) - missed} of {len(reports)} mutants caught (seed {seed})")
    return 1 if missed else 0


try:
    sys.exit(main())
except KeyboardInterrupt:
    sys.exit(130)
