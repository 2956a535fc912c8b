/* `stacks.walk`, in C: the calls that every thread is in, all at one moment.

From the first frame to the last no other thread runs Python, nor does this one: the GIL is kept, and the collector is
off, whose destructors might give it up. So no frame ends while it is in hand, which CPython from 3.11 on does not bear
in every version: what a thread leaves while another holds its frame becomes that frame's own, and is linked anew.
`sys._current_frames` itself may wait for ever when it is collected within (https://github.com/python/cpython/issues/106883).
*/

#include "writes.h"

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

/* A thread and its calls, innermost first: `(ident, codes, globals, is_deeper)`. */
static PyObject *stack_of(PyObject *ident, PyObject *innermost, Py_ssize_t most) {
    PyObject *codes = PyList_New(0), *globals = PyList_New(0);
    PyFrameObject *frame = (PyFrameObject *) Py_NewRef(innermost);
    int failed = codes == NULL || globals == NULL;
    while (!failed && frame != NULL && PyList_GET_SIZE(codes) < most) {
        failed = append(codes, (PyObject *) PyFrame_GetCode(frame)) < 0 || append(globals, globals_of(frame)) < 0;
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    PyObject *stack = failed ? NULL : Py_BuildValue("(OOOO)", ident, codes, globals, frame == NULL ? Py_False : Py_True);
    Py_XDECREF(frame);
    Py_XDECREF(codes);
    Py_XDECREF(globals);
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
    PyObject *only, *but, *ask = PySys_GetObject("_current_frames"), *frames = NULL;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "nOO:walk", &most, &only, &but))
        return NULL;
    PyObject *stacks = ask == NULL ? NULL : PyList_New(0);
    if (stacks == NULL)
        return ask == NULL ? PyErr_Format(PyExc_RuntimeError, "sys._current_frames is not there") : NULL;
    int collects = PyGC_Disable();
    frames = PyObject_CallNoArgs(ask);
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
    {"walk", walk, METH_VARARGS, "The calls that every thread is in. See `stacks`."},
    {0},
};

int add_walk(PyObject *module) { return PyModule_AddFunctions(module, functions); }
