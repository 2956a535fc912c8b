"""The profiler that applications use: `shmetrics.profiling`, and what it knows as a file for people."""

import os

from shmetrics.exporters.profiles.gathering import report_of
from shmetrics.exporters.profiles.looking import look
from shmetrics.exporters.profiles.report import write_report
from shmetrics.profiling.profiler import Profiler


class PerformanceProfiler(Profiler):
    """Profiles functions of all workers of a server. Any thread of any process may call any method.

        profiler = PerformanceProfiler(metrics)

        @profiler.profile_function
        def predict(batch): ...

        profiler.get_profile_results("predict")["p95_time"]  # of all workers

    Args:
        metrics: the hub. Functions that are decorated before a fork are profiled in the children, too.
        clock: seconds, monotonic.
        rate: looks a second of ``profile_function(breakdown="sampling")``.

    Raises:
        TypeError: what is given is no PerformanceMetrics.
        ValueError: the hub has metrics of the profiler's names that are defined otherwise.

    """

    def generate_detailed_report(self, path: str | os.PathLike[str], *, seconds: float = 0.0) -> None:
        """Write what the whole fleet knows of every function as one HTML file, which needs no network.

        ``seconds``: for how long the live workers are sampled before, for flame graphs; it takes workers that let
        themselves be (`PerformanceMetrics.enable_profiling`), and others are named in the report.

        OutputError when the path cannot be written to, PlatformError without jinja2 (``pip install
        'shmetrics[report]'``); a file of that name stays as it was then. ValueError for seconds below 0 or above 3600,
        TypeError for seconds that are no number, and for what is no path.
        """
        if not isinstance(path, str | os.PathLike):  # now, and not when the workers have been sampled
            raise TypeError(f"the path of a report must be a text or a path, as 'report.html', not {path!r}")
        write_report(report_of(self, look(self._metrics, seconds)), path)
