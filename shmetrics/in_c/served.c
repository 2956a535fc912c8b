/* `workers.asgi.MetricsMiddleware.__call__`, in C: what is awaited while a connection is served.

It stands between a server's coroutine and its application's, and is to both what the coroutine of Python's is: they have
the same methods, the same errors, and what one ends by the other does, too. The application's is always one of Python's
own; another awaitable is put into one. (A frame of Python's in between is some 2,400 instructions a request: by callgrind,
behind uvicorn, with one seed of hashes.)
*/

#include "writes.h"

enum { NEW, SUSPENDED, RUNNING, OVER };

typedef struct {
    PyObject_HEAD
    PyObject *ahead, *middleware, *scope;
    PyObject *receive, *send;  /* the server's, until it begins */
    PyObject *request, *inner; /* from then on: the request, if it is one that is measured, and the application's coroutine */
    PyObject *weak;            /* references to it */
    char state;
} Served;

static PyTypeObject *ServedType;
static Spares spares;
static PyObject *python, *awaited, *end;       /* functions of Python's, by `use_served` */
static PyObject *serve_other, *throw, *closes; /* names of methods */
static Name done = {"done", NULL};

HOLDING(served, 7, NULL, 0)

/* An application is called with one set of arguments: by its request, with which it may have other ways to its client. */
static PyObject *called(Served *self) {
    PyObject *args[] = {self->middleware, self->scope, self->receive, self->send}, *awaitable;
    Begun begun;
    int is_begun = begin_measured((Ahead *) self->ahead, args, &begun);
    if (is_begun <= 0)
        return is_begun < 0 ? NULL : PyObject_VectorcallMethod(serve_other, args, 4, NULL);
    self->request = Py_NewRef(begun.request);
    PyObject *given[] = {NULL, self->scope, begun.receive, begun.send}, *app = app_of(self->middleware);
    awaitable = app == NULL ? NULL : call_within(app, given + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(app);
    forget(&begun);
    return awaitable;
}

/* Whether it has begun, as it does in the context of whoever awaits it. */
static int begin(Served *self) {
    PyObject *awaitable = called(self);
    if (awaitable != NULL && (!PyCoro_CheckExact(awaitable) || Py_REFCNT(awaitable) > 1)) /* somebody may await it */
        Py_SETREF(awaitable, PyObject_CallOneArg(awaited, awaitable));
    self->inner = awaitable;
    Py_CLEAR(self->receive);
    Py_CLEAR(self->send);
    return awaitable != NULL;
}

/* The application is over, by an error or by None: that is said to its request, if it has one that wants to know. */
static int tell(Served *self, PyObject *error) {
    PyObject *request = self->request, *is_done = NULL, *told = Py_None;
    if (request == NULL)
        return 1;
    if (error == Py_None && is_of(request, RequestType) && ((Request *) request)->done)
        return 1;
    if (error == Py_None && (is_done = attribute(request, &done)) == NULL)
        return 0;
    int is_told = is_done == NULL ? 0 : PyObject_IsTrue(is_done);
    Py_XDECREF(is_done);
    if (is_told)
        return is_told > 0;
    PyObject *args[] = {request, self->scope, error}, *kind, *handled, *trace;
    PyErr_GetExcInfo(&kind, &handled, &trace);
    if (error != Py_None) /* as within `except` */
        PyErr_SetExcInfo(Py_NewRef(Py_TYPE(error)), Py_NewRef(error), PyException_GetTraceback(error));
    told = PyObject_Vectorcall(end, args, 3, NULL);
    Py_XDECREF(told);
    PyErr_SetExcInfo(kind, handled, trace);
    return told != NULL;
}

/* What would end an iterator must not come out of a coroutine: it is told as that tells it. */
static void be_no_stop(PyObject **kind, PyObject **error, PyObject **trace) {
    if (*kind == NULL || !PyErr_GivenExceptionMatches(*kind, PyExc_StopIteration))
        return;
    PyErr_Restore(*kind, *error, *trace);
    fetch_raised(kind, error, trace);
    PyObject *stop = *error;
    Py_CLEAR(*kind);
    Py_CLEAR(*trace);
    PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    fetch_raised(kind, error, trace);
    PyException_SetCause(*error, Py_NewRef(stop));
    PyException_SetContext(*error, stop);
}

/* It has ended as it should, or it was closed; whether that could be told. */
static int end_by(Served *self, PyObject *error) {
    int is_told = tell(self, error);
    PyObject *kind = NULL, *raised = NULL, *trace = NULL;
    self->state = OVER;
    if (!is_told) {
        PyErr_Fetch(&kind, &raised, &trace);
        be_no_stop(&kind, &raised, &trace);
    }
    let_go((PyObject *) self, 7, NULL, 0);
    if (!is_told)
        PyErr_Restore(kind, raised, trace);
    return is_told;
}

/* It has raised, which goes on, unless there is another error on the way. */
static void end_raised(Served *self) {
    PyObject *kind, *error, *trace;
    fetch_raised(&kind, &error, &trace);
    if (end_by(self, error)) {
        be_no_stop(&kind, &error, &trace);
        PyErr_Restore(kind, error, trace);
    } else {
        Py_XDECREF(kind);
        Py_XDECREF(error);
        Py_XDECREF(trace);
    }
}

/* Whether it can go on; 0 with the exception that a coroutine raises then. */
static int can_go_on(Served *self) {
    if (self->state == RUNNING)
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
    else if (self->state == OVER)
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    return self->state < RUNNING;
}

static PySendResult step(PyObject *object, PyObject *value, PyObject **result) {
    Served *self = (Served *) object;
    PySendResult how = PYGEN_ERROR;
    *result = NULL;
    if (!can_go_on(self))
        return PYGEN_ERROR;
    int is_new = self->state == NEW;
    if (is_new && value != Py_None) {
        PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
        return PYGEN_ERROR;
    }
    self->state = RUNNING;
    if (!is_new || begin(self))
        how = PyIter_Send(self->inner, value, result);
    if (how == PYGEN_NEXT)
        self->state = SUSPENDED;
    else if (how == PYGEN_ERROR)
        end_raised(self);
    else {
        Py_SETREF(*result, Py_NewRef(Py_None));
        if (!end_by(self, Py_None)) {
            Py_CLEAR(*result);
            how = PYGEN_ERROR;
        }
    }
    return how;
}

static PyObject *next(PyObject *self) {
    PyObject *result;
    if (step(self, Py_None, &result) == PYGEN_RETURN)
        Py_CLEAR(result);
    return result;
}

static PyObject *served_send(PyObject *self, PyObject *value) {
    PyObject *result;
    if (step(self, value, &result) == PYGEN_RETURN) {
        Py_CLEAR(result);
        PyErr_SetNone(PyExc_StopIteration);
    }
    return result;
}

static PyObject *served_throw(PyObject *object, PyObject *args) {
    Served *self = (Served *) object;
    PyObject *error, *value = NULL, *trace = Py_None;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &error, &value, &trace))
        return NULL;
    if (self->state != SUSPENDED && trace != Py_None && !PyTraceBack_Check(trace)) {
        PyErr_SetString(PyExc_TypeError, "throw() third argument must be a traceback object");
        return NULL;
    }
    if (self->state != SUSPENDED && !PyExceptionClass_Check(error) && !PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %s",
                     Py_TYPE(error)->tp_name);
        return NULL;
    }
    if (!can_go_on(self))
        return NULL;
    self->state = RUNNING;
    if (self->inner != NULL && PyErr_GivenExceptionMatches(error, PyExc_GeneratorExit)) { /* then that is closed first */
        PyObject *closed = PyObject_CallMethodNoArgs(self->inner, closes);
        Py_XDECREF(closed);
        if (closed == NULL) {
            end_raised(self);
            return NULL;
        }
        Py_CLEAR(self->inner);
    }
    if (self->inner == NULL) /* what raises it, and no more */
        self->inner = PyObject_CallOneArg(awaited, Py_None);
    PyObject *raise = self->inner == NULL ? NULL : PyObject_GetAttr(self->inner, throw);
    PyObject *result = raise == NULL ? NULL : PyObject_Call(raise, args, NULL);
    Py_XDECREF(raise);
    if (result != NULL)
        self->state = SUSPENDED;
    else if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        end_raised(self);
    else {
        PyErr_Clear();
        if (end_by(self, Py_None))
            PyErr_SetNone(PyExc_StopIteration);
    }
    return result;
}

