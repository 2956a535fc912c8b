/* What both middlewares are next to: an object that a server calls without a tuple of arguments being made for it.

A call with as many arguments as it takes, and no keywords, is C's while what the object has ahead of its function is an
Ahead; any other is Python's. A class keeps the `__call__` that it has in Python: by that servers know what an ASGI 3
application is; and what has another, a subclass or the class itself after it was changed, is called by that.
*/

#include "writes.h"

static PyTypeObject *MiddlewareType;
static PyObject *call_name; /* "__call__" */

int is_middleware(PyObject *object) { return is_of(object, MiddlewareType); }

PyObject *app_of(PyObject *middleware) {
    PyObject *app = ((Middleware *) middleware)->app;
    if (app == NULL)
        PyErr_SetString(PyExc_AttributeError, "_app");
    return Py_XNewRef(app);
}

/* By Python's `__call__`, of a class that keeps it. */
static PyObject *call_python(PyObject *object, PyObject *args, PyObject *keywords) {
    PyObject *function = PyObject_GetAttr((PyObject *) Py_TYPE(object), call_name);
    PyObject *method = function == NULL ? NULL : PyMethod_New(function, object);
    PyObject *result = method == NULL ? NULL : PyObject_Call(method, args, keywords);
    Py_XDECREF(function);
    Py_XDECREF(method);
    return result;
}

/* NULL without an exception where this call is not C's. */
static PyObject *call_whole(Middleware *self, PyObject *const *args, Py_ssize_t count, int has_keywords) {
    Ahead *ahead = (Ahead *) self->ahead;
    if (self->call == NULL || has_keywords || count != ahead->takes)
        return NULL;
    Py_INCREF(ahead); /* a collection may run others' code */
    PyObject *result = ahead->whole(ahead, (PyObject *) self, args);
    Py_DECREF(ahead);
    return result;
}

static PyObject *call_by_tuple(PyObject *object, PyObject *args, PyObject *keywords) {
    int has_keywords = keywords != NULL && PyDict_GET_SIZE(keywords) > 0;
    PyObject *result =
        call_whole((Middleware *) object, &PyTuple_GET_ITEM(args, 0), PyTuple_GET_SIZE(args), has_keywords);
    return result == NULL && !PyErr_Occurred() ? call_python(object, args, keywords) : result;
}

/* As CPython calls what has no vectorcall. */
static PyObject *call_by_type(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    if (Py_TYPE(object)->tp_call == NULL) { /* somebody took it from the class */
        PyErr_Format(PyExc_TypeError, "'%.200s' object is not callable", Py_TYPE(object)->tp_name);
        return NULL;
    }
    PyObject *tuple = PyTuple_New(count), *keywords = names == NULL ? NULL : PyDict_New(), *result = NULL;
    int is_made = tuple != NULL && (names == NULL || keywords != NULL);
    for (Py_ssize_t each = 0; is_made && each < count; each++)
        PyTuple_SET_ITEM(tuple, each, Py_NewRef(args[each]));
    for (Py_ssize_t each = 0; is_made && names != NULL && each < PyTuple_GET_SIZE(names); each++)
        is_made = PyDict_SetItem(keywords, PyTuple_GET_ITEM(names, each), args[count + each]) == 0;
    if (is_made && Py_EnterRecursiveCall(" while calling a Python object") == 0) {
        result = Py_TYPE(object)->tp_call(object, tuple, keywords);
        Py_LeaveRecursiveCall();
    }
    Py_XDECREF(tuple);
    Py_XDECREF(keywords);
    return result;
}

static PyObject *call(PyObject *object, PyObject *const *args, size_t count, PyObject *names) {
    PyObject *result = NULL;
    if (Py_TYPE(object)->tp_call == call_by_tuple)
        result = call_whole((Middleware *) object, args, PyVectorcall_NARGS(count), names != NULL);
    return result == NULL && !PyErr_Occurred() ? call_by_type(object, args, PyVectorcall_NARGS(count), names) : result;
}

static PyObject *ahead_get(Middleware *self, void *Py_UNUSED(name)) {
    if (self->ahead == NULL)
        PyErr_SetString(PyExc_AttributeError, "_ahead");
    return Py_XNewRef(self->ahead);
}

static int ahead_set(Middleware *self, PyObject *value, void *Py_UNUSED(name)) {
    if (value == NULL && self->ahead == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_ahead");
        return -1;
    }
    self->call = value != NULL && is_ahead(value) && ((Ahead *) value)->whole != NULL ? call : NULL;
    Py_XSETREF(self->ahead, Py_XNewRef(value));
    return 0;
}

/* Have objects of this very class called by C. */
PyObject *call_directly(PyObject *Py_UNUSED(module), PyObject *object) {
    PyTypeObject *type = (PyTypeObject *) object;
    if (!PyType_Check(object) || !PyType_IsSubtype(type, MiddlewareType) || type == MiddlewareType ||
        PyDict_Contains(type->tp_dict, call_name) <= 0) {
        PyErr_Format(PyExc_TypeError, "wanted a class of middlewares with a call, not %R", object);
        return NULL;
    }
    type->tp_call = call_by_tuple;
    type->tp_vectorcall_offset = offsetof(Middleware, call);
    type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
    PyType_Modified(type);
    Py_RETURN_NONE;
}

HOLDING(middleware, 2, NULL, 0)

static int middleware_tp_clear(PyObject *self) {
    ((Middleware *) self)->call = NULL;
    return middleware_clear(self);
}

static void middleware_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    middleware_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {OBJECT("_app", Middleware, app), {0}};
static PyGetSetDef attributes[] = {{"_ahead", (getter) ahead_get, (setter) ahead_set, NULL, NULL}, {0}};
static PyType_Slot slots[] = {
    {Py_tp_members, members},           {Py_tp_getset, attributes},       {Py_tp_traverse, middleware_traverse},
    {Py_tp_clear, middleware_tp_clear}, {Py_tp_dealloc, middleware_dealloc}, {0},
};

int add_middleware(PyObject *module) {
    call_name = PyUnicode_InternFromString("__call__");
    MiddlewareType = add_type(module, "shmetrics._native.Middleware", sizeof(Middleware), NULL, slots);
    return call_name == NULL || MiddlewareType == NULL ? -1 : 0;
}
