/* `workers.http_metrics.HttpRequest`, in C: a request of a server begins, becomes the innermost span, and finishes.

It calls what its source has, whatever that is, in the order in which the methods in Python do.
*/

#include "writes.h"

PyTypeObject *RequestType;
static PyObject *current; /* the context variable that holds the innermost span */
static Name begin_slowly = {"_begin_slowly", NULL}, finish_slowly = {"_finish_slowly", NULL};
static PyObject *empty, *zero, *one, *begin_name; /* "", 0.0, 1 and "begin" */

/* As f"{method} {path}". */
static PyObject *label_of(PyObject *method, PyObject *path) {
    PyObject *first = PyObject_Format(method, NULL), *second = first == NULL ? NULL : PyObject_Format(path, NULL);
    PyObject *label = second == NULL ? NULL : PyUnicode_FromFormat("%U %U", first, second);
    Py_XDECREF(first);
    Py_XDECREF(second);
    return label;
}

/* A request that came by HTTP has begun. Its source has a clock and `enter`; a board where that is of one of C's. */
PyObject *new_request(PyTypeObject *type, Source *source, PyObject *method, PyObject *path) {
    PyObject *clock = Py_NewRef(source->clock), *enter = Py_NewRef(source->enter), *board = Py_XNewRef(source->board),
             *label = NULL, *start = NULL; /* held, since the clock may be anything */
    Ticket ticket;
    Request *self = (Request *) type->tp_alloc(type, 0);
    if (self == NULL)
        goto end;
    self->source = Py_NewRef(source);
    self->recorder = Py_XNewRef(source->recorder);
    self->method = Py_NewRef(method);
    self->code = Py_NewRef(empty);
    self->route = Py_NewRef(empty);
    self->is_plain = 1;
    if (!read_clock(clock, &self->start))
        goto end;
    if (board != NULL && enter_request((Board *) board, method, path, self->start, &ticket)) {
        self->number = ticket.number;
        self->place = ticket.place;
    } else if ((label = label_of(method, path)) != NULL && (start = PyFloat_FromDouble(self->start)) != NULL) {
        PyObject *shown[] = {label, start};
        self->ticket = PyObject_Vectorcall(enter, shown, 2, NULL);
    }
end:
    if (self != NULL && self->ticket == NULL && self->number == 0)
        Py_CLEAR(self);
    Py_DECREF(clock);
    Py_DECREF(enter);
    Py_XDECREF(board);
    Py_XDECREF(label);
    Py_XDECREF(start);
    return (PyObject *) self;
}

