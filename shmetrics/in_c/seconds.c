/* `statistics.recent_rates`, in C: what the per-second ring of a folded area says of the last seconds. */

#include "writes.h"
#include <math.h>

enum { MOST_SECONDS = 128, LANES = 8 };

/* From `folded` and `statistics`, by `use_seconds`: words of an area, and seconds. */
static struct {
    Py_ssize_t second, requests, latency_sum, seconds, recent;
    double current, busy, minute;
} at;

/* As numpy adds up so few. */
static double add_up(const double *values, Py_ssize_t count) {
    double lanes[LANES] = {0};
    Py_ssize_t each = 0;
    for (; each + LANES <= count; each += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += values[each + lane];
    double sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    for (; each < count; each++)
        sum += values[each];
    return sum;
}

/* As `statistics._per_second`, of columns by age. */
static double per_second(const double *values, Py_ssize_t count, double now, double seconds, double lifetime) {
    double period = lifetime < seconds ? lifetime : seconds, weighed[MOST_SECONDS];
    for (Py_ssize_t age = 0; age < count; age++) {
        double inside = period - (now - floor(now)) - (double) age + 1.0;
        double part = inside < 0.0 ? 0.0 : inside > 1.0 ? 1.0 : inside;
        weighed[age] = values[age] * (period == seconds ? part : inside > 0.0);
    }
    return period > 0.0 ? add_up(weighed, count) / period : 0.0;
}

/* As `statistics._spread`, in place. */
static void spread(double *service, Py_ssize_t count, double now) {
    double left = 0.0;
    for (Py_ssize_t age = 0; age < count; age++) {
        double fits = age == 0 ? now - floor(now) : 1.0;
        left += service[age];
        service[age] = left > fits ? fits : left;
        left -= service[age];
    }
}

/* The three rates of one worker. */
static PyObject *rates_of(const Area *area, double now, double lifetime) {
    const uint64_t *words = area->words;
    double requests[MOST_SECONDS], service[MOST_SECONDS];
    uint64_t last = (uint64_t) now;
    Py_ssize_t count = last < (uint64_t) at.recent ? (Py_ssize_t) last + 1 : at.recent; /* it may have booted just now */
    for (Py_ssize_t age = 0; age < count; age++) {
        uint64_t second = last - (uint64_t) age;
        Py_ssize_t place = (Py_ssize_t) (second % (uint64_t) at.seconds) - area->skipped;
        uint64_t counted = words[at.second + place] == second ? words[at.requests + place] : 0;
        requests[age] = (double) counted;
        service[age] = counted > 0 ? ((const double *) words)[at.latency_sum + place] : 0.0;
    }
    spread(service, count, now);
    double current = per_second(requests, count, now, at.current, lifetime);
    double busy = per_second(service, count, now, at.busy, lifetime);
    double minute = per_second(service, count, now, at.minute, lifetime);
    return Py_BuildValue("ddd", current, busy < 1.0 ? busy : 1.0, minute < 1.0 ? minute : 1.0);
}

/* `recent_rates(areas, lifetimes, now)`: of each worker its rates. */
static PyObject *recent_rates(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *areas, *lifetimes;
    double now;
    if (!PyArg_ParseTuple(args, "O!O!d", &PyList_Type, &areas, &PyList_Type, &lifetimes, &now))
        return NULL;
    if (!(now >= 0.0 && now < 0x1p53) || PyList_GET_SIZE(areas) != PyList_GET_SIZE(lifetimes)) {
        PyErr_SetString(PyExc_ValueError, "wanted a time, and areas with a lifetime each");
        return NULL;
    }
    PyObject *found = PyList_New(0);
    for (Py_ssize_t each = 0; found != NULL && each < PyList_GET_SIZE(areas); each++) {
        Py_buffer area;
        double lifetime = PyFloat_AsDouble(PyList_GET_ITEM(lifetimes, each));
        PyObject *rates = NULL;
        if (!PyErr_Occurred() && PyObject_GetBuffer(PyList_GET_ITEM(areas, each), &area, PyBUF_SIMPLE) == 0) {
            Area found_in;
            if (at.recent > 0 && find_area(&area, PyByteArray_Check(PyList_GET_ITEM(areas, each)), &found_in))
                rates = rates_of(&found_in, now, lifetime);
            else
                PyErr_SetString(PyExc_ValueError, "wanted folded areas");
            PyBuffer_Release(&area);
        }
        if (rates == NULL || PyList_Append(found, rates) < 0)
            Py_CLEAR(found);
        Py_XDECREF(rates);
    }
    return found;
}

static PyObject *use_seconds(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords) {
    static char *names[] = {"second", "requests", "latency_sum", "seconds", "recent",
                            "current", "busy", "minute", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$nnnnnddd", names, &at.second, &at.requests, &at.latency_sum,
                                     &at.seconds, &at.recent, &at.current, &at.busy, &at.minute))
        return NULL;
    if (at.recent > MOST_SECONDS) {
        at.recent = 0;
        PyErr_SetString(PyExc_TypeError, "so many seconds are not recent");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"use_seconds", (PyCFunction) (void (*)(void)) use_seconds, METH_VARARGS | METH_KEYWORDS,
     "Say where an area has its seconds, and which are recent: once, and before any rate is wanted."},
    {"recent_rates", recent_rates, METH_VARARGS,
     "Of each area of a worker so many seconds old the recent rates. See `statistics`."},
    {0},
};

int add_seconds(PyObject *module) { return PyModule_AddFunctions(module, functions); }
