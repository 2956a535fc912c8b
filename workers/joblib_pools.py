"""joblib: a parallel backend whose tasks are measured, by name.

    from shmetrics.workers import joblib_pools

    joblib_pools.install(metrics)
    with joblib.parallel_config(backend="shmetrics"):
        results = joblib.Parallel(n_jobs=4)(joblib.delayed(work)(item) for item in items)

It is joblib's default backend, processes of loky, and takes the same options. A process takes its slot at its first
task. Whoever calls joblib need not know of it, so scikit-learn's ``n_jobs`` is measured as well.

With ``n_jobs=1`` joblib calls the functions itself, by no backend; ``joblib.delayed(metrics.task(work))`` is measured
there as well.
"""

from typing import Any, Final

from joblib import register_parallel_backend
from joblib.parallel import LokyBackend

from shmetrics.metrics import PerformanceMetrics
from shmetrics.pools import TaskSource

NAME: Final = "shmetrics"


def install(metrics: PerformanceMetrics, *, name: str = NAME, make_default: bool = False) -> None:
    """Register the backend under that name, for this process. ``make_default``: for all calls that name none."""
    source = TaskSource(metrics)

    def backend(**options: Any) -> MeasuredLokyBackend:
        return MeasuredLokyBackend(source, **options)

    register_parallel_backend(name, backend, make_default=make_default)


class MeasuredLokyBackend(LokyBackend):  # type: ignore[misc]  # joblib comes without types
    """loky's processes; each call of a batch is a task."""

    def __init__(self, source: TaskSource, **options: Any) -> None:
        super().__init__(**options)
        self._source = source

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Hand a batch over: joblib's ``BatchedCalls``, whose ``items`` are functions with their arguments."""
        func.items = [(self._source.task(function), args, kwargs) for function, args, kwargs in func.items]
        return super().submit(func, callback)
