"""Decorating what can be called: functions, coroutine functions, generators and asynchronous generators, each as such.

A call consists of *steps*: one for all but generators, which do something between one value and the next only; what
their consumer does meanwhile is not theirs.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from types import CodeType, TracebackType
from typing import Any, Final, Protocol, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Call(Protocol):
    """One call of a decorated function: a context manager for each of its steps, and its end."""

    def __enter__(self) -> Any:
        """A step begins."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It is over."""

    def finish(self, error: BaseException | None) -> None:
        """The last step is over, and raised this. GeneratorExit where the consumer wanted no more."""


Make = Callable[[tuple[Any, ...], dict[str, Any]], Call]
"""Makes the call, of its arguments."""


def decorated(function: _Function, make: Make) -> _Function:
    """The same function, whose calls are such calls. TypeError for what cannot be called."""
    if not callable(function):
        raise TypeError(f"only functions can be decorated, not {function!r}")
    wrapper = _WRAPPERS[kind_of(function)](function, make)
    return cast(_Function, functools.wraps(function)(wrapper))


def kind_of(function: Callable[..., Any]) -> str:
    """What can be called is a ``function``, ``generator``, ``coroutine`` or ``async generator``.

    An object that can be called is what its ``__call__`` is, and a generator that `types.coroutine` made awaitable a
    coroutine.
    """
    for each in (function, type(function).__call__):
        code = getattr(each, "__code__", None)
        if isinstance(code, CodeType) and code.co_flags & inspect.CO_ITERABLE_COROUTINE:
            return "coroutine"
        if inspect.isasyncgenfunction(each):
            return "async generator"
        if inspect.isgeneratorfunction(each):
            return "generator"
        if inspect.iscoroutinefunction(each):
            return "coroutine"
    return "function"


def _plain(function: Callable[..., Any], make: Make) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = make(args, kwargs)
        try:
            with call:
                result = function(*args, **kwargs)
        except BaseException as error:
            call.finish(error)
            raise
        call.finish(None)
        return result

    return wrapper


def _coroutine(function: Callable[..., Any], make: Make) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = make(args, kwargs)
        try:
            with call:
                result = await function(*args, **kwargs)
        except BaseException as error:
            call.finish(error)
            raise
        call.finish(None)
        return result

    return wrapper


def _generator(function: Callable[..., Any], make: Make) -> Callable[..., Any]:
    """Does what ``yield from`` does (PEP 380), each step within the call."""

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = make(args, kwargs)
        try:
            generator: Generator[Any, Any, Any] = function(*args, **kwargs)
            resume: Callable[[Any], Any] = generator.send
            value: Any = None
            while True:
                with call:
                    try:
                        item = resume(value)
                    except StopIteration as stop:
                        result = stop.value
                        break
                try:
                    value, resume = (yield item), generator.send
                except GeneratorExit:
                    with call:
                        generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001  the generator's to handle
                    value, resume = error, generator.throw
        except BaseException as error:
            call.finish(error)
            raise
        call.finish(None)
        return result

    return wrapper


def _asynchronous_generator(function: Callable[..., Any], make: Make) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = make(args, kwargs)
        generator: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        resume: Callable[[Any], Any] = generator.asend
        value: Any = None
        try:
            while True:
                with call:
                    try:
                        item = await resume(value)
                    except StopAsyncIteration:
                        break
                try:
                    value, resume = (yield item), generator.asend
                except GeneratorExit:
                    with call:
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001  the generator's to handle
                    value, resume = error, generator.athrow
        except BaseException as error:
            call.finish(error)
            raise
        call.finish(None)

    return wrapper


_WRAPPERS: Final = {
    "function": _plain,
    "generator": _generator,
    "coroutine": _coroutine,
    "async generator": _asynchronous_generator,
}
