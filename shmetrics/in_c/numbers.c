/* Numbers as a page of Prometheus has them, in C: see `exporters.prometheus.forms`. */

#include "writes.h"

enum { LARGE = 1000000, DIGITS = 6, SMALL = 1024 };

static PyObject *small[SMALL]; /* the whole numbers that most of a page are: made when they are first wanted, and kept */

/* A whole number as Python writes it as a float: "12.0". */
static PyObject *whole(uint32_t number, int is_negative) {
    PyObject **kept = number < SMALL && !is_negative ? &small[number] : NULL;
    if (kept != NULL && *kept != NULL)
        return Py_NewRef(*kept);
    char text[1 + DIGITS + 2], *start = text + sizeof text;
    *--start = '0';
    *--start = '.';
    do
        *--start = (char) ('0' + number % 10);
    while ((number /= 10) > 0);
    if (is_negative)
        *--start = '-';
    Py_ssize_t length = text + sizeof text - start;
    PyObject *made = PyUnicode_New(length, 127);
    if (made != NULL)
        memcpy(PyUnicode_1BYTE_DATA(made), start, (size_t) length);
    if (kept != NULL)
        *kept = Py_XNewRef(made);
    return made;
}

/* A number that is not whole, which takes twenty times as long: as it is remembered, or else to be remembered. */
static PyObject *other(PyObject *number, double value, PyObject *remembered, Py_ssize_t most) {
    PyObject *known = PyDict_GetItemWithError(remembered, number);
    if (known != NULL || PyErr_Occurred())
        return Py_XNewRef(known);
    char *text = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (text == NULL)
        return NULL;
    PyObject *made = PyUnicode_FromString(text);
    PyMem_Free(text);
    if (PyDict_GET_SIZE(remembered) >= most)
        PyDict_Clear(remembered);
    if (made != NULL && PyDict_SetItem(remembered, number, made) < 0)
        Py_CLEAR(made);
    return made;
}

/* One number; as Python has it, by way of `remembered`, where it is large or no float. */
static PyObject *text_of(PyObject *number, PyObject *remembered, Py_ssize_t most) {
    if (PyLong_CheckExact(number)) {
        int is_beyond;
        long count = PyLong_AsLongAndOverflow(number, &is_beyond);
        if (!is_beyond && count > -LARGE && count < LARGE)
            return whole((uint32_t) (count < 0 ? -count : count), count < 0);
    }
    double value = PyFloat_Check(number) ? PyFloat_AS_DOUBLE(number) : LARGE;
    if (!PyFloat_Check(number)) { /* what is equal is remembered alike, but for zeros */
        int is_something = PyObject_IsTrue(number);
        if (is_something < 0 || (!is_something && (value = PyFloat_AsDouble(number)) == -1.0 && PyErr_Occurred()))
            return NULL;
    }
    if (!(value > -LARGE && value < LARGE))
        return PyObject_GetItem(remembered, number);
    int32_t rounded = (int32_t) value;
    if ((double) rounded == value) {
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        int is_negative = (int) (bits >> 63);
        return whole((uint32_t) (is_negative ? -rounded : rounded), is_negative);
    }
    return other(number, value, remembered, most);
}

/* `written(numbers, remembered, most)`: a list. */
static PyObject *written(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *numbers, *remembered;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "O!O!n", &PyList_Type, &numbers, &PyDict_Type, &remembered, &most))
        return NULL;
    PyObject *texts = PyList_New(0);
    for (Py_ssize_t at = 0; texts != NULL && at < PyList_GET_SIZE(numbers); at++) {
        PyObject *number = Py_NewRef(PyList_GET_ITEM(numbers, at)), *text = text_of(number, remembered, most);
        if (text == NULL || PyList_Append(texts, text) < 0)
            Py_CLEAR(texts);
        Py_XDECREF(text);
        Py_DECREF(number);
    }
    return texts;
}

static PyMethodDef functions[] = {
    {"written", written, METH_VARARGS, "Numbers as text; those that are not whole are remembered, but no more than so many. See `forms`."},
    {0},
};

int add_numbers(PyObject *module) { return PyModule_AddFunctions(module, functions); }
