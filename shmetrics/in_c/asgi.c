/* What `workers.asgi` hands an application to receive and to send by, in C: as functools.partial, and quicker.

A `Receiver` is a function with its first two arguments, a `Sender` one with its first four. An ordinary message is
looked at here, as the function would do it, before it goes to the server; any other is left to the function.
*/

#include "writes.h"

typedef struct {
    PyObject_HEAD
    PyObject *function, *request, *scope, *channel, *raises;
    vectorcallfunc call;
} Bound;

static PyTypeObject *ReceiverType, *SenderType;
static PyObject *type, *status, *more_body, *route, *template, *start, *body; /* texts */

static PyObject *receive(PyObject *object, PyObject *const *args, size_t count, PyObject *keywords) {
    Bound *self = (Bound *) object;
    if (PyVectorcall_NARGS(count) || keywords != NULL) {
        PyErr_SetString(PyExc_TypeError, "receive() takes no arguments");
        return NULL;
    }
    (void) args;
    PyObject *all[] = {self->request, self->channel};
    return PyObject_Vectorcall(self->function, all, 2, NULL);
}

static int is_empty(PyObject *text) {
    return text != NULL && PyUnicode_CheckExact(text) && PyUnicode_GET_LENGTH(text) == 0;
}

static int is_text(PyObject *text, PyObject *other) {
    return text == other || (PyUnicode_CheckExact(text) && PyUnicode_Compare(text, other) == 0);
}

/* Whether a response begins in an ordinary way, which the request knows then: 0 where that is left to Python. */
static int begins(Bound *self, Request *request, PyObject *message) {
    PyObject *code = PyDict_GetItemWithError(message, status);
    if (code == NULL || !is_empty(request->code) || !is_empty(request->route) || !PyDict_CheckExact(self->scope))
        return 0;
    Py_INCREF(code);
    int is_routed = PyDict_Contains(self->scope, route) || PyDict_Contains(self->scope, template);
    if (!is_routed)
        Py_XSETREF(request->code, Py_NewRef(code));
    Py_DECREF(code);
    return !is_routed;
}

/* Whether it ends in an ordinary way. */
static int ends(Request *request, PyObject *message) {
    PyObject *more = PyDict_GetItemWithError(message, more_body);
    return (more == NULL || more == Py_False) && !PyErr_Occurred() &&
           (request->first_byte == NULL || request->first_byte == Py_None);
}

static PyObject *send(PyObject *object, PyObject *const *args, size_t count, PyObject *keywords) {
    Bound *self = (Bound *) object;
    PyObject *message = PyVectorcall_NARGS(count) == 1 && keywords == NULL ? args[0] : NULL, *kind = NULL;
    if (message != NULL && PyDict_CheckExact(message) && self->raises == Py_False &&
        PyObject_TypeCheck(self->request, RequestType))
        kind = PyDict_GetItemWithError(message, type);
    if (kind != NULL) {
        Request *request = (Request *) self->request;
        if (is_text(kind, start)) {
            if (begins(self, request, message))
                return PyObject_CallOneArg(self->channel, message);
        } else if (is_text(kind, body) && ends(request, message)) {
            PyObject *finished = finish(request, NULL, 0, NULL);
            if (finished == NULL)
                return NULL;
            Py_DECREF(finished);
            return PyObject_CallOneArg(self->channel, message);
        }
    }
    if (PyErr_Occurred())
        PyErr_Clear(); /* raised by keys' own comparisons: Python is told, too */
    if (message == NULL) {
        PyErr_SetString(PyExc_TypeError, "send() takes one argument, a message");
        return NULL;
    }
    PyObject *all[] = {self->request, self->scope, self->channel, self->raises, message};
    return PyObject_Vectorcall(self->function, all, 5, NULL);
}

static PyObject *bind(PyObject *kind, PyObject *const *args, size_t count, PyObject *keywords, vectorcallfunc call) {
    Py_ssize_t wanted = call == send ? 5 : 3;
    if (PyVectorcall_NARGS(count) != wanted || keywords != NULL)
        return PyErr_Format(PyExc_TypeError, "wanted a function and %zd arguments", wanted - 1);
    Bound *self = (Bound *) ((PyTypeObject *) kind)->tp_alloc((PyTypeObject *) kind, 0);
    if (self == NULL)
        return NULL;
    self->function = Py_NewRef(args[0]);
    self->request = Py_NewRef(args[1]);
    self->channel = Py_NewRef(args[call == send ? 3 : 2]);
    if (call == send) {
        self->scope = Py_NewRef(args[2]);
        self->raises = Py_NewRef(args[4]);
    }
    self->call = call;
    return (PyObject *) self;
}

static PyObject *new_receiver(PyObject *kind, PyObject *const *args, size_t count, PyObject *keywords) {
    return bind(kind, args, count, keywords, receive);
}

static PyObject *new_sender(PyObject *kind, PyObject *const *args, size_t count, PyObject *keywords) {
    return bind(kind, args, count, keywords, send);
}

LIFETIME(bound, 5, NULL, 0)

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Bound, call), READONLY, NULL},
    {0},
};
static PyType_Slot slots[] = {
    {Py_tp_call, PyVectorcall_Call},  {Py_tp_members, members},  {Py_tp_traverse, bound_traverse},
    {Py_tp_clear, bound_clear},       {Py_tp_dealloc, bound_dealloc},
    {0},
};

static PyTypeObject *add_bound(PyObject *module, const char *name, vectorcallfunc make) {
    PyType_Spec spec = {name, sizeof(Bound), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL, slots};
    PyTypeObject *kind = (PyTypeObject *) PyType_FromSpec(&spec);
    if (kind != NULL) {
        kind->tp_new = NULL; /* made by calls that pass no tuple, and in no other way */
        kind->tp_vectorcall = make;
        if (PyModule_AddType(module, kind) < 0)
            Py_CLEAR(kind);
    }
    return kind;
}

int add_asgi(PyObject *module) {
    struct {
        PyObject **text;
        const char *is;
    } texts[] = {{&type, "type"},           {&status, "status"},          {&more_body, "more_body"},
                 {&route, "route"},         {&template, "path_template"}, {&start, "http.response.start"},
                 {&body, "http.response.body"}};
    for (size_t each = 0; each < sizeof texts / sizeof *texts; each++)
        if ((*texts[each].text = PyUnicode_InternFromString(texts[each].is)) == NULL)
            return -1;
    ReceiverType = add_bound(module, "shmetrics._native.Receiver", new_receiver);
    SenderType = add_bound(module, "shmetrics._native.Sender", new_sender);
    return ReceiverType == NULL || SenderType == NULL ? -1 : 0;
}