/* As `Span.begin`: what has ended is passed over, or all that a connection ever asked for would hang together. */
static PyObject *begin(Request *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *before = NULL;
    if (count || keywords != NULL || current == NULL || PyContextVar_Get(current, NULL, &before) < 0)
        goto slowly;
    while (before != NULL && before != Py_None) {
        if (!is_of(before, RequestType)) {
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

int begin_request(PyObject *request) {
    PyObject *begun = is_plain_request(request) ? begin((Request *) request, NULL, 0, NULL)
                                                : PyObject_CallMethodNoArgs(request, begin_name);
    Py_XDECREF(begun);
    return begun != NULL;
}

int name_route(Request *request, PyObject *of, Name *name) {
    PyObject *found = attribute(of, name);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Clear();
    if (found == NULL)
        return !PyErr_Occurred();
    int is_known = PyUnicode_CheckExact(found) || !PyUnicode_Check(found);
    if (PyUnicode_CheckExact(found))
        Py_XSETREF(request->route, Py_NewRef(found));
    Py_DECREF(found);
    return is_known;
}

/* Record it: by C where its source's `complete` is of a writer of C's, and else by that. */
static PyObject *end(Request *self, PyObject *writer, PyObject *by, const Ticket *ticket, double now, PyObject *durations) {
    double measures[4] = {self->elapsed > 0.0 ? self->elapsed : 0.0, 1.0, 0.0, 0.0};
    int completed = writer == NULL ? 0 : complete((Writer *) writer, ticket, now, measures, durations, self->elapsed);
    if (completed)
        return completed < 0 ? NULL : end_write((Writer *) writer);
    PyObject *object = ticket_object(ticket), *then = PyFloat_FromDouble(now), *inference = PyFloat_FromDouble(measures[0]),
             *elapsed = PyFloat_FromDouble(self->elapsed), *result = NULL;
    if (object != NULL && then != NULL && inference != NULL && elapsed != NULL) {
        PyObject *said[] = {object, then, inference, one, zero, zero, durations, elapsed};
        result = PyObject_Vectorcall(by, said, 8, NULL);
    }
    Py_XDECREF(object);
    Py_XDECREF(then);
    Py_XDECREF(inference);
    Py_XDECREF(elapsed);
    return result;
}

/* As `HttpRequest.finish` of a request of which nothing is to be said but what its kind is. */
PyObject *finish(Request *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    Source *source = (Source *) self->source;
    PyObject *kind = NULL, *clock = NULL, *by = NULL, *writer = NULL, *result = NULL;
    Ticket ticket = {NULL, 0, -1};
    double now;
    if (self->done)
        Py_RETURN_NONE;
    if (count || keywords != NULL || !self->is_plain || source == NULL || !is_of(self->source, SourceType) ||
        source->kinds == NULL || self->method == NULL || self->code == NULL || self->route == NULL)
        return slowly(self, &finish_slowly, args, count, keywords);
    Py_INCREF(source); /* all is held, since a status may compare itself, and the clock be anything */
    if ((kind = kind_of(source, self)) == NULL && PyErr_Occurred())
        goto end;
    if (kind == NULL || !PyTuple_Check(kind) || PyTuple_GET_SIZE(kind) != 2 || PyTuple_GET_ITEM(kind, 1) != Py_False)
        goto slowly;
    if ((clock = Py_XNewRef(source->clock)) == NULL || (by = Py_XNewRef(source->complete)) == NULL)
        goto slowly;
    writer = Py_XNewRef(source->writer);
    if (!read_clock(clock, &now))
        goto end;
    if (self->done || !self->is_plain || (self->ticket == NULL && self->number == 0))
        goto slowly; /* the clock's own code came in between, or a collection did */
    ticket = (Ticket) {Py_XNewRef(self->ticket), self->number, self->place};
    self->elapsed = now - self->start;
    self->done = 1;
    result = end(self, writer, by, &ticket, now, PyTuple_GET_ITEM(kind, 0));
    goto end;
slowly:
    result = slowly(self, &finish_slowly, args, count, keywords);
end:
    Py_XDECREF(kind);
    Py_XDECREF(clock);
    Py_XDECREF(by);
    Py_XDECREF(writer);
    Py_XDECREF(ticket.object);
    Py_DECREF(source);
    return result;
}

LIFETIME(request, 9, NULL, 0)

static PyMethodDef methods[] = {
    METHOD("begin", begin, "", "From now on it is the innermost span of this context. See `measurement.Span`."),
    METHOD("finish", finish, "", "Record the request, once."),
    {0},
};
static PyMemberDef members[] = {
    OBJECT("_source", Request, source),
    OBJECT("recorder", Request, recorder),
    {"before", T_OBJECT, offsetof(Request, before), 0, NULL},
    OBJECT("_method", Request, method),
    OBJECT("code", Request, code),
    OBJECT("route", Request, route),
    {"first_byte", T_OBJECT, offsetof(Request, first_byte), 0, NULL},
    {"_start", T_DOUBLE, offsetof(Request, start), 0, NULL},
    {"elapsed", T_DOUBLE, offsetof(Request, elapsed), 0, NULL},
    {"done", T_BOOL, offsetof(Request, done), 0, NULL},
    {"is_plain", T_BOOL, offsetof(Request, is_plain), 0, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(Request, said), READONLY, NULL},
    {0},
};
static PyObject *ticket_get(Request *self, void *Py_UNUSED(name)) {
    Ticket ticket = {self->ticket, self->number, self->place};
    if (self->ticket == NULL && self->number == 0) {
        PyErr_SetString(PyExc_AttributeError, "_ticket");
        return NULL;
    }
    return ticket_object(&ticket);
}

static int ticket_set(Request *self, PyObject *ticket, void *Py_UNUSED(name)) {
    self->number = 0;
    Py_XSETREF(self->ticket, Py_XNewRef(ticket));
    return 0;
}

static PyGetSetDef attributes[] = {{"_ticket", (getter) ticket_get, (setter) ticket_set, NULL, NULL}, {0}};
static PyType_Slot slots[] = {
    {Py_tp_methods, methods},            {Py_tp_members, members},     {Py_tp_getset, attributes},
    {Py_tp_traverse, request_traverse},  {Py_tp_clear, request_clear}, {Py_tp_dealloc, request_dealloc},
    {0},
};

int add_request(PyObject *module) {
    empty = PyUnicode_New(0, 0);
    zero = PyFloat_FromDouble(0.0);
    one = PyLong_FromLong(1);
    begin_name = PyUnicode_InternFromString("begin");
    RequestType = add_type(module, "shmetrics._native.HttpRequest", sizeof(Request), NULL, slots);
    return RequestType == NULL || empty == NULL || zero == NULL || one == NULL || begin_name == NULL ? -1 : 0;
}

PyObject *use_context(PyObject *Py_UNUSED(module), PyObject *variable) {
    Py_XSETREF(current, Py_NewRef(variable));
    Py_RETURN_NONE;
}
