"""`python -m tests.torture`: torture the protocol, and print what came of it."""

import argparse
import dataclasses
import json
import os
import sys

from tests.torture.harness import Torture
from tests.torture.mutants import MUTANTS


def main():
    """Run and print; status 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=6, help="writers alive at once")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="inject this defect, which must be caught")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")

    if options.mutant:
        MUTANTS[options.mutant].inject()

    def progress(share):
        if sys.stderr.isatty():
            print(f"\r{100 * share:5.1f} %", end="", file=sys.stderr, flush=True)

    torture = Torture(f"torture-{os.getpid()}", seconds=options.seconds, count=options.workers, seed=seed)
    report = torture.run(progress)
    if options.json:
        print(json.dumps({"seed": seed, **dataclasses.asdict(report)}, indent=2))
    else:
        print(f"seed {seed}, {options.seconds:.0f} s, {options.workers} writers")
        for name, value in dataclasses.asdict(report).items():
            print(f"{name:16} {value}")
    return 0 if report.good else 1


sys.exit(main())
