"""The same stores in C, called from C: what no Python program can be faster than, on this machine.

A record goes to a ring in shared memory, and is published by a store that releases; sketches, sums and the second's bin
are kept at once, which we do for many records together. Compiled where there is a compiler.
"""

import ctypes
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from shmetrics.benchmarks.calls import Work
from shmetrics.benchmarks.commands import finished
from shmetrics.benchmarks.peers import COUNTER, ERROR, GAUGE, HISTOGRAM, IN_FLIGHT, MEASUREMENT, REQUEST, VALUE, Peer

NAME: Final = "C, the same stores (the limit)"
_SOURCE: Final = r"""
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct row { double time, measures[4]; uint64_t errors, hits, misses; };
struct area {
    _Atomic uint64_t head, errors, things, flying;
    double queue, latency_sum;
    uint64_t latency[1283];
    uint64_t sketch[4][1283], requests[304];
    double sum[4], second_sum[304];
    struct row ring[2048];
};
static struct area *area;

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int bucket(double value) {
    if (value == 0.0) return 0;
    double position = ceil(log2(value) * 32) + 641;
    return position < 1 ? 1 : position > 1282 ? 1282 : (int) position;
}

__attribute__((noinline)) static void record(double a, double b, double c, double d) {
    uint64_t head = atomic_load_explicit(&area->head, memory_order_relaxed);
    double time = now(CLOCK_MONOTONIC);
    area->ring[head & 2047] = (struct row) {time, {a, b, c, d}, area->errors, 0, 0};
    atomic_store_explicit(&area->head, head + 1, memory_order_release);
    double measures[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        area->sketch[i][bucket(measures[i])]++;
        area->sum[i] += measures[i];
    }
    int second = (uint64_t) time % 304;
    area->requests[second]++;
    area->second_sum[second] += a + c + d;
}

__attribute__((noinline)) static void add(_Atomic uint64_t *word, uint64_t amount) {
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + amount, memory_order_release);
}

__attribute__((noinline)) static void set(double value) {
    *(volatile double *) &area->queue = value;
}

__attribute__((noinline)) static void observe(double value) {
    area->latency[bucket(value)]++;
    area->latency_sum += value;
}

static void do_it(int work, const double *v) {
    switch (work) {
        case 0: record(v[0], v[1], v[2], v[3]); break;
        case 1: add(&area->errors, 1); break;
        case 2: add(&area->things, 1); break;
        case 3: set(v[0]); break;
        case 4: observe(v[0]); break;
        case 5: add(&area->flying, 1); add(&area->flying, -1); break;
    }
}

double many(int work, long calls, const double *values) {
    double begun = now(CLOCK_THREAD_CPUTIME_ID);
    for (long i = 0; i < calls; i++) do_it(work, values);
    return now(CLOCK_THREAD_CPUTIME_ID) - begun;
}

void each(int work, long calls, const double *values, double *times) {
    for (long i = 0; i < calls; i++) {
        double begun = now(CLOCK_MONOTONIC);
        do_it(work, values);
        times[i] = now(CLOCK_MONOTONIC) - begun;
    }
}

int begin(const char *path) {
    int file = open(path, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof(struct area))) return -1;
    area = mmap(0, sizeof(struct area), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (area == MAP_FAILED) return -1;
    memset(area, 0, sizeof(struct area));
    return 0;
}

void end(void) { munmap(area, sizeof(struct area)); }
"""
_WORKS: Final = {REQUEST: 0, ERROR: 1, COUNTER: 2, GAUGE: 3, HISTOGRAM: 4, IN_FLIGHT: 5}


class _Native:
    """One work in C; the loop around it is C too."""

    def __init__(self, library: Any, work: str) -> None:
        values = MEASUREMENT if work == REQUEST else (VALUE,)
        self._arguments = (_WORKS[work], (ctypes.c_double * len(values))(*values))
        self._library = library

    def many(self, calls: int) -> float:
        """See `Work.many`."""
        work, values = self._arguments
        return float(self._library.many(work, calls, values))

    def each(self, calls: int) -> Sequence[float]:
        """See `Work.each`."""
        work, values = self._arguments
        times = (ctypes.c_double * calls)()
        self._library.each(work, calls, values, times)
        return list(times)


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC") or "cc")


def _lacking() -> str:
    return "" if _compiler() else "apt-get install gcc, or name a C compiler in CC"


@contextmanager
def _open(directory: str) -> Iterator[Any]:
    source, built = f"{directory}/stores.c", f"{directory}/stores.so"
    with open(source, "w") as file:
        file.write("#include <stdatomic.h>\n" + _SOURCE)
    compiler = _compiler()
    assert compiler is not None
    finished([compiler, "-O2", "-shared", "-fPIC", "-o", built, source, "-lm"])
    library = ctypes.CDLL(built)
    library.many.restype = ctypes.c_double
    library.many.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    library.each.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    if library.begin(f"{directory}/area".encode()):
        raise OSError(f"cannot map {directory}/area")
    try:
        yield library
    finally:
        library.end()


def _calls(library: Any) -> Mapping[str, Work]:
    return {work: _Native(library, work) for work in _WORKS}


PEERS = (Peer(NAME, _open, _calls, _lacking),)
