/* `board`, in C: a request enters, and leaves. */

#include "writes.h"

PyTypeObject *BoardType;
static PyTypeObject *CountType; /* itertools.count, of which tickets are drawn */
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

/* A free place, whose label is of so many bytes, where a request can enter now; -1 where that is left to Python. */
static Py_ssize_t free_place(Board *self, double now, Py_ssize_t size) {
    if (!is_ready(self, now) || memory_of(&self->labels) == NULL || self->shown == NULL ||
        !PyList_CheckExact(self->shown) || self->tickets == NULL || !Py_IS_TYPE(self->tickets, CountType))
        return -1;
    Py_ssize_t free = PyList_GET_SIZE(self->free);
    Py_ssize_t place = free ? as_index(PyList_GET_ITEM(self->free, free - 1), PyList_GET_SIZE(self->shown)) : -1;
    return place < self->starts.count && (place + 1) * size <= self->labels.count ? place : -1;
}

/* A ticket, and the place that is free when it is drawn: counting may run others' code, whose numbers may be counted.
NULL without an exception where that is left to Python. */
static PyObject *draw_ticket(Board *self, double now, Py_ssize_t size, Py_ssize_t *place) {
    if (free_place(self, now, size) < 0)
        return NULL;
    PyObject *ticket = CountType->tp_iternext(self->tickets);
    if (ticket != NULL && (!PyLong_CheckExact(ticket) || (*place = free_place(self, now, size)) < 0))
        Py_CLEAR(ticket);
    return ticket;
}

/* Show the request of this ticket at this place, where its label stands already, which `shown` is kept of. In Python's
order: what others see comes before anything by which other code may come in. */
static PyObject *take_place(Board *self, PyObject *ticket, Py_ssize_t place, PyObject *shown, double now) {
    PyObject *before = PyList_GET_ITEM(self->shown, place), *open = Py_NewRef(self->open);
    Py_ssize_t last = PyList_GET_SIZE(self->free) - 1;
    PyObject *spot = PyList_GET_ITEM(self->free, last);
    Py_SET_SIZE(self->free, last); /* as list.pop does it, but for giving memory back */
    PyList_SET_ITEM(self->shown, place, Py_NewRef(shown));
    store((double *) self->starts.start + place, now);
    if (PyDict_SetItem(open, ticket, spot) < 0)
        Py_CLEAR(ticket);
    else if (self->busy >= 0.0 && memory_of(&self->words) != NULL && BUSY < self->words.count) {
        self->busy -= now;
        store((double *) self->words.start + BUSY, self->busy);
    }
    Py_DECREF(spot);
    Py_DECREF(open);
    Py_XDECREF(before);
    return ticket;
}

PyObject *board_enter(Board *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    double now;
    Py_ssize_t place;
    int told = time_of(self, args, count, keywords, &now);
    if (told < 0)
        return NULL;
    if (!told || !PyUnicode_CheckExact(args[0]) || self->texts == NULL || !PyDict_CheckExact(self->texts))
        goto slowly;
    PyObject *text = PyDict_GetItemWithError(self->texts, args[0]); /* first: it may run a label's own comparison */
    if (text == NULL && PyErr_Occurred())
        return NULL;
    if (text == NULL || !PyBytes_CheckExact(text))
        goto slowly;
    Py_INCREF(text);
    Py_ssize_t size = PyBytes_GET_SIZE(text);
    PyObject *ticket = draw_ticket(self, now, size, &place);
    if (ticket != NULL) {
        if (PyList_GET_ITEM(self->shown, place) != text)
            memcpy((char *) self->labels.start + place * size, PyBytes_AS_STRING(text), size);
        ticket = take_place(self, ticket, place, text, now);
    }
    Py_DECREF(text);
    if (ticket != NULL || PyErr_Occurred())
        return ticket;
slowly:
    return slowly(self, &enter_slowly, args, count, keywords);
}

/* The label is put together where it is shown, and not remembered: of paths there is no end. */
PyObject *enter_request(Board *self, PyObject *method, PyObject *path, double now) {
    Py_ssize_t place;
    if (!is_ascii(method) || !is_ascii(path) || PyUnicode_GET_LENGTH(method) >= LABEL_BYTES)
        return NULL;
    PyObject *ticket = draw_ticket(self, now, LABEL_BYTES, &place);
    if (ticket == NULL)
        return NULL;
    char *label = (char *) self->labels.start + place * LABEL_BYTES;
    Py_ssize_t first = PyUnicode_GET_LENGTH(method), rest = LABEL_BYTES - first - 1,
               second = PyUnicode_GET_LENGTH(path) < rest ? PyUnicode_GET_LENGTH(path) : rest;
    memcpy(label, PyUnicode_DATA(method), first);
    label[first] = ' ';
    memcpy(label + first + 1, PyUnicode_DATA(path), second);
    memset(label + first + 1 + second, 0, rest - second);
    return take_place(self, ticket, place, Py_None, now);
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
    METHOD("enter", board_enter, "label='', now=None", "Show a request on the board; returns its ticket. See `board.Board`."),
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
    PyObject *itertools = PyImport_ImportModule("itertools");
    CountType = itertools == NULL ? NULL : (PyTypeObject *) PyObject_GetAttrString(itertools, "count");
    Py_XDECREF(itertools);
    if (CountType == NULL)
        return -1;
    BoardType = add_type(module, "shmetrics._native.Board", sizeof(Board), NULL, slots);
    return BoardType == NULL ? -1 : 0;
}
