/* `folded.fill_measures` and `window.moments`, in C: one look at each record and two at each value, where numpy takes more.
*/

#include "writes.h"
#include <math.h>

enum { MEASURES = 5, RAW = 4, TOTAL = 4, LANES = 8, BLOCK = 128 };

/* Put the measures of records into columns that are `stride` apart. Returns the largest bits of all but the total. */
static uint64_t fill(double *column, Py_ssize_t stride, const Record *rows, Py_ssize_t count) {
    uint64_t most = 0;
    for (Py_ssize_t at = 0; at < count; at++) {
        double values[MEASURES] = {rows[at].inference, rows[at].batch, rows[at].preprocessing, rows[at].quantization};
        uint64_t bits[RAW];
        memcpy(bits, values, sizeof bits);
        for (int each = 0; each < RAW; each++)
            most = bits[each] > most ? bits[each] : most;
        values[TOTAL] = values[0] + values[2] + values[3];
        for (int each = 0; each < MEASURES; each++)
            column[each * stride + at] = values[each];
    }
    return most;
}

/* `fill_measures(table, parts)`: the largest bits of a measure, or None where not all of it could be done. */
static PyObject *fill_measures(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer table, rows;
    PyObject *parts;
    if (!PyArg_ParseTuple(args, "w*O!", &table, &PyList_Type, &parts))
        return NULL;
    Py_ssize_t stride = table.len / (MEASURES * (Py_ssize_t) sizeof(double)), left = stride;
    uint64_t most = 0;
    int is_done = (uintptr_t) table.buf % sizeof(double) == 0;
    for (Py_ssize_t each = 0; is_done && each < PyList_GET_SIZE(parts); each++) {
        if (PyObject_GetBuffer(PyList_GET_ITEM(parts, each), &rows, PyBUF_SIMPLE) < 0) {
            PyErr_Clear(); /* it is not contiguous, say */
            is_done = 0;
            break;
        }
        Py_ssize_t count = rows.len / (Py_ssize_t) sizeof(Record);
        is_done = rows.len % (Py_ssize_t) sizeof(Record) == 0 && (uintptr_t) rows.buf % sizeof(double) == 0 &&
                  count <= left;
        if (is_done) {
            uint64_t bits = fill((double *) table.buf + stride - left, stride, rows.buf, count);
            most = bits > most ? bits : most;
            left -= count;
        }
        PyBuffer_Release(&rows);
    }
    PyBuffer_Release(&table);
    if (!is_done || left > 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(most);
}

/* The sum of (value - shift) ** power, added up as numpy 2.4 does, to the last bit. */
static inline double add_up(const double *values, Py_ssize_t count, double shift, int power) {
    double lanes[LANES] = {0};
    Py_ssize_t at = 0;
    for (; at + LANES <= count; at += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            double value = values[at + lane] - shift;
            lanes[lane] += power == 2 ? value * value : value;
        }
    double sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    for (; at < count; at++) {
        double value = values[at] - shift;
        sum += power == 2 ? value * value : value;
    }
    return sum;
}

static double total(const double *values, Py_ssize_t count) {
    if (count <= BLOCK)
        return add_up(values, count, 0.0, 1);
    Py_ssize_t half = count / 2 - count / 2 % LANES;
    return total(values, half) + total(values + half, count - half);
}

static double squares(const double *values, Py_ssize_t count, double mean) {
    if (count <= BLOCK)
        return add_up(values, count, mean, 2);
    Py_ssize_t half = count / 2 - count / 2 % LANES;
    return squares(values, half, mean) + squares(values + half, count - half, mean);
}

/* `moments(values)`: mean, standard deviation, least and largest of valid numbers, one at least. */
static PyObject *moments(PyObject *Py_UNUSED(module), PyObject *array) {
    Py_buffer buffer;
    if (PyObject_GetBuffer(array, &buffer, PyBUF_SIMPLE) < 0)
        return NULL;
    const double *values = buffer.buf;
    Py_ssize_t count = buffer.len / (Py_ssize_t) sizeof(double);
    if (count == 0 || (uintptr_t) values % sizeof(double) != 0) {
        PyBuffer_Release(&buffer);
        PyErr_SetString(PyExc_ValueError, "wanted numbers");
        return NULL;
    }
    double least[LANES], most[LANES], mean = total(values, count) / (double) count;
    for (int lane = 0; lane < LANES; lane++)
        least[lane] = most[lane] = values[0];
    Py_ssize_t at = 0;
    for (; at + LANES <= count; at += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            double value = values[at + lane];
            least[lane] = value < least[lane] ? value : least[lane];
            most[lane] = value > most[lane] ? value : most[lane];
        }
    for (; at < count; at++) {
        least[0] = values[at] < least[0] ? values[at] : least[0];
        most[0] = values[at] > most[0] ? values[at] : most[0];
    }
    for (int lane = 1; lane < LANES; lane++) {
        least[0] = least[lane] < least[0] ? least[lane] : least[0];
        most[0] = most[lane] > most[0] ? most[lane] : most[0];
    }
    double deviation = sqrt(squares(values, count, mean) / (double) count);
    PyBuffer_Release(&buffer);
    return Py_BuildValue("dddd", mean + 0.0, deviation, least[0] + 0.0, most[0] + 0.0); /* no zero below zero */
}

static PyMethodDef functions[] = {
    {"fill_measures", fill_measures, METH_VARARGS,
     "Put the measures of records into a table; returns the largest bits of one, or None. See `folded`."},
    {"moments", moments, METH_O, "Mean, standard deviation, least and largest of valid numbers. See `window`."},
    {0},
};

int add_window(PyObject *module) { return PyModule_AddFunctions(module, functions); }
