"""LLMMetrics: the figures of a server of language models, over the whole fleet, by names that dashboards know.

    llm = LLMMetrics(metrics, model="llama")             # before the fork, or in each worker
    with llm.request(prompt_tokens=17) as request:       # it waits
        request.started()                                # the engine has taken it up
        for token in generate(prompt):
            request.token()                              # each step
    # it ended: "stop", "error" for an exception, "abort" for a cancellation; or request.finish("length")

Each request is also one record of the hub: its inference time is the time it was served, its preprocessing time the
time it waited, so total_time is its latency from end to end, and its batch size is the number of tokens generated, so
samples_per_second is tokens per second. Within a request that is being measured already (by a middleware, say) it adds
that to the one record. See docs/llm.md.
"""

import math
import operator
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final

from shmetrics.book import Metric
from shmetrics.custom import CustomMetrics
from shmetrics.llm_names import FINISH_REASONS, OTHER, UNSUCCESSFUL, VOCABULARIES, token_buckets
from shmetrics.measurement import RequestMeasurement
from shmetrics.metrics import PerformanceMetrics

_MOST_TOKENS: Final = 1 << 32
_LONGEST: Final = 1e9
"""Seconds that anything may take."""
_NOT_SHOWN: Final = -1
"""Ticket of a request that is not on the in-flight board itself."""
_ONE: Final = 1  # the default count; anything else is looked at


