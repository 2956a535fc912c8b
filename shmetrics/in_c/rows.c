/* `copies`, in C: the rows of a ring are brought home, and looked at on the way. */

#include "writes.h"
#include <math.h>

/* Copy rows. Returns the latest of their times and `latest`; of what was copied, since the original may change. */
static double copy(Record *target, const Record *source, Py_ssize_t count, double latest) {
    for (Py_ssize_t at = 0; at < count; at++) {
        memcpy(&target[at], &source[at], sizeof *target);
        double time = *(volatile double *) &target[at].time;
        latest = time > latest ? time : latest;
    }
    return latest;
}

/* `copy_ring(memory, offset, capacity, first, rows)`: fill `rows` from number `first` on; the latest of their times. */
static PyObject *copy_ring(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer memory, rows;
    Py_ssize_t offset, capacity, size = (Py_ssize_t) sizeof(Record);
    unsigned long long first;
    if (!PyArg_ParseTuple(args, "y*nnKw*", &memory, &offset, &capacity, &first, &rows))
        return NULL;
    Py_ssize_t count = rows.len / size;
    double latest = -INFINITY;
    int is_right = capacity > 0 && offset >= 0 && offset <= memory.len && capacity <= (memory.len - offset) / size &&
                   count <= capacity && rows.len % size == 0 && offset % (Py_ssize_t) sizeof(double) == 0 &&
                   (uintptr_t) memory.buf % sizeof(double) == 0 && (uintptr_t) rows.buf % sizeof(double) == 0;
    if (is_right) {
        const Record *ring = (const Record *) ((const char *) memory.buf + offset);
        Py_ssize_t start = (Py_ssize_t) (first % (unsigned long long) capacity);
        Py_ssize_t upper = count < capacity - start ? count : capacity - start;
        latest = copy(rows.buf, ring + start, upper, latest);
        latest = copy((Record *) rows.buf + upper, ring, count - upper, latest);
    }
    PyBuffer_Release(&rows);
    PyBuffer_Release(&memory);
    if (!is_right) {
        PyErr_SetString(PyExc_ValueError, "wanted a ring, and room for some of its rows");
        return NULL;
    }
    return PyFloat_FromDouble(latest);
}

static PyMethodDef functions[] = {
    {"copy_ring", copy_ring, METH_VARARGS, "Copy rows out of a ring; returns the latest of their times. See `copies`."},
    {0},
};

int add_rows_of_rings(PyObject *module) { return PyModule_AddFunctions(module, functions); }
