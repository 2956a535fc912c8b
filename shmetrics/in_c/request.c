/* `workers.http_metrics.HttpRequest`, in C: a request of a server begins, becomes the innermost span, and finishes.

It calls what its source has, whatever that is, in the order in which the methods in Python do.
*/

#include "writes.h"

PyTypeObject *RequestType;
static PyObject *current; /* the context variable that holds the innermost span */
static Name begin_slowly = {"_begin_slowly", NULL}, finish_slowly = {"_finish_slowly", NULL};
static Name clock_ = {"clock", NULL}, enter = {"enter", NULL}, complete = {"complete", NULL}, kinds = {"kinds", NULL},
            recorder = {"recorder", NULL};
static PyObject *zero, *one; /* 0.0 and 1 */

static int request_init(Request *self, PyObject *args, PyObject *keywords) {
    PyObject *source, *method, *path, *text = NULL, *clock = NULL, *start = NULL, *begin = NULL;
    static char *names[] = {"source", "method", "path", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOO", names, &source, &method, &path))
        return -1;
    int result = -1;
    Py_XSETREF(self->source, Py_NewRef(source));
    Py_XSETREF(self->method, Py_NewRef(method));
    Py_XSETREF(self->code, PyUnicode_New(0, 0));
    Py_XSETREF(self->route, PyUnicode_New(0, 0));
    self->done = 0;
    self->is_plain = 1;
    PyObject *of = attribute(source, &recorder);
    Py_XSETREF(self->recorder, of);
    if (of == NULL || (text = PyUnicode_FromFormat("%S %S", method, path)) == NULL ||
        (clock = attribute(source, &clock_)) == NULL || (begin = attribute(source, &enter)) == NULL ||
        (start = PyObject_CallNoArgs(clock)) == NULL)
        goto end;
    self->start = PyFloat_AsDouble(start);
    if (self->start == -1.0 && PyErr_Occurred())
        goto end;
    PyObject *shown[] = {text, start}, *ticket = PyObject_Vectorcall(begin, shown, 2, NULL);
    Py_XSETREF(self->ticket, ticket);
    result = ticket == NULL ? -1 : 0;
end:
    Py_XDECREF(text);
    Py_XDECREF(clock);
    Py_XDECREF(begin);
    Py_XDECREF(start);
    return result;
}

/* As `Span.begin`: what has ended is passed over, or all that a connection ever asked for would hang together. */
static PyObject *begin(Request *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *before = NULL;
    if (count || keywords != NULL || current == NULL || PyContextVar_Get(current, NULL, &before) < 0)
        goto slowly;
    while (before != NULL && before != Py_None) {
        if (!PyObject_TypeCheck(before, RequestType)) {
            Py_DECREF(before);
            goto slowly;
        }
        Request *request = (Request *) before;
        if (!request->done)
            break;
        before = request->before == NULL ? NULL : Py_NewRef(request->before);
        Py_DECREF(request);
    }
    Py_XSETREF(self->before, before == Py_None ? NULL : Py_XNewRef(before));
    Py_XDECREF(before);
    PyObject *token = PyContextVar_Set(current, (PyObject *) self);
    if (token == NULL)
        return NULL;
    Py_DECREF(token);
    Py_RETURN_NONE;
slowly:
    return slowly(self, &begin_slowly, args, count, keywords);
}

/* As `HttpRequest.finish` of a request of which nothing is to be said but what its kind is. */
static PyObject *finish(Request *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *found = NULL, *key = NULL, *kind = NULL, *clock = NULL, *end = NULL, *now = NULL, *elapsed = NULL,
             *inference = NULL, *result = NULL;
    if (self->done)
        Py_RETURN_NONE;
    if (count || keywords != NULL || !self->is_plain || self->source == NULL || self->method == NULL ||
        self->code == NULL || self->route == NULL || self->ticket == NULL)
        return slowly(self, &finish_slowly, args, count, keywords);
    if ((found = attribute(self->source, &kinds)) == NULL ||
        (key = PyTuple_Pack(3, self->method, self->code, self->route)) == NULL)
        goto end;
    kind = PyDict_Check(found) ? PyDict_GetItemWithError(found, key) : NULL;
    if (kind == NULL && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError))
            goto end;
        PyErr_Clear(); /* what cannot be a key is the application's own idea of a status, or of a route */
    }
    if (kind == NULL || !PyTuple_Check(kind) || PyTuple_GET_SIZE(kind) != 2 || PyTuple_GET_ITEM(kind, 1) != Py_False) {
        kind = NULL;
        result = slowly(self, &finish_slowly, args, count, keywords);
        goto end;
    }
    Py_INCREF(kind);
    if ((clock = attribute(self->source, &clock_)) == NULL ||
        (end = attribute(self->source, &complete)) == NULL || (now = PyObject_CallNoArgs(clock)) == NULL)
        goto end;
    if (self->done || !self->is_plain) { /* the clock's own code came in between, or a collection did */
        result = slowly(self, &finish_slowly, args, count, keywords);
        goto end;
    }
    self->elapsed = PyFloat_AsDouble(now) - self->start;
    self->done = 1;
    elapsed = PyFloat_FromDouble(self->elapsed);
    inference = PyFloat_FromDouble(self->elapsed > 0.0 ? self->elapsed : 0.0);
    if (elapsed == NULL || inference == NULL)
        goto end;
    PyObject *said[] = {self->ticket, now, inference, one, zero, zero, PyTuple_GET_ITEM(kind, 0), elapsed};
    result = PyObject_Vectorcall(end, said, 8, NULL);
