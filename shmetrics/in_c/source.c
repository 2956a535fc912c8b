/* `workers.http_metrics.HttpSource`, in C: where requests come from, with what each of them needs at hand. */

#include "writes.h"

PyTypeObject *SourceType;
static Name request_slowly = {"_request_slowly", NULL};

static PyObject *request(Source *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyTypeObject *type = (PyTypeObject *) self->request_class;
    if (count != 2 || keywords != NULL || type == NULL || !PyType_Check(type) || !PyType_IsSubtype(type, RequestType))
        return slowly(self, &request_slowly, args, count, keywords);
    return new_request(type, self, args[0], args[1]);
}

static int is_same(PyObject *text, PyObject *other) {
    return text == other || (PyUnicode_CheckExact(text) && PyUnicode_CheckExact(other) &&
                             PyUnicode_GET_LENGTH(text) == PyUnicode_GET_LENGTH(other) &&
                             PyUnicode_Compare(text, other) == 0);
}

/* Most requests are of the kind that the one before was. A status is the same object then, as small numbers are. */
PyObject *kind_of(Source *self, Request *request) {
    if (self->kind != NULL && self->of == self->kinds && self->code == request->code &&
        is_same(self->method, request->method) && is_same(self->route, request->route))
        return Py_NewRef(self->kind);
    PyObject *key = PyTuple_Pack(3, request->method, request->code, request->route), *kinds = self->kinds;
    if (key == NULL)
        return NULL;
    Py_INCREF(kinds);
    PyObject *kind = PyDict_Check(kinds) ? PyDict_GetItemWithError(kinds, key) : NULL;
    if (kind != NULL) {
        Py_INCREF(kind);
        PyObject *last[] = {kinds, PyTuple_GET_ITEM(key, 0), PyTuple_GET_ITEM(key, 1), PyTuple_GET_ITEM(key, 2), kind};
        PyObject **kept[] = {&self->of, &self->method, &self->code, &self->route, &self->kind};
        for (int each = 0; each < 5; each++)
            Py_XSETREF(*kept[each], Py_NewRef(last[each]));
    } else if (PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Clear(); /* what cannot be a key is the application's own idea of a status, or of a route */
    Py_DECREF(kinds);
    Py_DECREF(key);
    return kind;
}

#define METHOD_OF(NAME, FIELD, OWNER, TYPE, FUNCTION)                                                                  \
    static PyObject *NAME##_get(Source *self, void *Py_UNUSED(name)) {                                                 \
        if (self->FIELD == NULL)                                                                                       \
            PyErr_SetString(PyExc_AttributeError, #NAME);                                                              \
        return Py_XNewRef(self->FIELD);                                                                                \
    }                                                                                                                  \
    static int NAME##_set(Source *self, PyObject *method, void *Py_UNUSED(name)) {                                     \
        Py_XSETREF(self->OWNER, Py_XNewRef(bound_to(method, TYPE, (const void *) FUNCTION)));                          \
        Py_XSETREF(self->FIELD, Py_XNewRef(method));                                                                   \
        return 0;                                                                                                      \
    }

METHOD_OF(enter, enter, board, BoardType, board_enter)
METHOD_OF(complete, complete, writer, WriterType, writer_complete)
LIFETIME(source, 13, NULL, 0)

static PyMethodDef methods[] = {
    METHOD("request", request, "method, path", "A request has begun. See `workers.http_metrics.HttpSource`."),
    {0},
};
static PyMemberDef members[] = {
    OBJECT("recorder", Source, recorder),
    OBJECT("clock", Source, clock),
    OBJECT("kinds", Source, kinds),
    OBJECT("request_class", Source, request_class),
    {0},
};
static PyGetSetDef attributes[] = {
    {"enter", (getter) enter_get, (setter) enter_set, NULL, NULL},
    {"complete", (getter) complete_get, (setter) complete_set, NULL, NULL},
    {0},
};
static PyType_Slot slots[] = {
    {Py_tp_methods, methods},           {Py_tp_members, members},    {Py_tp_getset, attributes},
    {Py_tp_traverse, source_traverse},  {Py_tp_clear, source_clear}, {Py_tp_dealloc, source_dealloc},
    {0},
};

int add_source(PyObject *module) {
    SourceType = add_type(module, "shmetrics._native.HttpSource", sizeof(Source), NULL, slots);
    return SourceType == NULL ? -1 : 0;
}
