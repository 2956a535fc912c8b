"""Workers that come and go: they are counted, and what reading takes then."""

import argparse

from shmetrics.benchmarks import scenarios
from shmetrics.benchmarks.figures import Claim, Curve
from shmetrics.benchmarks.progress import silent
from shmetrics.benchmarks.scenarios import restarts


def milestone(count, page=1.0, steady=1.0, work=restarts.PAGE):
    reads = {f"restarted/{work}": page, f"steady/{work}": steady}
    return {"restarts": count, "reads": {name: {"processor": [value] * 6} for name, value in reads.items()}}


def test_workers_that_came_and_went_were_seen_and_all_they_recorded_is_there():
    options = argparse.Namespace(quick=True, rounds=1, seed=1, restarts=12)
    with restarts.setup(options) as state:
        results = restarts.run(state, options, silent)
        total = state.restarted.hub.get_statistics()["total_requests"]
    assert results["workers_seen"] == restarts.WORKERS + 12
    assert total == 8 * (2 * restarts.WORKERS + 12)
    assert [each["restarts"] for each in results["milestones"]] == [12]


def test_reading_is_looked_at_after_every_power_of_ten_and_after_all():
    assert restarts._milestones(2_500) == [100, 1_000, 2_500]
    assert restarts._milestones(10_000) == [100, 1_000, 10_000]
    assert restarts._milestones(20) == [20]


def test_flat_is_judged_after_as_many_restarts_as_are_promised():
    def claims(*milestones):
        report = restarts.report({"missing": {}, "workers_seen": 4, "milestones": list(milestones)})
        assert isinstance(report[0], Curve)
        return [figure.verdict for figure in report if isinstance(figure, Claim)]

    both = {"reads": {**milestone(1)["reads"], **milestone(1, 3.0, 2.0, restarts.STATISTICS)["reads"]}}
    assert claims({"restarts": 10_000, **both}) == ["holds", "does not hold"]
    assert claims({"restarts": 1_000, **both}) == ["not measured", "not measured"]


def test_there_is_a_flag_for_how_many():
    parser = argparse.ArgumentParser()
    scenarios.load("restarts").configure(parser)
    assert parser.parse_args(["--restarts", "7"]).restarts == 7
    assert parser.parse_args([]).restarts is None