static PyObject *served_close(PyObject *object, PyObject *Py_UNUSED(none)) {
    Served *self = (Served *) object;
    if (self->state == RUNNING && !can_go_on(self))
        return NULL;
    int was_new = self->state == NEW, is_closed = self->state == OVER;
    if (was_new) {
        self->state = OVER;
        let_go(object, 7, NULL, 0);
    }
    if (was_new || is_closed)
        Py_RETURN_NONE;
    self->state = RUNNING;
    PyObject *closed = PyObject_CallMethodNoArgs(self->inner, closes);
    PyObject *error = closed == NULL ? NULL : PyObject_CallNoArgs(PyExc_GeneratorExit);
    Py_XDECREF(closed);
    if (error == NULL)
        end_raised(self);
    else
        is_closed = end_by(self, error);
    Py_XDECREF(error);
    return is_closed ? Py_NewRef(Py_None) : NULL;
}

/* Nobody has awaited it, or not to its end. */
static void finalize(PyObject *self) {
    PyObject *kind, *error, *trace, *closed = NULL;
    if (((Served *) self)->state == OVER)
        return;
    PyErr_Fetch(&kind, &error, &trace);
    if (((Served *) self)->state == NEW &&
        PyErr_WarnEx(PyExc_RuntimeWarning, "coroutine 'MetricsMiddleware.__call__' was never awaited", 1) < 0)
        PyErr_WriteUnraisable(self);
    if ((closed = served_close(self, NULL)) == NULL)
        PyErr_WriteUnraisable(self);
    Py_XDECREF(closed);
    PyErr_Restore(kind, error, trace);
}

