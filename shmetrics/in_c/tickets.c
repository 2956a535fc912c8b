/* `board.Tickets`, in C: the requests in flight, by their tickets, and where each of them is on the board.

Whoever has a place is found by it; so a request that C began, and which knows its place, comes and goes without a
dictionary. The others, those in the crowd, are in one.
*/

#include "writes.h"

PyTypeObject *TicketsType;

int has_seat(Tickets *self, unsigned long long number, Py_ssize_t place) {
    return number != 0 && place >= 0 && place < PLACES && self->at[place] == number;
}

int seat(Tickets *self, unsigned long long number, Py_ssize_t place) {
    if (number == 0 || place < 0 || place >= PLACES || self->at[place] != 0)
        return 0;
    self->at[place] = number;
    self->seated++;
    return 1;
}

void unseat(Tickets *self, Py_ssize_t place) {
    self->at[place] = 0;
    self->seated--;
}

Py_ssize_t in_flight(Tickets *self) { return self->seated + PyDict_GET_SIZE(self->others); }

/* The number of what may be a ticket; 0 for what is none. */
static unsigned long long number_of(PyObject *ticket) {
    unsigned long long number = PyLong_CheckExact(ticket) ? PyLong_AsUnsignedLongLong(ticket) : 0;
    if (PyErr_Occurred()) {
        PyErr_Clear();
        number = 0;
    }
    return number;
}

Py_ssize_t place_of(Tickets *self, PyObject *ticket) {
    unsigned long long number = number_of(ticket);
    for (Py_ssize_t place = 0; number != 0 && place < PLACES; place++)
        if (self->at[place] == number)
            return place;
    return -1;
}

static PyObject *draw(PyObject *self, PyObject *Py_UNUSED(none)) {
    return PyLong_FromUnsignedLongLong(++((Tickets *) self)->drawn);
}

static Py_ssize_t length(PyObject *self) { return in_flight((Tickets *) self); }

static int contains(PyObject *self, PyObject *ticket) {
    return place_of((Tickets *) self, ticket) >= 0 ? 1 : PyDict_Contains(((Tickets *) self)->others, ticket);
}

static int set_place(PyObject *object, PyObject *ticket, PyObject *place) {
    Tickets *self = (Tickets *) object;
    if (place == NULL) {
        PyErr_SetString(PyExc_TypeError, "a ticket is taken out by pop()");
        return -1;
    }
    Py_ssize_t before = place_of(self, ticket);
    if (before >= 0)
        unseat(self, before);
    int is_other = PyDict_Contains(self->others, ticket);
    if (is_other == 0 && seat(self, number_of(ticket), as_index(place, PLACES)))
        return 0;
    return is_other < 0 ? -1 : PyDict_SetItem(self->others, ticket, place);
}

/* What is asked for, as a new reference: NULL without an exception where there is no such ticket. */
static PyObject *found(Tickets *self, PyObject *ticket) {
    Py_ssize_t place = place_of(self, ticket);
    return place >= 0 ? PyLong_FromSsize_t(place) : Py_XNewRef(PyDict_GetItemWithError(self->others, ticket));
}

static PyObject *get(PyObject *self, PyObject *ticket) {
    PyObject *place = found((Tickets *) self, ticket);
    return place == NULL && !PyErr_Occurred() ? Py_NewRef(Py_None) : place;
}

static PyObject *pop(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Tickets *self = (Tickets *) object;
    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "pop() takes a ticket and what to return where it is not in flight, not %zd", count);
        return NULL;
    }
    PyObject *place = found(self, args[0]);
    if (place == NULL)
        return PyErr_Occurred() ? NULL : Py_NewRef(args[1]);
    Py_ssize_t seat = place_of(self, args[0]);
    if (seat >= 0)
        unseat(self, seat);
    else if (PyDict_DelItem(self->others, args[0]) < 0)
        Py_CLEAR(place);
    return place;
}

static PyObject *clear(PyObject *object, PyObject *Py_UNUSED(none)) {
    Tickets *self = (Tickets *) object;
    memset(self->at, 0, sizeof self->at);
    self->seated = 0;
    PyDict_Clear(self->others);
    Py_RETURN_NONE;
}

static PyObject *items(PyObject *object, PyObject *Py_UNUSED(none)) {
    Tickets *self = (Tickets *) object;
    PyObject *all = PyDict_Items(self->others);
    for (Py_ssize_t place = 0; all != NULL && place < PLACES; place++) {
        PyObject *pair = self->at[place] == 0 ? NULL : Py_BuildValue("Kn", self->at[place], place);
        if (self->at[place] != 0 && (pair == NULL || PyList_Append(all, pair) < 0))
            Py_CLEAR(all);
        Py_XDECREF(pair);
    }
    return all;
}

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    if (PyTuple_GET_SIZE(args) > 0 || keywords != NULL) {
        PyErr_SetString(PyExc_TypeError, "Tickets() takes no arguments");
        return NULL;
    }
    Tickets *self = (Tickets *) type->tp_alloc(type, 0);
    if (self != NULL && (self->others = PyDict_New()) == NULL)
        Py_CLEAR(self);
    return (PyObject *) self;
}

static int traverse(PyObject *self, visitproc visit, void *arg) { return visit_held(self, 1, NULL, 0, visit, arg); }

static void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    let_go(self, 1, NULL, 0);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"draw", draw, METH_NOARGS, "A ticket that there never was."},
    {"get", get, METH_O, "As a dict's."},
    {"pop", (PyCFunction) (void (*)(void)) pop, METH_FASTCALL, "As a dict's."},
    {"clear", clear, METH_NOARGS, "As a dict's."},
    {"items", items, METH_NOARGS, "As a dict's."},
    {0},
};
static PyType_Slot slots[] = {
    {Py_tp_new, new},           {Py_tp_methods, methods}, {Py_mp_length, length},  {Py_mp_ass_subscript, set_place},
    {Py_sq_contains, contains}, {Py_tp_traverse, traverse}, {Py_tp_dealloc, dealloc}, {0},
};

int add_tickets(PyObject *module) {
    PyType_Spec spec = {"shmetrics._native.Tickets", sizeof(Tickets), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};
    TicketsType = (PyTypeObject *) PyType_FromSpec(&spec);
    return TicketsType == NULL ? -1 : PyModule_AddType(module, TicketsType);
}