class LLMMetrics:
    """Measures the requests that this process serves with one model.

    Args:
        metrics: the hub. Made before a fork, this object works in the children; with the default clock it pickles.
        model: what the model is called.
        names: ``vllm``, so that dashboards for vLLM fit, or ``otel``; see `llm_names`.
        engine: which of several engines it is; for ``vllm``.
        provider: who serves it, as gen_ai.provider.name; for ``otel``.
        operation: what is asked of it, as gen_ai.operation.name; for ``otel``.
        max_model_len: tokens that the model can take at most, 1 or more; the last bucket for numbers of tokens.
        clock: seconds, monotonic.

    Raises:
        ValueError: an argument is none of these, or the hub has a metric of one of the names that is defined otherwise.

    Any thread, task of an event loop or greenlet may call any method, and none raises for what it is told: numbers that
    cannot be are left out, which is logged once.

    """

    def __init__(
        self,
        metrics: PerformanceMetrics,
        model: str,
        *,
        names: str = "vllm",
        engine: str = "0",
        provider: str = "custom",
        operation: str = "chat",
        max_model_len: int = 131_072,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if names not in VOCABULARIES:
            raise ValueError(f"names must be one of {', '.join(VOCABULARIES)}, not {names!r}")
        for what, text in (("model", model), ("engine", engine), ("provider", provider), ("operation", operation)):
            if not isinstance(text, str) or not text:
                raise ValueError(f"{what} must be a text that is not empty, not {text!r}")
        if not isinstance(max_model_len, int) or not 1 <= max_model_len <= _MOST_TOKENS:
            raise ValueError(f"max_model_len must be from 1 to {_MOST_TOKENS} tokens, not {max_model_len!r}")
        self.metrics = metrics
        self.model = model
        self.clock = clock
        self._made_with = {"model": model, "names": names, "engine": engine, "provider": provider,
                           "operation": operation, "max_model_len": max_model_len}  # fmt: skip
        self._vocabulary = VOCABULARIES[names]
        self._labels = (model, engine) if names == "vllm" else (operation, provider, model)
        self._series: dict[str, Any] = {}  # the instrument of each figure
        self._varying: dict[str, Metric[Any]] = {}  # the metric of those with a label that each request decides
        custom, sizes = CustomMetrics(metrics), token_buckets(max_model_len)
        for figure in self._vocabulary.names:
            self._define(custom, figure, sizes)
        self.successes_only = self._vocabulary.successes_only
        # What a token changes, bound once.
        self.add_prompt: Callable[[int], None] = self._series["prompt_tokens"].inc
        self.add_generated: Callable[[int], None] = self._series["generation_tokens"].inc
        self.add_first: Callable[[float], None] = self._series["first_token"].observe
        self.add_between: Callable[[float], None] = self._series["inter_token"].observe
        self.add_running: Callable[[int], None] = self._series["running"].inc
        self.add_waiting: Callable[[int], None] = self._series["waiting"].inc

    def _define(self, custom: CustomMetrics, figure: str, sizes: tuple[float, ...]) -> None:
        name = self._vocabulary.names[figure]
        metric = custom.define_metric(
            name.name,
            name.kind,
            name.help,
            labels=[*self._vocabulary.labels, *([name.label] if name.label else [])],
            buckets=(name.buckets or sizes) if name.kind == "histogram" else None,
            merge=name.merge or None,
        )
        if figure == "finished":
            for reason in FINISH_REASONS:  # so that each is there, at 0, and rates of it begin with the first
                metric.labels(*self._labels, reason)
        if name.label and not name.value:
            self._varying[figure] = metric
        else:
            self._series[figure] = metric.labels(*self._labels, *([name.value] if name.value else []))

    def request(self, prompt_tokens: int = 0) -> "LLMRequest":
        """A request that arrives now, and waits. Use it ``with`` or ``async with``, or call its `finish`."""
        return LLMRequest(self, self.tokens(prompt_tokens))

    def set_cache_usage(self, fraction: float) -> None:
        """How much of this worker's KV cache is in use, from 0 to 1. The fleet's is the mean of the live workers'."""
        usage = self._number(fraction, 1.0, "cache usage")
        if usage is not None:
            self._series["cache_usage"].set(usage)

    # For engines that keep their own time -----------------------------------------------------------------------------

    def set_running(self, requests: int) -> None:
        """How many requests this worker serves now; for those who do not use `request`, which counts them."""
        self._series["running"].set(self.tokens(requests))

    def set_waiting(self, requests: int) -> None:
        """How many requests wait in this worker now; likewise."""
        self._series["waiting"].set(self.tokens(requests))

    def count_tokens(self, prompt: int = 0, generated: int = 0) -> None:
        """So many tokens were processed, and generated."""
        self.add_prompt(self.tokens(prompt))
        self.add_generated(self.tokens(generated))

    def observe_first_token(self, seconds: float) -> None:
        """A time from a request's arrival to its first token."""
        time_taken = self._number(seconds, _LONGEST, "time to first token")
        if time_taken is not None:
            self.add_first(time_taken)

    def observe_inter_token(self, seconds: float) -> None:
        """A time between two steps of one request."""
        time_taken = self._number(seconds, _LONGEST, "time between tokens")
        if time_taken is not None:
            self.add_between(time_taken)

    def record(
        self,
        *,
        e2e_time: float,
        queue_time: float = 0.0,
        prefill_time: float | None = None,
        decode_time: float | None = None,
        prompt_tokens: int = 0,
        generation_tokens: int = 0,
        finish_reason: str = "stop",
        error_type: str = "_OTHER",
    ) -> None:
        """A request ended, for which there is no `request`. Times in seconds; None for a phase that it did not reach.

        ``error_type``: for ``otel``, where the reason is error or abort. It does not count what the methods above do.
        """
        times = {"e2e": e2e_time, "queue": queue_time, "prefill": prefill_time, "decode": decode_time}
        self.count_ended(times, prompt_tokens, generation_tokens, finish_reason, error_type, None)

    def count_ended(  # noqa: PLR0917
        self,
        times: Mapping[str, float | None],
        prompt_tokens: int,
        generation_tokens: int,
        finish_reason: str,
        error_type: str,
        within: RequestMeasurement | None,
    ) -> None:
        """What `record` does, and the end of a `request`; ``within``: what is being measured already, and recorded."""
        reason = finish_reason if finish_reason in FINISH_REASONS else self._other(finish_reason)
        failed = reason in UNSUCCESSFUL
        prompt, generated = self.tokens(prompt_tokens), self.tokens(generation_tokens)
        good = {
            figure: seconds
            for figure, given in times.items()
            if given is not None and (seconds := self._number(given, _LONGEST, f"{figure} time")) is not None
        }
        served = max(0.0, good["e2e"] - good["queue"]) if {"e2e", "queue"} <= good.keys() else math.nan
        if within is not None and not within.done:
            for measure, amount in (
                ("inference", served),
                ("preprocessing", good.get("queue", 0.0)),
                ("batch_size", generated),
            ):
                within.spend(measure, amount)
            if reason == "error":
                within.fail()
        else:
            self.metrics.update_inference(served, generated, good.get("queue", 0.0))  # NaN: counted as invalid
            if reason == "error":
                self.metrics.record_error()
        self._varying["finished"].labels(*self._labels, reason).inc()
        if not math.isnan(served):
            good["inference"] = served
        if "decode" in good and generated > 1 and not (failed and self.successes_only):
            good["per_token"] = good["decode"] / (generated - 1)
        for figure, seconds in good.items():
            varying = self._varying.get(figure)
            series = varying.labels(*self._labels, error_type if failed else "") if varying else self._series[figure]
            series.observe(seconds)
        for figure, number in (
            ("prompt_size", prompt),
            ("generation_size", generated),
            ("longest_sequence", generated),
        ):
            if figure in self._series:
                self._series[figure].observe(number)

    # What it is told --------------------------------------------------------------------------------------------------

    def tokens(self, number: int) -> int:
        """A number of tokens, or 0 for what is none, which is logged once."""
        try:
            count = operator.index(number)
        except TypeError:
            count = -1
        if 0 <= count <= _MOST_TOKENS:
            return count
        self._mention("number of tokens", number)
        return 0

    def _number(self, value: float, most: float, what: str) -> float | None:
        """A number from 0 to ``most``, or None for what is none, which is logged once."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if 0.0 <= number <= most:
            return number
        self._mention(what, value)
        return None

    def _other(self, reason: str) -> str:
        self._mention("finish reason", reason)
        return OTHER

    def _mention(self, what: str, value: object) -> None:
        self.metrics.mention(f"llm {what}", f"{value!r} is no {what} and does not count")

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.metrics, self._made_with)


def _made(metrics: PerformanceMetrics, made_with: dict[str, Any]) -> LLMMetrics:
    return LLMMetrics(metrics, **made_with)


class LLMRequest:
    """One request, from its arrival to its end. Made by `LLMMetrics.request`; for one thread or task at a time.

    No method raises. What comes after the end counts for nothing.
    """

    __slots__ = ("_arrived", "_first", "_last", "_llm", "_open", "_prompt", "_started", "_ticket", "_tokens", "_within")

    def __init__(self, llm: LLMMetrics, prompt_tokens: int) -> None:
        self._llm = llm
        self._prompt = prompt_tokens
        self._tokens = 0
        self._started: float | None = None
        self._first: float | None = None
        self._last = 0.0
        self._open = True
        self._within = llm.metrics.current_request
        self._ticket = llm.metrics.recorder.enter(llm.model) if self._within is None else _NOT_SHOWN
        llm.add_waiting(1)
        self._arrived = llm.clock()

    def started(self) -> None:
        """It waits no longer: the engine has taken it up. Where nobody says so, it never waited."""
        if self._started is None and self._open:
            self._start(self._llm.clock())

    def _start(self, now: float) -> None:
        self._started = now
        self._llm.add_waiting(-1)
        self._llm.add_running(1)

    def token(self, count: int = _ONE) -> None:
        """A step gave so many tokens: one, or more where the engine guesses ahead."""
        llm = self._llm
        if count is not _ONE:
            count = llm.tokens(count)
        if not count or not self._open:
            return
        now = llm.clock()
        if self._first is None:
            self._begin(now)
        else:
            llm.add_between(now - self._last)
        self._last = now
        self._tokens += count
        llm.add_generated(count)

    def _begin(self, now: float) -> None:
        """The first token."""
        if self._started is None:
            self._start(self._arrived)
        self._first = now
        self._llm.add_prompt(self._prompt)
        if not self._llm.successes_only:
            self._llm.add_first(max(0.0, now - self._arrived))

    def finish(self, reason: str = "stop", *, error_type: str = "_OTHER") -> None:
        """It ended: ``stop``, ``length``, ``abort``, ``error``, ``repetition``. The first call counts."""
        if not self._open:
            return
        self._open = False
        llm, now, arrived, first = self._llm, self._llm.clock(), self._arrived, self._first
        if self._started is None:
            llm.add_waiting(-1)
            started = now
        else:
            llm.add_running(-1)
            started = self._started
        if first is not None and llm.successes_only and reason not in UNSUCCESSFUL:
            llm.add_first(max(0.0, first - arrived))
        times = {
            "e2e": now - arrived,
            "queue": started - arrived,
            "prefill": None if first is None else first - started,
            "decode": None if first is None else self._last - first,
        }
        llm.count_ended(times, self._prompt, self._tokens, reason, error_type, self._within)
        llm.metrics.recorder.leave(self._ticket)

    def __enter__(self) -> "LLMRequest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:  # a client that left shows as GeneratorExit or CancelledError, which are no Exceptions
            self.finish("error" if issubclass(kind, Exception) else "abort", error_type=kind.__qualname__)

    async def __aenter__(self) -> "LLMRequest":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
