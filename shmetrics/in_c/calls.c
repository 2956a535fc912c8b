/* `profiling.functions.Function`, in C: a call of a profiled function begins, and is over.

Its calls are objects of Python's with slots; a slot is a reference at an offset, which its descriptor tells.
*/

#include "writes.h"

typedef struct {
    PyObject_HEAD
    PyObject *histogram, *called, *parts;
    double quick;
} Function;

static PyTypeObject *CallType, *NestedType;
static Py_ssize_t FUNCTION, OUTER, SPENT, FIRST, UP, MOST_SPENT;
static PyObject *innermost; /* the context variable that holds the innermost call or stage */
static Name begin_slowly = {"_begin_slowly", NULL}, over_slowly = {"_over_slowly", NULL};

static inline PyObject **slot(PyObject *call, Py_ssize_t offset) { return (PyObject **) ((char *) call + offset); }

static inline int is_call(PyObject *object) { return Py_TYPE(object) == CallType || Py_TYPE(object) == NestedType; }

/* As `calls.begin`, where the call is in none, or in one that is in none. */
static PyObject *begin(Function *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *outer = NULL;
    if (count || keywords != NULL || innermost == NULL || PyContextVar_Get(innermost, NULL, &outer) < 0 || outer == NULL)
        goto slowly;
    while (outer != Py_None && is_call(outer) && *slot(outer, FUNCTION) == Py_None && *slot(outer, OUTER) != NULL)
        Py_SETREF(outer, Py_NewRef(*slot(outer, OUTER)));
    PyTypeObject *type = outer == Py_None ? CallType : Py_TYPE(outer) == CallType ? NestedType : NULL;
    if (type == NULL || (type == NestedType && *slot(outer, FUNCTION) == NULL))
        goto slowly;
    PyObject *call = type->tp_alloc(type, 0);
    if (call != NULL) {
        *slot(call, FUNCTION) = Py_NewRef((PyObject *) self);
        *slot(call, OUTER) = Py_NewRef(outer);
        *slot(call, SPENT) = Py_NewRef(Py_None);
        if (type == NestedType) {
            *slot(call, UP) = Py_NewRef(outer);
            *slot(call, FIRST) = Py_NewRef(*slot(outer, FUNCTION) == (PyObject *) self ? outer : Py_None);
        }
    }
    Py_DECREF(outer);
    return call;
slowly:
    Py_XDECREF(outer);
    return slowly(self, &begin_slowly, args, count, keywords);
}

/* The only part of a call that has one, and its seconds; 1 if there is none, 0 if there are more. */
static int only_part(Function *self, PyObject *spent, Instrument **part, double *took) {
    *part = NULL;
    if (spent == Py_None)
        return 1;
    if (spent == NULL || !PyList_CheckExact(spent) || PyList_GET_SIZE(spent) != 1)
        return 0;
    PyObject *pair = PyList_GET_ITEM(spent, 0);
    if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyFloat_CheckExact(PyTuple_GET_ITEM(pair, 1)))
        return 0;
    PyObject *found = PyDict_GetItemWithError(self->parts, PyTuple_GET_ITEM(pair, 0));
    *took = PyFloat_AS_DOUBLE(PyTuple_GET_ITEM(pair, 1));
    *part = (Instrument *) found;
    return found != NULL && is_of(found, InstrumentType) && *took > 0.0;
}

