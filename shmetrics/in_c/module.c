/* The writes on the path of a request, in C. `native` puts them before those in Python, where this could be compiled.

Each function either does its whole write or nothing of it, and then calls the one in Python with the same arguments.
It never waits, takes no lock, and makes no system call but to read the clock. Between its first look and its last store
it runs no code of Python's and keeps the GIL, so no thread, signal handler, collector or fork of this process comes in
between: the token has to be there, but need not be taken. What it leaves to Python is whatever is not as it nearly
always is: the token is out, there is no slot, the ring has to be folded, a series has moved, a crowd waits for places
on the board, the first change in a second, a measurement that is neither int nor float, memory in strict mode.

All that it works on are attributes of Python's objects, so the two can take turns at any call. The stores, and their
order, are those of `writer`, `completion`, `board` and `instruments`.
*/

#include "writes.h"
#include <time.h>

Py_ssize_t HEAD, ERRORS, CACHE_HITS, CACHE_MISSES, BUSY, LABEL_BYTES;

static PyObject *monotonic; /* time.monotonic, where it is what CLOCK_MONOTONIC says; NULL elsewhere */
enum { NANOSECONDS = 1000000000 };

PyObject *view_get(View *view, const char *name) {
    if (view->object == NULL)
        PyErr_SetString(PyExc_AttributeError, name);
    return Py_XNewRef(view->object);
}

int view_set(View *view, PyObject *object, char format) {
    PyObject *old = view->object;
    *view = (View) {NULL, 0, Py_XNewRef(object)};
    if (object != NULL && PyMemoryView_Check(object)) {
        PyMemoryViewObject *memory = (PyMemoryViewObject *) object;
        Py_buffer *buffer = PyMemoryView_GET_BUFFER(object);
        if (!(memory->flags & _Py_MEMORYVIEW_RELEASED) && !buffer->readonly && buffer->ndim == 1 &&
            buffer->format != NULL && buffer->format[0] == format && buffer->format[1] == '\0' &&
            buffer->strides[0] == buffer->itemsize) {
            view->start = buffer->buf;
            view->count = buffer->shape[0];
        }
    }
    Py_XDECREF(old);
    return 0;
}

int visit_held(PyObject *self, int objects, View *views, int count, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    for (PyObject **each = (PyObject **) (self + 1); objects > 0; each++, objects--)
        Py_VISIT(*each);
    for (; count > 0; views++, count--)
        Py_VISIT(views->object);
    return 0;
}

void let_go(PyObject *self, int objects, View *views, int count) {
    for (PyObject **each = (PyObject **) (self + 1); objects > 0; each++, objects--)
        Py_CLEAR(*each);
    for (; count > 0; views++, count--)
        view_set(views, NULL, '\0');
}

int is_same_text(PyObject *text, PyObject *other) {
    return is_ascii(text) && is_ascii(other) && PyUnicode_GET_LENGTH(text) == PyUnicode_GET_LENGTH(other) &&
           memcmp(PyUnicode_DATA(text), PyUnicode_DATA(other), PyUnicode_GET_LENGTH(text)) == 0;
}

PyObject *make(PyTypeObject *type, Spares *spares) {
    if (!spares->count)
        return type->tp_alloc(type, 0);
    PyObject *object = spares->objects[--spares->count];
    _Py_NewReference(object);
    PyObject_GC_Track(object);
    return object;
}

void give_back(PyObject *object, Spares *spares) {
    PyTypeObject *type = Py_TYPE(object);
    /* One that was finalized is not used again, or the next would not be. */
    if (spares->count < MOST_SPARE && (type->tp_finalize == NULL || !PyObject_GC_IsFinalized(object))) {
        spares->objects[spares->count++] = object;
        return;
    }
    type->tp_free(object);
    Py_DECREF(type);
}

PyObject *attribute(void *self, Name *name) {
    if (name->name == NULL && (name->name = PyUnicode_InternFromString(name->text)) == NULL)
        return NULL;
    return PyObject_GetAttr(self, name->name);
}

PyObject *slowly(void *self, Name *method, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *bound = attribute(self, method);
    if (bound == NULL)
        return NULL;
    PyObject *result = PyObject_Vectorcall(bound, args, (size_t) count, keywords);
    Py_DECREF(bound);
    return result;
}

void fetch_raised(PyObject **kind, PyObject **error, PyObject **trace) {
    PyErr_Fetch(kind, error, trace);
    PyErr_NormalizeException(kind, error, trace);
    if (*trace != NULL)
        PyException_SetTraceback(*error, *trace);
}

PyObject *named(PyObject *type, PyObject **values, Py_ssize_t count) {
    PyTypeObject *made_of = (PyTypeObject *) type;
    int is_right = PyType_Check(type) && PyType_IsSubtype(made_of, &PyTuple_Type), are_all = 1;
    PyObject *made = is_right ? made_of->tp_alloc(made_of, count) : NULL;
#if PY_VERSION_HEX >= 0x030E0000
    if (made != NULL)
        ((PyTupleObject *) made)->ob_hash = -1; /* not known yet */
#endif
    for (Py_ssize_t each = 0; each < count; each++) {
        are_all &= values[each] != NULL;
        if (made != NULL)
            PyTuple_SET_ITEM(made, each, values[each]);
        else
            Py_XDECREF(values[each]);
    }
    if (!is_right && are_all)
        PyErr_SetString(PyExc_TypeError, "wanted types of named tuples");
    if (!are_all)
        Py_CLEAR(made);
    return made;
}

