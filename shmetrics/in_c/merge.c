/* `merge._facts`, in C: what is known of a worker, from the copy of its slot. */

#include "writes.h"

/* Fields of `copies.SlotCopy`, of its `Owner`, and of its `Hot`. */
enum { SLOT, CLAIMED, ALIVE, GENERATION, OWNER, HOT, KEPT, FIRST, ROWS, BOARD, CELLS, EXEMPLARS, IS_ADDED, COPY_FIELDS };
enum { STATE, OWNERS_GENERATION, PID, START_TICKS, GUARD, CLAIMED_AT, ENDED_AT, HEARTBEAT, ROLE, GARBAGE, OWNER_FIELDS };
enum { HEAD_WORD, FOLD_WORD, ERRORS_WORD, HITS_WORD, MISSES_WORD, DROPPED_WORD, UNCOUNTED_WORD, HOT_FIELDS };

enum { FACTS = 19, COUNTERS = 5 };
static PyObject *names[FACTS], *item, *zero;
static const Text texts[] = {
    {&names[0], "slot"},       {&names[1], "generation"},   {&names[2], "alive"},           {&names[3], "counted"},
    {&names[4], "in_totals"},  {&names[5], "stale"},        {&names[6], "pid"},             {&names[7], "start_ticks"},
    {&names[8], "claimed_at"}, {&names[9], "last_seen"},    {&names[10], "ended_at"},       {&names[11], "counters"},
    {&names[12], "kept"},      {&names[13], "window"},      {&names[14], "before_window"},  {&names[15], "cells"},
    {&names[16], "role"},      {&names[17], "garbage_counts"}, {&names[18], "expected"},     {&item, "item"},
    {NULL, NULL},
};

/* As `merge._time`. */
static double plausible(PyObject *time, double now) {
    double value = PyFloat_AsDouble(time);
    return value > 0.0 ? (value <= now ? value : now) : 0.0;
}

/* The fields of row number `index` of an array, as a tuple. */
static PyObject *row_of(PyObject *rows, Py_ssize_t index) {
    PyObject *number = PyLong_FromSsize_t(index);
    PyObject *row = number == NULL ? NULL : PyObject_CallMethodOneArg(rows, item, number);
    Py_XDECREF(number);
    if (row != NULL && (!PyTuple_Check(row) || PyTuple_GET_SIZE(row) < 4)) {
        Py_CLEAR(row);
        PyErr_SetString(PyExc_TypeError, "wanted rows of records");
    }
    return row;
}

/* `snapshot.Counters` of these, which are borrowed but for the first. */
static PyObject *counters(PyObject *type, PyObject *requests, PyObject *errors, PyObject *hits, PyObject *misses,
                          PyObject *dropped) {
    PyObject *values[COUNTERS] = {requests, Py_NewRef(errors), Py_NewRef(hits), Py_NewRef(misses), Py_NewRef(dropped)};
    return named(type, values, COUNTERS);
}

/* The counters at the row before the window; those of nothing where it begins with the first record. */
static PyObject *before_window(PyObject *type, PyObject *nothing, PyObject *rows, Py_ssize_t skipped, long long start) {
    if (start <= 0)
        return Py_NewRef(nothing);
    PyObject *row = row_of(rows, skipped - 1);
    if (row == NULL)
        return NULL;
    Py_ssize_t end = PyTuple_GET_SIZE(row);
    PyObject *made = counters(type, PyLong_FromLongLong(start), PyTuple_GET_ITEM(row, end - 3),
                              PyTuple_GET_ITEM(row, end - 2), PyTuple_GET_ITEM(row, end - 1), zero);
    Py_DECREF(row);
    return made;
}

/* Whether all of these are counts that can be: below `most`; -1 and an exception for what are no counts. */
static int are_plausible(PyObject *counts, unsigned long long most) {
    for (Py_ssize_t each = 0; each < PyList_GET_SIZE(counts); each++) {
        unsigned long long count = PyLong_AsUnsignedLongLong(PyList_GET_ITEM(counts, each));
        if (count == (unsigned long long) -1 && PyErr_Occurred())
            return -1;
        if (count >= most)
            return 0;
    }
    return 1;
}

/* What is said of a fleet. */
typedef struct {
    PyObject *type, *nothing;
    double now, linger;
    long long window;
    unsigned long long most;
} Fleet;

