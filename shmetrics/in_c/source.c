/* `workers.http_metrics.HttpSource`, in C: where requests come from, with what each of them needs at hand. */

#include "writes.h"

PyTypeObject *SourceType;
static Name request_slowly = {"_request_slowly", NULL};

/* Of a subclass of the class that `native.in_front` made Python makes the objects, which may have more to do then. */
PyObject *source_request(Source *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyTypeObject *type = (PyTypeObject *) self->request_class;
    if (count != 2 || keywords != NULL || type == NULL || !PyType_Check(type) || type->tp_base != RequestType ||
        self->recorder == NULL || self->clock == NULL || self->enter == NULL)
        return slowly(self, &request_slowly, args, count, keywords);
    return new_request(type, self, args[0], args[1]);
}

/* Whether it is a dict, or of a class next to it that has no idea of its own of what it contains. */
static int is_plain_dict(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    return type == &PyDict_Type || (type->tp_base == &PyDict_Type && type->tp_dict != NULL &&
                                    PyDict_GetItemString(type->tp_dict, "__getitem__") == NULL);
}

/* Most requests are of the kind that the one before was. What a kind means never changes. The caller holds the source. */
PyObject *kind_of(Source *self, Request *request) {
    PyObject *kinds = self->kinds, *kind;
    if (self->kind != NULL && self->of == kinds && is_same(self->code, request->code) &&
        is_same(self->method, request->method) && is_same(self->route, request->route))
        return Py_NewRef(self->kind);
    if (!is_plain_dict(kinds))
        return NULL;
    PyObject *said[] = {Py_NewRef(kinds), Py_NewRef(request->method), Py_NewRef(request->code),
                        Py_NewRef(request->route), NULL};
    PyObject *key = PyTuple_Pack(3, said[1], said[2], said[3]);
    kind = said[4] = key == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(kinds, key));
    if (kind != NULL) {
        Py_INCREF(kind);
        PyObject **kept[] = {&self->of, &self->method, &self->code, &self->route, &self->kind};
        for (int each = 0; each < 5; each++) { /* all of them before any is let go of, which may run others' code */
            PyObject *before = *kept[each];
            *kept[each] = said[each];
            said[each] = before;
        }
    } else if (key != NULL && PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Clear(); /* what cannot be a key is the application's own idea of a status, or of a route */
    for (int each = 0; each < 5; each++)
        Py_XDECREF(said[each]);
    Py_XDECREF(key);
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
    METHOD("request", source_request, "method, path", "A request has begun. See `workers.http_metrics.HttpSource`."),
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
