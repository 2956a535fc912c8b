/* `board`, in C: a request enters, and leaves. */

#include "writes.h"

PyTypeObject *BoardType;
static Name enter_slowly = {"_enter_slowly", NULL};
Name leave_slowly = {"_leave_slowly", NULL};

/* Whether a change at that time is not the first in its second, and finds all that it changes. */
static int is_ready(Board *self, double now) {
    return memory_of(&self->words) != NULL && BUSY < self->words.count && now < self->next_second &&
           memory_of(&self->starts) != NULL && self->open != NULL && PyDict_CheckExact(self->open) &&
           self->free != NULL && PyList_CheckExact(self->free);
}

/* The time of a change: the argument after the first, or what the clock says. 1, or 0 for neither, or -1: it raised. */
static int time_of(Board *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords, double *now) {
    if (keywords != NULL || count < 1 || count > 2)
        return 0;
    if (count == 1)
        return read_clock(self->clock, now) ? 1 : -1;
    return as_double(args[1], now);
}

static PyObject *enter(Board *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    double now;
    int told = time_of(self, args, count, keywords, &now);
    if (told < 0)
        return NULL;
    if (!told || !PyUnicode_CheckExact(args[0]) || self->texts == NULL || !PyDict_CheckExact(self->texts))
        goto slowly;
    PyObject *text = PyDict_GetItemWithError(self->texts, args[0]); /* first: it may run a label's own comparison */
    if (text == NULL && PyErr_Occurred())
        return NULL;
    if (text == NULL || !PyBytes_CheckExact(text) || !is_ready(self, now) || memory_of(&self->labels) == NULL ||
        self->shown == NULL || !PyList_CheckExact(self->shown) || self->tickets == NULL ||
        Py_TYPE(self->tickets)->tp_iternext == NULL)
        goto slowly;
    double *starts = self->starts.start, *words = self->words.start;
    char *labels = self->labels.start;
    Py_ssize_t free = PyList_GET_SIZE(self->free);
    if (free == 0)
        goto slowly;
    PyObject *spot = PyList_GET_ITEM(self->free, free - 1);
    Py_ssize_t place = as_index(spot, PyList_GET_SIZE(self->shown)), size = PyBytes_GET_SIZE(text);
    if (place < 0 || place >= self->starts.count || (place + 1) * size > self->labels.count)
        goto slowly;
    PyObject *ticket = Py_TYPE(self->tickets)->tp_iternext(self->tickets);
    if (ticket == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetNone(PyExc_StopIteration);
        return NULL;
    }
    if (PyDict_SetItem(self->open, ticket, spot) < 0 || PyList_SetSlice(self->free, free - 1, free, NULL) < 0) {
        Py_DECREF(ticket);
        return NULL;
    }
    if (PyList_GET_ITEM(self->shown, place) != text) {
        memcpy(labels + place * size, PyBytes_AS_STRING(text), size);
        PyList_SetItem(self->shown, place, Py_NewRef(text));
    }
    store(&starts[place], now);
    if (self->busy >= 0.0) {
        self->busy -= now;
        store(&words[BUSY], self->busy);
    }
    return ticket;
slowly:
    return slowly(self, &enter_slowly, args, count, keywords);
}

int leave(Board *self, PyObject *ticket, double now) {
    double *starts = self->starts.start, *words = self->words.start;
    if (!PyLong_CheckExact(ticket) || !is_ready(self, now) || self->crowd == NULL || !PyDict_Check(self->crowd) ||
        PyDict_GET_SIZE(self->crowd) != 0)
        return 0;
    PyObject *spot = PyDict_GetItemWithError(self->open, ticket);
    Py_ssize_t place = as_index(spot, self->starts.count);
    if (place < 0)
        return 0;
    Py_INCREF(spot);
    if (PyDict_DelItem(self->open, ticket) < 0 || PyList_Append(self->free, spot) < 0)
        PyErr_Clear(); /* no memory: the place comes back when the board is idle, and tidies itself up */
    Py_DECREF(spot);
    store(&starts[place], 0.0);
    if (PyDict_GET_SIZE(self->open) == 0 && self->busy < 0.0) {
        self->busy += now;
        store(&words[BUSY], self->busy);
    }
    return 1;
}

static PyObject *board_leave(Board *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    double now;
    int told = time_of(self, args, count, keywords, &now);
    if (told < 0)
        return NULL;
    if (told && leave(self, args[0], now))
        Py_RETURN_NONE;
    return slowly(self, &leave_slowly, args, count, keywords);
}

VIEW(starts, Board, starts, 'd')
VIEW(labels, Board, labels, 'B')
VIEW(words, Board, words, 'd')
LIFETIME(board, 7, &((Board *) self)->starts, 3)

static PyMethodDef methods[] = {
    METHOD("enter", enter, "label='', now=None", "Show a request on the board; returns its ticket. See `board.Board`."),
    METHOD("leave", board_leave, "ticket, now=None", "Take a request off the board. See `board.Board`."),
    {0},
};
static PyMemberDef members[] = {
    OBJECT("_open", Board, open),
    OBJECT("_free", Board, free),
    OBJECT("_shown", Board, shown),
    OBJECT("_texts", Board, texts),
    OBJECT("_crowd", Board, crowd),
    OBJECT("_tickets", Board, tickets),
    OBJECT("_clock", Board, clock),
    {"_busy", T_DOUBLE, offsetof(Board, busy), 0, NULL},
    {"_next_second", T_DOUBLE, offsetof(Board, next_second), 0, NULL},
    {0},
};
static PyGetSetDef views[] = {
    {"_starts", starts_get, starts_set, NULL, "_starts"},
    {"_labels", labels_get, labels_set, NULL, "_labels"},
    {"_words", words_get, words_set, NULL, "_words"},
    {0},
};
static PyType_Slot slots[] = {
    {Py_tp_methods, methods},           {Py_tp_members, members},   {Py_tp_getset, views},
    {Py_tp_traverse, board_traverse},   {Py_tp_clear, board_clear}, {Py_tp_dealloc, board_dealloc},
    {0},
};

int add_board(PyObject *module) {
    BoardType = add_type(module, "shmetrics._native.Board", sizeof(Board), NULL, slots);
    return BoardType == NULL ? -1 : 0;
}
