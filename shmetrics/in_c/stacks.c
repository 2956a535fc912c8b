/* `stacks.walk`, in C. Nothing of Python's runs from the first frame to the last: the GIL is kept, and the collector is
off, whose destructors might give it up. */

#include "writes.h"
#include <frameobject.h> /* which Python.h has from CPython 3.11 on */

static PyObject *globals_of(PyFrameObject *frame) {
#if PY_VERSION_HEX >= 0x030B0000
    return PyFrame_GetGlobals(frame);
#else
    return Py_NewRef(frame->f_globals);
#endif
}

/* Append a new reference, which may be none; -1 with an exception where that cannot be done. */
static int append(PyObject *list, PyObject *made) {
    int result = made == NULL ? -1 : PyList_Append(list, made);
    Py_XDECREF(made);
    return result;
}

/* A thread and its calls, innermost first: `(ident, [(code, globals), ...])`. */
static PyObject *stack_of(PyObject *ident, PyObject *innermost, Py_ssize_t most) {
    PyObject *calls = PyList_New(0);
    PyFrameObject *frame = (PyFrameObject *) Py_NewRef(innermost);
    int failed = calls == NULL;
    while (!failed && frame != NULL && PyList_GET_SIZE(calls) < most) {
        failed = append(calls, Py_BuildValue("(NN)", PyFrame_GetCode(frame), globals_of(frame))) < 0;
        PyFrameObject *back = failed ? NULL : PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    PyObject *stack = failed ? NULL : Py_BuildValue("(OO)", ident, calls);
    Py_XDECREF(frame);
    Py_XDECREF(calls);
    return stack;
}

/* Append to `stacks` those of `frames` that are wanted. */
static int add_stacks(PyObject *stacks, PyObject *frames, Py_ssize_t most, PyObject *only, PyObject *but) {
    PyObject *ident, *frame;
    Py_ssize_t at = 0;
    while (PyDict_Next(frames, &at, &ident, &frame)) {
        int is_out = PySequence_Contains(but, ident), is_in = only == Py_None ? 1 : PySequence_Contains(only, ident);
        if (is_out < 0 || is_in < 0)
            return -1;
        if (is_in && !is_out && PyFrame_Check(frame) && append(stacks, stack_of(ident, frame, most)) < 0)
            return -1;
    }
    return 0;
}

static PyObject *walk(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *only, *but, *ask = PySys_GetObject("_current_frames");
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "nOO:walk", &most, &only, &but))
        return NULL;
    if (ask == NULL)
        return PyErr_Format(PyExc_RuntimeError, "sys._current_frames is not there");
    PyObject *stacks = PyList_New(0);
    if (stacks == NULL)
        return NULL;
    int collects = PyGC_Disable();
    PyObject *frames = PyObject_CallNoArgs(ask);
    if (frames == NULL || !PyDict_Check(frames) || add_stacks(stacks, frames, most, only, but) < 0)
        Py_CLEAR(stacks);
    Py_XDECREF(frames);
    if (collects)
        PyGC_Enable();
    if (stacks == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "sys._current_frames gave no dictionary");
    return stacks;
}

static PyMethodDef functions[] = {
    {"walk", walk, METH_VARARGS, "The calls that threads are in. See `stacks`."},
    {0},
};

int add_walk(PyObject *module) { return PyModule_AddFunctions(module, functions); }
