"""The profiler that applications use: `shmetrics.profiling`, and what it knows as a file for people."""

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

    Raises:
        TypeError: what is given is no PerformanceMetrics.
        ValueError: the hub has metrics of the profiler's names that are defined otherwise.

    """