/* As CPython makes seconds of them. */
static double seconds(const struct timespec *time) {
    if (time->tv_nsec == 0)
        return (double) time->tv_sec;
    return (double) ((int64_t) time->tv_sec * NANOSECONDS + time->tv_nsec) / NANOSECONDS;
}

int read_clock(PyObject *clock, double *now) {
    struct timespec time;
    if (clock != NULL && clock == monotonic && clock_gettime(CLOCK_MONOTONIC, &time) == 0) {
        *now = seconds(&time);
        return 1;
    }
    if (clock == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_clock");
        return 0;
    }
    Py_INCREF(clock);
    PyObject *said = PyObject_CallNoArgs(clock);
    Py_DECREF(clock);
    if (said == NULL)
        return 0;
    *now = PyFloat_AsDouble(said);
    Py_DECREF(said);
    return !(*now == -1.0 && PyErr_Occurred());
}

static int find_monotonic(void) {
#ifdef __linux__
    PyObject *time = PyImport_ImportModule("time");
    PyObject *clock = time == NULL ? NULL : PyObject_GetAttrString(time, "monotonic");
    if (clock != NULL && PyCFunction_Check(clock) && PyCFunction_GET_SELF(clock) == time &&
        strcmp(((PyCFunctionObject *) clock)->m_ml->ml_name, "monotonic") == 0) /* and not what a test has put there */
        monotonic = Py_NewRef(clock);
    Py_XDECREF(time);
    Py_XDECREF(clock);
    return clock == NULL ? -1 : 0;
#else
    return 0;
#endif
}

int intern(const Text *texts) {
    for (; texts->kept != NULL; texts++)
        if ((*texts->kept = PyUnicode_InternFromString(texts->says)) == NULL)
            return -1;
    return 0;
}

PyTypeObject *add_type(PyObject *module, const char *name, size_t size, PyTypeObject *base, PyType_Slot *slots) {
    PyType_Spec spec = {name, (int) size, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};
    PyTypeObject *type = (PyTypeObject *) PyType_FromSpecWithBases(&spec, (PyObject *) base);
    if (type != NULL && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type; /* kept as long as this process lives */
}

static PyObject *use_layout(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords) {
    static char *names[] = {"head", "errors", "cache_hits", "cache_misses", "busy", "label_bytes", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$nnnnnn", names, &HEAD, &ERRORS, &CACHE_HITS, &CACHE_MISSES, &BUSY,
                                     &LABEL_BYTES))
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"use_layout", (PyCFunction) (void (*)(void)) use_layout, METH_VARARGS | METH_KEYWORDS,
     "Say which words of a slot, and which of a board, are meant, by their indexes, and how many bytes a label has: once, "
     "and before anything is written."},
    {"use_fold", (PyCFunction) (void (*)(void)) use_fold, METH_VARARGS | METH_KEYWORDS,
     "Say what a folded area is like, and how a bucket is found: once, and before anything is folded."},
    {"add_tails", (PyCFunction) (void (*)(void)) add_tails, METH_FASTCALL,
     "Add to each area its records; returns the indices of those to which nothing was added. See `tails`."},
    {"use_calls", (PyCFunction) (void (*)(void)) use_calls, METH_VARARGS | METH_KEYWORDS,
     "Say what calls of profiled functions are: once, and before any begins."},
    {"use_asgi", (PyCFunction) (void (*)(void)) use_asgi, METH_VARARGS | METH_KEYWORDS,
     "Say what `workers.asgi` does with requests: once, and before any begins."},
    {"begin_asgi", begin_asgi, METH_VARARGS, "See `workers.asgi.MetricsMiddleware.begin`, and `native.ahead`."},
    {"use_served", (PyCFunction) (void (*)(void)) use_served, METH_VARARGS | METH_KEYWORDS,
     "Say what `workers.asgi` does with connections: once, and before any is served."},
    {"call_directly", call_directly, METH_O, "Have objects of a class of middlewares called by C from then on: once."},
    {"use_wsgi", (PyCFunction) (void (*)(void)) use_wsgi, METH_VARARGS | METH_KEYWORDS,
     "Say what `workers.wsgi` does with requests: once, and before any begins."},
    {"serve_wsgi", serve_wsgi, METH_VARARGS, "See `workers.wsgi.MetricsMiddleware.serve`, and `native.ahead`."},
    {"use_context", use_context, METH_O, "Say which context variable holds the innermost span: once, and before any begins."},
    {0},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "shmetrics._native", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL &&
        (find_monotonic() < 0 || add_tickets(module) < 0 || add_board(module) < 0 || add_writer(module) < 0 || add_instruments(module) < 0 ||
         add_source(module) < 0 || add_request(module) < 0 || add_bound(module) < 0 ||
         add_middleware(module) < 0 || add_asgi() < 0 ||
         add_served(module) < 0 ||
         add_wsgi() < 0 || add_fold(module) < 0 || add_calls(module) < 0 || add_window(module) < 0 ||
         add_numbers(module) < 0 || add_seconds(module) < 0 || add_ranks(module) < 0 ||
         add_copies(module) < 0 || add_cells(module) < 0 || add_merge(module) < 0 || add_process(module) < 0 ||
         add_walk(module) < 0))
        Py_CLEAR(module);
    return module;
}