end:
    Py_XDECREF(found);
    Py_XDECREF(key);
    Py_XDECREF(kind);
    Py_XDECREF(clock);
    Py_XDECREF(end);
    Py_XDECREF(now);
    Py_XDECREF(elapsed);
    Py_XDECREF(inference);
    return result;
}

LIFETIME(request, 8, NULL, 0)

static PyMethodDef methods[] = {
    METHOD("begin", begin, "", "From now on it is the innermost span of this context. See `measurement.Span`."),
    METHOD("finish", finish, "", "Record the request, once."),
    {0},
};
static PyMemberDef members[] = {
    OBJECT("_source", Request, source),
    OBJECT("recorder", Request, recorder),
    {"before", T_OBJECT, offsetof(Request, before), 0, NULL},
    OBJECT("_ticket", Request, ticket),
    OBJECT("_method", Request, method),
    OBJECT("code", Request, code),
    OBJECT("route", Request, route),
    {"first_byte", T_OBJECT, offsetof(Request, first_byte), 0, NULL},
    {"_start", T_DOUBLE, offsetof(Request, start), 0, NULL},
    {"elapsed", T_DOUBLE, offsetof(Request, elapsed), 0, NULL},
    {"done", T_BOOL, offsetof(Request, done), 0, NULL},
    {"is_plain", T_BOOL, offsetof(Request, is_plain), 0, NULL},
    {0},
};
static PyType_Slot slots[] = {
    {Py_tp_init, request_init},          {Py_tp_methods, methods},     {Py_tp_members, members},
    {Py_tp_traverse, request_traverse},  {Py_tp_clear, request_clear}, {Py_tp_dealloc, request_dealloc},
    {0},
};

int add_request(PyObject *module) {
    zero = PyFloat_FromDouble(0.0);
    one = PyLong_FromLong(1);
    RequestType = add_type(module, "shmetrics._native.HttpRequest", sizeof(Request), NULL, slots);
    return RequestType == NULL || zero == NULL || one == NULL ? -1 : 0;
}

PyObject *use_context(PyObject *Py_UNUSED(module), PyObject *variable) {
    Py_XSETREF(current, Py_NewRef(variable));
    Py_RETURN_NONE;
}
