"""From workers to what a person sees: functions that ran in four of them, their report, and a real browser."""

import pytest

from shmetrics import PerformanceMetrics, PerformanceProfiler
from tests.browsers import chromium
from tests.processes import in_forked_child

SPLIT = {"inference": 0.6, "features": 0.3, "(outside of stages)": 0.1}
CELLS = "[...document.querySelectorAll('{} tr')].map(row => [...row.cells].map(cell => cell.innerText.trim()))"


def test_a_known_split_over_four_workers_is_what_a_browser_shows(hub_name, clock, tmp_path):
    with PerformanceMetrics(name=hub_name, max_workers=8, max_series=64) as metrics:
        profiler = PerformanceProfiler(metrics, clock=clock)

        @profiler.profile_function(name="service:predict")
        def predict(seconds):
            with profiler.stage("features"):
                clock.now += 0.3 * seconds
            with profiler.stage("inference"):
                clock.now += 0.6 * seconds
            clock.now += 0.1 * seconds

        def serve():
            for _ in range(25):
                predict(0.02)

        for _ in range(4):
            in_forked_child(serve)
        profiler.generate_detailed_report(tmp_path / "report.html")

    with chromium() as browser, browser.page() as tab:
        tab.open(tmp_path / "report.html")
        assert (tab.complaints, tab.requests) == ([], [(tmp_path / "report.html").as_uri()])
        ((_, _, _, total, calls, errors, average, *_),) = tab.run(CELLS.format("[aria-labelledby=functions] tbody"))
        assert (total, calls, errors, average) == ("2 s", "100", "0", "20 ms")
        shown = tab.run(CELLS.format(".breakdown tbody"))
        assert [(name, share) for name, _, share, _ in shown] == [
            (name, f"{100 * at:.1f} %") for name, at in SPLIT.items()
        ]
        widths = [tab.box(f".breakdown tbody tr:nth-child({row}) .bar rect")[2] for row in (1, 2, 3)]
        whole = tab.box(".breakdown .bar")[2]
        assert widths == [pytest.approx(share * whole, abs=1) for share in SPLIT.values()]
        assert tab.run("document.querySelectorAll('.chart canvas').length") == 1