static void served_dealloc(PyObject *self) {
    if (((Served *) self)->state != OVER && PyObject_CallFinalizerFromDealloc(self) < 0)
        return; /* somebody holds it again */
    PyObject_GC_UnTrack(self);
    if (((Served *) self)->weak != NULL)
        PyObject_ClearWeakRefs(self);
    let_go(self, 7, NULL, 0);
    ((Served *) self)->state = NEW;
    give_back(self, &spares);
}

/* Nobody else may await it while somebody does, as CPython has it for coroutines. */
static PyObject *await(PyObject *self) {
    if (((Served *) self)->state != SUSPENDED)
        return Py_NewRef(self);
    PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
    return NULL;
}

/* To those who look where a task is, it looks as the application's coroutine does. */
static PyObject *look(PyObject *self, void *name) {
    PyObject *inner = ((Served *) self)->inner;
    return inner == NULL ? Py_NewRef(Py_None) : PyObject_GetAttrString(inner, name);
}

static PyObject *code(PyObject *self, void *name) {
    return ((Served *) self)->inner == NULL ? PyObject_GetAttrString(python, "__code__") : look(self, name);
}

static PyObject *name_of(PyObject *Py_UNUSED(self), void *name) { return PyObject_GetAttrString(python, name); }

static PyObject *origin(PyObject *Py_UNUSED(self), void *Py_UNUSED(name)) { Py_RETURN_NONE; }

static PyObject *is_running(PyObject *self, void *Py_UNUSED(name)) {
    return PyBool_FromLong(((Served *) self)->state == RUNNING);
}

static PyObject *is_suspended(PyObject *self, void *Py_UNUSED(name)) {
    return PyBool_FromLong(((Served *) self)->state == SUSPENDED);
}

PyObject *serve(Ahead *ahead, PyObject *middleware, PyObject *const *args) {
    Served *self = (Served *) make(ServedType, &spares);
    if (self != NULL) {
        self->ahead = Py_NewRef((PyObject *) ahead);
        self->middleware = Py_NewRef(middleware);
        self->scope = Py_NewRef(args[0]);
        self->receive = Py_NewRef(args[1]);
        self->send = Py_NewRef(args[2]);
    }
    return (PyObject *) self;
}

PyObject *use_served(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords) {
    static char *names[] = {"call", "awaited", "end", NULL};
    PyObject *by[3];
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OOO", names, &by[0], &by[1], &by[2]))
        return NULL;
    Py_XSETREF(python, Py_NewRef(by[0]));
    Py_XSETREF(awaited, Py_NewRef(by[1]));
    Py_XSETREF(end, Py_NewRef(by[2]));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"send", served_send, METH_O, "As a coroutine's."},
    {"throw", served_throw, METH_VARARGS, "As a coroutine's."},
    {"close", served_close, METH_NOARGS, "As a coroutine's."},
    {0},
};
static PyMemberDef members[] = {{"__weaklistoffset__", T_PYSSIZET, offsetof(Served, weak), READONLY, NULL}, {0}};
static PyGetSetDef attributes[] = {
    {"cr_await", look, NULL, NULL, "cr_await"},
    {"cr_code", code, NULL, NULL, "cr_code"},
    {"cr_frame", look, NULL, NULL, "cr_frame"},
    {"cr_origin", origin, NULL, NULL, NULL},
    {"cr_running", is_running, NULL, NULL, NULL},
    {"cr_suspended", is_suspended, NULL, NULL, NULL},
    {"__name__", name_of, NULL, NULL, "__name__"},
    {"__qualname__", name_of, NULL, NULL, "__qualname__"},
    {0},
};
static PyType_Slot slots[] = {
    {Py_am_await, await},  {Py_am_send, step},         {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, next},
    {Py_tp_methods, methods},  {Py_tp_members, members},   {Py_tp_getset, attributes},
    {Py_tp_finalize, finalize}, {Py_tp_traverse, served_traverse}, {Py_tp_clear, served_clear},
    {Py_tp_dealloc, served_dealloc}, {0},
};

int add_served(PyObject *module) {
    PyType_Spec spec = {"shmetrics._native.Served", sizeof(Served), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};
    const Text texts[] = {{&serve_other, "_serve_other"}, {&throw, "throw"}, {&closes, "close"}, {NULL, NULL}};
    if (intern(texts) < 0 || (ServedType = (PyTypeObject *) PyType_FromSpec(&spec)) == NULL)
        return -1;
    ServedType->tp_new = NULL; /* they are made here, and nowhere else */
    return PyModule_AddType(module, ServedType);
}