/* As `Function.over`, of a call that is neither slow nor failed, has one part at most, and is in none that is deeper. */
static PyObject *over(Function *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *spent = NULL; /* of the call around it, from now on: what this one took, in front of nothing */
    double counted, took = 0.0, *cells, *others = NULL;
    if (count != 2 || keywords != NULL || CallType == NULL || !is_call(args[0]) || !PyFloat_CheckExact(args[1]) ||
        self->histogram == NULL || !is_of(self->histogram, InstrumentType) || self->called == NULL ||
        self->parts == NULL)
        goto slowly;
    PyObject *call = args[0], *outer = *slot(call, OUTER);
    double seconds = counted = PyFloat_AS_DOUBLE(args[1]);
    if (outer != Py_None) { /* made first: a collection may come with it */
        if (outer == NULL || Py_TYPE(outer) != CallType || (spent = PyList_New(1)) == NULL)
            goto slowly;
        PyObject *pair = PyTuple_Pack(2, self->called, args[1]);
        if (pair == NULL)
            goto slowly;
        PyList_SET_ITEM(spent, 0, pair);
    }
    Instrument *histogram = (Instrument *) self->histogram, *part;
    Writer *writer = free_writer(histogram);
    Py_ssize_t bucket = bucket_cell(histogram, seconds);
    if (*slot(call, FUNCTION) != (PyObject *) self || !(seconds >= 0.0 && seconds <= self->quick) || writer == NULL ||
        !bucket || (cells = own_cells(histogram, writer, bucket + 1)) == NULL ||
        !only_part(self, *slot(call, SPENT), &part, &took) ||
        (part != NULL && (others = own_cells(part, writer, 2)) == NULL))
        goto slowly;
    if (spent != NULL) {
        PyObject *around = *slot(outer, FUNCTION), **its = slot(outer, SPENT);
        if (around == (PyObject *) self)
            counted = 0.0;
        else if (around == NULL || *its == NULL)
            goto slowly;
        else if (around == Py_None)
            ;
        else if (*its == Py_None)
            Py_SETREF(*its, Py_NewRef(spent));
        else if (!PyList_CheckExact(*its) || PyList_GET_SIZE(*its) >= MOST_SPENT ||
                 PyList_Append(*its, PyList_GET_ITEM(spent, 0)) < 0)
            goto slowly;
    }
    Py_SETREF(*slot(call, FUNCTION), Py_NewRef(Py_None));
    if (others != NULL)
        store(&others[1], others[1] + took);
    add_two(cells, counted, bucket, 1.0);
    Py_XDECREF(spent);
    return end_write(writer);
slowly:
    PyErr_Clear();
    Py_XDECREF(spent);
    return slowly(self, &over_slowly, args, count, keywords);
}

/* The offset of a slot of a class; -1 with an exception for what is none. */
static Py_ssize_t offset_in(PyObject *type, const char *name) {
    PyObject *found = PyObject_GetAttrString(type, name);
    if (found == NULL)
        return -1;
    Py_ssize_t offset = -1;
    if (Py_TYPE(found) == &PyMemberDescr_Type && ((PyMemberDescrObject *) found)->d_member->type == T_OBJECT_EX)
        offset = ((PyMemberDescrObject *) found)->d_member->offset;
    else
        PyErr_Format(PyExc_TypeError, "%R has no slot %s", type, name);
    Py_DECREF(found);
    return offset;
}

PyObject *use_calls(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords) {
    static char *names[] = {"variable", "call", "nested", "most_spent", NULL};
    PyObject *variable, *call, *nested;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OO!O!n", names, &variable, &PyType_Type, &call, &PyType_Type,
                                     &nested, &MOST_SPENT) ||
        (FUNCTION = offset_in(call, "function")) < 0 || (OUTER = offset_in(call, "outer")) < 0 ||
        (SPENT = offset_in(call, "spent")) < 0 || (FIRST = offset_in(nested, "first")) < 0 ||
        (UP = offset_in(nested, "up")) < 0)
        return NULL;
    Py_XSETREF(innermost, Py_NewRef(variable));
    Py_XSETREF(CallType, (PyTypeObject *) Py_NewRef(call));
    Py_XSETREF(NestedType, (PyTypeObject *) Py_NewRef(nested));
    Py_RETURN_NONE;
}

LIFETIME(function, 3, NULL, 0)

static PyMethodDef methods[] = {
    METHOD("begin", begin, "", "A call begins; the caller makes it the innermost of the context."),
    METHOD("over", over, "call, seconds, error=None", "A call is over that was one step."),
    {0},
};
static PyMemberDef members[] = {
    OBJECT("_histogram", Function, histogram),
    OBJECT("called", Function, called),
    OBJECT("_parts", Function, parts),
    {"quick", T_DOUBLE, offsetof(Function, quick), 0, NULL},
    {0},
};
static PyType_Slot slots[] = {
    {Py_tp_methods, methods},            {Py_tp_members, members},      {Py_tp_traverse, function_traverse},
    {Py_tp_clear, function_clear},       {Py_tp_dealloc, function_dealloc}, {0},
};

int add_calls(PyObject *module) {
    return add_type(module, "shmetrics._native.Function", sizeof(Function), NULL, slots) == NULL ? -1 : 0;
}
