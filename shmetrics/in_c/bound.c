/* Two kinds of callables that look at a call before a function of Python's, and leave to it what is not ordinary.

An Ahead is called for each request, with the arguments of its function. It knows facts, which a middleware tells it
(`native.ahead`).

A Bound is what an application is given in place of what its server gave: a function with its first arguments, as
functools.partial has it. An ordinary call goes to the server from here.
*/

#include "writes.h"

static PyTypeObject *AheadType, *BoundType;
static Spares spares;
enum { FIRST = 4, MOST = 8 }; /* arguments that are bound, and that a call may add: PEP 3333 and ASGI know up to three */

PyObject *ahead(vectorcallfunc call, PyObject *(*whole)(Ahead *, PyObject *, PyObject *const *), Py_ssize_t takes,
                PyObject *facts) {
    PyObject *function, *owner, *source;
    int skips;
    if (!PyArg_ParseTuple(facts, "OOOp:ahead", &function, &owner, &source, &skips))
        return NULL;
    Ahead *self = (Ahead *) AheadType->tp_alloc(AheadType, 0);
    if (self == NULL)
        return NULL;
    self->function = Py_NewRef(function);
    self->source = Py_NewRef(source);
    self->owner = is_middleware(owner) ? owner : NULL;
    self->skips = skips;
    self->call = call;
    self->whole = whole;
    self->takes = takes;
    return (PyObject *) self;
}

int is_ahead(PyObject *object) { return Py_IS_TYPE(object, AheadType); }

/* What a middleware has found out by its first request: the attribute, once it is one of these two objects. */
PyObject *fact(Ahead *self, PyObject *middleware, PyObject *name, PyObject *one, PyObject *other) {
    if (self->fact != NULL)
        return self->fact;
    PyObject *found = PyObject_GetAttr(middleware, name);
    if (found == NULL)
        return NULL;
    if (found == one || found == other)
        self->fact = Py_NewRef(found);
    Py_DECREF(found);
    return self->fact;
}

PyObject *bound(vectorcallfunc call, PyObject *function, PyObject *request, PyObject *channel, PyObject *scope,
                PyObject *raises) {
    Bound *self = (Bound *) make(BoundType, &spares);
    if (self == NULL)
        return NULL;
    self->function = Py_XNewRef(function);
    self->request = Py_NewRef(request);
    self->channel = Py_NewRef(channel);
    self->scope = Py_XNewRef(scope);
    self->raises = Py_XNewRef(raises);
    self->call = call;
    return (PyObject *) self;
}

PyObject *call_within(PyObject *function, PyObject *const *args, size_t count, PyObject *keywords) {
    PyObject *inner = PyMethod_Check(function) ? PyMethod_GET_FUNCTION(function) : function;
    if (PyFunction_Check(inner)) /* of Python's, which counts its calls itself */
        return PyObject_Vectorcall(function, args, count, keywords);
    if (Py_EnterRecursiveCall(" between a server and its application"))
        return NULL;
    PyObject *result = PyObject_Vectorcall(function, args, count, keywords);
    Py_LeaveRecursiveCall();
    return result;
}

PyObject *call_bound(Bound *self, PyObject *const *args, size_t count, PyObject *keywords) {
    PyObject *const *first = &self->request, *all[FIRST + MOST];
    Py_ssize_t at = 0, given = PyVectorcall_NARGS(count), said = keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords);
    if (given + said > MOST) {
        PyErr_Format(PyExc_TypeError, "takes fewer arguments than %zd", given + said);
        return NULL;
    }
    for (; at < FIRST && first[at] != NULL; at++)
        all[at] = first[at];
    for (Py_ssize_t each = 0; each < given + said; each++)
        all[at + each] = args[each];
    return call_within(self->function, all, (size_t) (at + given), keywords);
}

LIFETIME(ahead, 3, NULL, 0)
HOLDING(bound, 5, NULL, 0)

static void bound_end(PyObject *self) {
    if (((Bound *) self)->weak != NULL)
        PyObject_ClearWeakRefs(self);
    let_go(self, 5, NULL, 0);
    give_back(self, &spares);
}

/* One may be what another was made of, and so on: they are let go of one after the other, and not within each other. */
static void bound_dealloc(PyObject *self) {
    PyObject *channel = ((Bound *) self)->channel;
    PyObject_GC_UnTrack(self);
    if (channel == NULL || Py_REFCNT(channel) > 1) { /* it does not go with this one */
        bound_end(self);
        return;
    }
    Py_TRASHCAN_BEGIN(self, bound_dealloc)
    bound_end(self);
    Py_TRASHCAN_END
}

static PyMemberDef ahead_members[] = {{"__vectorcalloffset__", T_PYSSIZET, offsetof(Ahead, call), READONLY, NULL}, {0}};
static PyMemberDef bound_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Bound, call), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Bound, weak), READONLY, NULL},
    {0},
};
static PyType_Slot ahead_slots[] = {
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_members, ahead_members}, {Py_tp_traverse, ahead_traverse},
    {Py_tp_clear, ahead_clear},      {Py_tp_dealloc, ahead_dealloc}, {0},
};
static PyType_Slot bound_slots[] = {
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_members, bound_members}, {Py_tp_traverse, bound_traverse},
    {Py_tp_clear, bound_clear},     {Py_tp_dealloc, bound_dealloc}, {0},
};

static PyTypeObject *add_callable(PyObject *module, const char *name, size_t size, PyType_Slot *slots) {
    PyType_Spec spec = {name, (int) size, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL, slots};
    PyTypeObject *type = (PyTypeObject *) PyType_FromSpec(&spec);
    if (type != NULL) {
        type->tp_new = NULL; /* they are made here, and nowhere else */
        if (PyModule_AddType(module, type) < 0)
            Py_CLEAR(type);
    }
    return type;
}

int add_bound(PyObject *module) {
    AheadType = add_callable(module, "shmetrics._native.Ahead", sizeof(Ahead), ahead_slots);
    BoundType = add_callable(module, "shmetrics._native.Bound", sizeof(Bound), bound_slots);
    return AheadType == NULL || BoundType == NULL ? -1 : 0;
}