/* The facts in the order of `names`, new references; 0 and an exception, and maybe some of them. */
static int tell(PyObject **facts, PyObject *const *copy, PyObject *const *owner, PyObject *const *hot, int is_retired,
                const Fleet *fleet) {
    long long head = PyLong_AsLongLong(hot[HEAD_WORD]), first = PyLong_AsLongLong(copy[FIRST]);
    Py_ssize_t count = PyObject_Length(copy[ROWS]);
    if (PyErr_Occurred())
        return 0;
    long long start = head > fleet->window ? head - fleet->window : 0;
    Py_ssize_t skipped = (Py_ssize_t) (start - first);
    double now = fleet->now, last_seen = plausible(owner[HEARTBEAT], now), ended_at = plausible(owner[ENDED_AT], now);
    if (count > 0) {
        PyObject *last = row_of(copy[ROWS], count - 1);
        double recorded = last == NULL ? 0.0 : plausible(PyTuple_GET_ITEM(last, 0), now);
        last_seen = recorded > last_seen ? recorded : last_seen;
        Py_XDECREF(last);
    }
    int alive = copy[ALIVE] == Py_True && !is_retired;
    int is_counted = alive || (ended_at > 0.0 ? ended_at : last_seen) > now - fleet->linger;
    int is_believed = PyErr_Occurred() ? -1 : are_plausible(owner[GARBAGE], fleet->most);
    if (is_believed < 0)
        return 0;
    PyObject *all[FACTS] = {NULL};
    int known = 0, failed = 0;
#define FACT(VALUE) (failed = failed || (all[known++] = (VALUE)) == NULL)
    FACT(Py_NewRef(copy[SLOT]));
    FACT(Py_NewRef(copy[GENERATION]));
    FACT(PyBool_FromLong(alive));
    FACT(PyBool_FromLong(is_counted));
    FACT(PyBool_FromLong(!is_retired));
    FACT(Py_NewRef(Py_False));
    FACT(Py_NewRef(owner[PID]));
    FACT(Py_NewRef(owner[START_TICKS]));
    FACT(PyFloat_FromDouble(plausible(owner[CLAIMED_AT], now)));
    FACT(PyFloat_FromDouble(last_seen));
    FACT(alive || ended_at == 0.0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(ended_at));
    FACT(counters(fleet->type, PyNumber_Add(hot[HEAD_WORD], hot[UNCOUNTED_WORD]), hot[ERRORS_WORD], hot[HITS_WORD],
                  hot[MISSES_WORD], hot[DROPPED_WORD]));
    FACT(Py_NewRef(copy[KEPT]));
    FACT(skipped == 0 ? Py_NewRef(copy[ROWS]) : PySequence_GetSlice(copy[ROWS], skipped, count));
    FACT(before_window(fleet->type, fleet->nothing, copy[ROWS], skipped, start));
    FACT(Py_NewRef(copy[CELLS]));
    FACT(Py_NewRef(owner[ROLE]));
    FACT(is_believed ? Py_NewRef(owner[GARBAGE]) : PyList_New(0));
    FACT(PyBool_FromLong(PyFloat_AsDouble(owner[ENDED_AT]) < 0.0));
#undef FACT
    memcpy(facts, all, sizeof all);
    return !failed;
}

/* A tuple of at least so many; or NULL and an exception. */
static PyObject *const *fields_of(PyObject *tuple, Py_ssize_t count) {
    if (PyTuple_Check(tuple) && PyTuple_GET_SIZE(tuple) >= count)
        return ((PyTupleObject *) tuple)->ob_item;
    PyErr_SetString(PyExc_TypeError, "wanted the copy of a slot");
    return NULL;
}

/* `worker_facts(copy, retired, fleet)`: a dictionary. */
static PyObject *worker_facts(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *copy, *facts[FACTS] = {NULL};
    int is_retired;
    Fleet fleet;
    if (!PyArg_ParseTuple(args, "Op(dLdKO!)", &copy, &is_retired, &fleet.now, &fleet.window, &fleet.linger, &fleet.most,
                          &PyTuple_Type, &fleet.nothing))
        return NULL;
    fleet.type = (PyObject *) Py_TYPE(fleet.nothing);
    PyObject *const *fields = fields_of(copy, COPY_FIELDS);
    PyObject *const *owner = fields == NULL ? NULL : fields_of(fields[OWNER], OWNER_FIELDS);
    PyObject *const *hot = owner == NULL ? NULL : fields_of(fields[HOT], HOT_FIELDS);
    if (hot == NULL)
        return NULL;
    if (!PyList_Check(owner[GARBAGE]) || PyTuple_GET_SIZE(fleet.nothing) != COUNTERS) {
        PyErr_SetString(PyExc_TypeError, "wanted the copy of a slot");
        return NULL;
    }
    Py_INCREF(copy);
    PyObject *made = tell(facts, fields, owner, hot, is_retired, &fleet) ? PyDict_New() : NULL;
    for (int each = 0; each < FACTS; each++) {
        if (made != NULL && (facts[each] == NULL || PyDict_SetItem(made, names[each], facts[each]) < 0))
            Py_CLEAR(made);
        Py_XDECREF(facts[each]);
    }
    Py_DECREF(copy);
    return made;
}

static PyMethodDef functions[] = {
    {"worker_facts", worker_facts, METH_VARARGS, "What is known of a worker, from the copy of its slot. See `merge`."},
    {0},
};

int add_merge(PyObject *module) {
    zero = PyLong_FromLong(0);
    return zero == NULL || intern(texts) < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
