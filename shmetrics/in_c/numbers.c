/* Numbers as a page of Prometheus has them, in C: see `exporters.prometheus.forms`. */

#include "writes.h"
#include <math.h>

enum { LARGE = 1000000, DIGITS = 6 };

/* A whole number that is not large, and whether it is below zero, as zeros may be. */
typedef struct {
    uint32_t number;
    int is_negative;
} Whole;

/* Whether a number is such a one. */
static int is_whole(PyObject *number, Whole *whole) {
    if (PyFloat_Check(number)) {
        double value = PyFloat_AS_DOUBLE(number);
        uint64_t bits;
        if (!(value > -LARGE && value < LARGE) || (double) (int32_t) value != value)
            return 0;
        memcpy(&bits, &value, sizeof bits);
        int32_t rounded = (int32_t) value;
        *whole = (Whole) {(uint32_t) (rounded < 0 ? -rounded : rounded), (int) (bits >> 63)};
        return 1;
    }
    int is_beyond = 1;
    long count = PyLong_CheckExact(number) ? PyLong_AsLongAndOverflow(number, &is_beyond) : 0;
    if (is_beyond || count <= -LARGE || count >= LARGE)
        return 0;
    *whole = (Whole) {(uint32_t) (count < 0 ? -count : count), count < 0};
    return 1;
}

/* Write it before `end` as Python writes it as a float: "12.0". Returns where it begins. */
static char *write_before(char *end, Whole whole) {
    *--end = '0';
    *--end = '.';
    do
        *--end = (char) ('0' + whole.number % 10);
    while ((whole.number /= 10) > 0);
    if (whole.is_negative)
        *--end = '-';
    return end;
}

/* The same as a text. */
static PyObject *text_of_whole(Whole whole) {
    char text[1 + DIGITS + 2], *end = text + sizeof text, *start = write_before(end, whole);
    PyObject *made = PyUnicode_New(end - start, 127);
    if (made != NULL)
        memcpy(PyUnicode_1BYTE_DATA(made), start, (size_t) (end - start));
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
    Whole whole;
    if (is_whole(number, &whole))
        return text_of_whole(whole);
    double value = PyFloat_Check(number) ? PyFloat_AS_DOUBLE(number) : LARGE;
    if (!PyFloat_Check(number)) { /* what is equal is remembered alike, but for zeros */
        int is_something = PyObject_IsTrue(number);
        if (is_something < 0)
            return NULL;
        if (!is_something) {
            value = PyFloat_AsDouble(number);
            return value == -1.0 && PyErr_Occurred() ? NULL : text_of_whole((Whole) {0, signbit(value) != 0});
        }
    }
    return value > -LARGE && value < LARGE ? other(number, value, remembered, most) : PyObject_GetItem(remembered, number);
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

/* Bytes that grow. */
typedef struct {
    PyObject *bytes;
    Py_ssize_t length;
} Page;

/* Room for so many more at the end: where it is, or NULL and an exception. */
static char *room_for(Page *page, Py_ssize_t more) {
    Py_ssize_t size = PyBytes_GET_SIZE(page->bytes);
    if (more > size - page->length && _PyBytes_Resize(&page->bytes, size + size / 2 + more) < 0)
        return NULL;
    return PyBytes_AS_STRING(page->bytes) + page->length;
}

static int add_bytes(Page *page, const char *bytes, Py_ssize_t count) {
    char *room = room_for(page, count);
    if (room == NULL)
        return 0;
    memcpy(room, bytes, (size_t) count);
    page->length += count;
    return 1;
}

static int add_number(Page *page, PyObject *number, PyObject *remembered, Py_ssize_t most) {
    Whole whole;
    if (is_whole(number, &whole)) {
        char text[1 + DIGITS + 2], *end = text + sizeof text, *start = write_before(end, whole);
        return add_bytes(page, start, end - start);
    }
    PyObject *text = text_of(number, remembered, most);
    Py_ssize_t length = 0;
    const char *bytes = text == NULL ? NULL : PyUnicode_AsUTF8AndSize(text, &length);
    int done = bytes != NULL && add_bytes(page, bytes, length);
    Py_XDECREF(text);
    return done;
}

/* `filled(text, places, form, numbers, which, remembered, most)`: see `templates`. */
static PyObject *filled(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *text, *places, *form, *numbers, *which, *remembered;
    Py_ssize_t most, size = (Py_ssize_t) sizeof(int64_t);
    if (!PyArg_ParseTuple(args, "SSUOOO!n", &text, &places, &form, &numbers, &which, &PyDict_Type, &remembered, &most))
        return NULL;
    if (which != Py_None && !PyBytes_Check(which)) {
        PyErr_SetString(PyExc_TypeError, "wanted indices, or None");
        return NULL;
    }
    PyObject *all = PySequence_Fast(numbers, "wanted numbers");
    if (all == NULL)
        return NULL;
    const char *from = PyBytes_AS_STRING(text);
    const int64_t *ends = (const int64_t *) PyBytes_AS_STRING(places);
    const int64_t *index = which == Py_None ? NULL : (const int64_t *) PyBytes_AS_STRING(which);
    Py_ssize_t count = PyBytes_GET_SIZE(places) / size, end = PyBytes_GET_SIZE(text);
    Py_ssize_t given = index == NULL ? PySequence_Fast_GET_SIZE(all) : PyBytes_GET_SIZE(which) / size;
    Page page = {given == count ? PyBytes_FromStringAndSize(NULL, end + 8 * count) : NULL, 0};
    if (given != count)
        PyErr_Format(PyExc_ValueError, "wanted %zd numbers, not %zd", count, given);
    int64_t done = 0;
    for (Py_ssize_t each = 0; page.bytes != NULL && each < count; each++) {
        int64_t at = index == NULL ? each : index[each];
        if (ends[each] < done || ends[each] > end || at < 0 || at >= PySequence_Fast_GET_SIZE(all)) {
            PyErr_SetString(PyExc_ValueError, "wanted places in the text, and a number for each");
            Py_CLEAR(page.bytes);
            break;
        }
        PyObject *number = Py_NewRef(PySequence_Fast_GET_ITEM(all, at));
        if (!add_bytes(&page, from + done, (Py_ssize_t) (ends[each] - done)) || !add_number(&page, number, remembered, most))
            Py_CLEAR(page.bytes);
        done = ends[each];
        Py_DECREF(number);
    }
    if (page.bytes != NULL && (!add_bytes(&page, from + done, end - (Py_ssize_t) done) || _PyBytes_Resize(&page.bytes, page.length) < 0))
        Py_CLEAR(page.bytes);
    Py_DECREF(all);
    return page.bytes;
}

static PyMethodDef functions[] = {
    {"filled", filled, METH_VARARGS, "A text with numbers in its places. See `templates`."},
    {"written", written, METH_VARARGS, "Numbers as text; those that are not whole are remembered, but no more than so many. See `forms`."},
    {0},
};

int add_numbers(PyObject *module) { return PyModule_AddFunctions(module, functions); }
