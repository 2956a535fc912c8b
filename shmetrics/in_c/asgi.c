/* What `workers.asgi` hands an application to send by, in C: a function with its first four arguments, as
functools.partial has it, and quicker. An ordinary message of an ordinary request is looked at here, as the function would
do it, before it goes to the server; any other is left to the function.
*/

#include "writes.h"

typedef struct {
    PyObject_HEAD
    PyObject *function, *request, *scope, *channel, *raises;
    vectorcallfunc call;
} Sender;

static PyTypeObject *SenderType;
static PyObject *type, *status, *more_body, *route, *template, *start, *body; /* texts */

static int is_empty(PyObject *text) {
    return text != NULL && PyUnicode_CheckExact(text) && PyUnicode_GET_LENGTH(text) == 0;
}

/* The one that it is mostly: these are constants of whoever sends. */
static int is_text(PyObject *text, PyObject *other) {
    return text == other || (PyUnicode_CheckExact(text) && PyUnicode_Compare(text, other) == 0);
}

/* Whether a response begins in an ordinary way, which the request knows then: 0 where that is left to Python, or raised. */
static int begins(Sender *self, Request *request, PyObject *message) {
    PyObject *code = PyDict_GetItemWithError(message, status);
    if (code == NULL || !PyDict_CheckExact(self->scope))
        return 0;
    Py_INCREF(code);
    int is_plain = PyDict_Contains(self->scope, route) == 0 && PyDict_Contains(self->scope, template) == 0 &&
                   is_empty(request->code) && is_empty(request->route);
    if (is_plain)
        Py_XSETREF(request->code, Py_NewRef(code));
    Py_DECREF(code);
    return is_plain;
}

/* Whether it ends in an ordinary way. */
static int ends(Request *request, PyObject *message) {
    PyObject *more = PyDict_GetItemWithError(message, more_body);
    return (more == NULL || more == Py_False) && !PyErr_Occurred() &&
           (request->first_byte == NULL || request->first_byte == Py_None);
}

/* 1: the message can go to the server; 0: that is left to Python; -1: it raised. */
static int look_at(Sender *self, PyObject *message) {
    Request *request = (Request *) self->request;
    if (!PyDict_CheckExact(message) || self->raises != Py_False || Py_TYPE(request)->tp_base != RequestType ||
        request->said != NULL) /* it may have a `finish` of its own */
        return 0;
    PyObject *kind = PyDict_GetItemWithError(message, type);
    int is_plain = 0;
    if (kind != NULL && is_text(kind, start))
        is_plain = begins(self, request, message);
    else if (kind != NULL && is_text(kind, body) && ends(request, message)) {
        PyObject *finished = finish(request, NULL, 0, NULL);
        is_plain = finished != NULL;
        Py_XDECREF(finished);
    }
    return PyErr_Occurred() ? -1 : is_plain;
}

static PyObject *send(PyObject *object, PyObject *const *args, size_t count, PyObject *keywords) {
    Sender *self = (Sender *) object;
    if (PyVectorcall_NARGS(count) != 1 || keywords != NULL) {
        PyErr_SetString(PyExc_TypeError, "send() takes one argument, a message");
        return NULL;
    }
    PyObject *message = args[0], *all[] = {self->request, self->scope, self->channel, self->raises, message};
    int is_plain = look_at(self, message);
    if (is_plain < 0 || Py_EnterRecursiveCall(" while a message is sent"))
        return NULL;
    PyObject *sent = is_plain ? PyObject_CallOneArg(self->channel, message)
                              : PyObject_Vectorcall(self->function, all, 5, NULL);
    Py_LeaveRecursiveCall();
    return sent;
}

static PyObject *new_sender(PyObject *kind, PyObject *const *args, size_t count, PyObject *keywords) {
    if (PyVectorcall_NARGS(count) != 5 || keywords != NULL) {
        PyErr_SetString(PyExc_TypeError, "wanted a function and 4 arguments");
        return NULL;
    }
    Sender *self = (Sender *) ((PyTypeObject *) kind)->tp_alloc((PyTypeObject *) kind, 0);
    if (self == NULL)
        return NULL;
    PyObject **held = &self->function;
    for (int each = 0; each < 5; each++)
        held[each] = Py_NewRef(args[each]);
    self->call = send;
    return (PyObject *) self;
}

LIFETIME(sender, 5, NULL, 0)

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Sender, call), READONLY, NULL},
    {0},
};
static PyType_Slot slots[] = {
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_members, members},         {Py_tp_traverse, sender_traverse},
    {Py_tp_clear, sender_clear},     {Py_tp_dealloc, sender_dealloc},  {0},
};

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
    PyType_Spec spec = {"shmetrics._native.Sender", sizeof(Sender), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL, slots};
    SenderType = (PyTypeObject *) PyType_FromSpec(&spec);
    if (SenderType == NULL)
        return -1;
    SenderType->tp_new = NULL; /* made by a call that passes no tuple, and in no other way */
    SenderType->tp_vectorcall = new_sender;
    return PyModule_AddType(module, SenderType);
}
