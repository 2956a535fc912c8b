/* Numbers as a page of Prometheus has them, in C: see `exporters.prometheus.forms`. */

#include "writes.h"

enum { LARGE = 1000000, DIGITS = 6 };

/* A whole number as Python writes it as a float: "12.0". */
static PyObject *whole(uint32_t number, int is_negative) {
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
    return made;
}

/* One number; what `others` say of it where Python would write it otherwise, or it is no float. */
static PyObject *text_of(PyObject *number, PyObject *others) {
    double value = PyFloat_CheckExact(number) ? PyFloat_AS_DOUBLE(number) : LARGE;
    if (!(value > -LARGE && value < LARGE))
        return PyObject_GetItem(others, number);
    int32_t rounded = (int32_t) value;
    if ((double) rounded == value) {
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        int is_negative = (int) (bits >> 63);
        return whole((uint32_t) (is_negative ? -rounded : rounded), is_negative);
    }
    char *text = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (text == NULL)
        return NULL;
    PyObject *made = PyUnicode_FromString(text);
    PyMem_Free(text);
    return made;
}

/* `written(numbers, others)`: a list. */
static PyObject *written(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *numbers, *others;
    if (!PyArg_ParseTuple(args, "O!O", &PyList_Type, &numbers, &others))
        return NULL;
    PyObject *texts = PyList_New(0);
    for (Py_ssize_t at = 0; texts != NULL && at < PyList_GET_SIZE(numbers); at++) {
        PyObject *number = Py_NewRef(PyList_GET_ITEM(numbers, at)), *text = text_of(number, others);
        if (text == NULL || PyList_Append(texts, text) < 0)
            Py_CLEAR(texts);
        Py_XDECREF(text);
        Py_DECREF(number);
    }
    return texts;
}

static PyMethodDef functions[] = {
    {"written", written, METH_VARARGS, "Numbers as text; others, which are large, as a mapping has them. See `forms`."},
    {0},
};

int add_numbers(PyObject *module) { return PyModule_AddFunctions(module, functions); }
