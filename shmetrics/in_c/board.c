/* `board`, in C: a request enters, and leaves. */

#include "writes.h"

PyTypeObject *BoardType;
static Name enter_slowly = {"_enter_slowly", NULL};
Name leave_slowly = {"_leave_slowly", NULL};

/* Whether a change at that time is not the first in its second, and finds all that it changes. */
static int is_ready(Board *self, double now) {
    return memory_of(&self->words) != NULL && BUSY < self->words.count && now < self->next_second &&
           memory_of(&self->starts) != NULL && self->open != NULL && Py_IS_TYPE(self->open, TicketsType) &&
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
        !PyList_CheckExact(self->shown))
        return -1;
    Py_ssize_t free = PyList_GET_SIZE(self->free);
    Py_ssize_t place = free ? as_index(PyList_GET_ITEM(self->free, free - 1), PyList_GET_SIZE(self->shown)) : -1;
    return place < self->starts.count && (place + 1) * size <= self->labels.count ? place : -1;
}

/* Show a request at this free place, where its label stands already, which `shown` is kept of; whether nobody is there.
What others see, and who is in flight, comes before anything by which other code may come in. */
static int take_place(Board *self, Py_ssize_t place, PyObject *shown, double now, Ticket *ticket) {
    Tickets *open = (Tickets *) self->open;
    if (!seat(open, open->drawn + 1, place))
        return 0;
    *ticket = (Ticket) {NULL, ++open->drawn, place};
    PyObject *before = PyList_GET_ITEM(self->shown, place);
    Py_ssize_t last = PyList_GET_SIZE(self->free) - 1;
    PyObject *spot = PyList_GET_ITEM(self->free, last);
    Py_SET_SIZE(self->free, last); /* as list.pop does it, but for giving memory back */
    PyList_SET_ITEM(self->shown, place, Py_NewRef(shown));
    store((double *) self->starts.start + place, now);
    if (self->busy >= 0.0) {
        self->busy -= now;
        store((double *) self->words.start + BUSY, self->busy);
    }
    Py_DECREF(spot);
    Py_XDECREF(before);
    return 1;
}

PyObject *board_enter(Board *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    double now;
    Ticket ticket;
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
    Py_ssize_t size = PyBytes_GET_SIZE(text), place = free_place(self, now, size);
    if (place >= 0 && PyList_GET_ITEM(self->shown, place) != text)
        memcpy((char *) self->labels.start + place * size, PyBytes_AS_STRING(text), size);
    int is_shown = place >= 0 && take_place(self, place, text, now, &ticket);
    Py_DECREF(text);
    if (is_shown)
        return ticket_object(&ticket);
slowly:
    return slowly(self, &enter_slowly, args, count, keywords);
}

/* The label is put together where it is shown, and not remembered: of paths there is no end. */
int enter_request(Board *self, PyObject *method, PyObject *path, double now, Ticket *ticket) {
    if (!is_ascii(method) || !is_ascii(path) || PyUnicode_GET_LENGTH(method) >= LABEL_BYTES)
        return 0;
    Py_ssize_t place = free_place(self, now, LABEL_BYTES);
    if (place < 0)
        return 0;
    char *label = (char *) self->labels.start + place * LABEL_BYTES;
    Py_ssize_t first = PyUnicode_GET_LENGTH(method), rest = LABEL_BYTES - first - 1,
               second = PyUnicode_GET_LENGTH(path) < rest ? PyUnicode_GET_LENGTH(path) : rest;
    memcpy(label, PyUnicode_DATA(method), first);
    label[first] = ' ';
    memcpy(label + first + 1, PyUnicode_DATA(path), second);
    memset(label + first + 1 + second, 0, rest - second);
    return take_place(self, place, Py_None, now, ticket);
}

int leave(Board *self, const Ticket *ticket, double now) {
    if (!is_ready(self, now) || self->crowd == NULL || !PyDict_Check(self->crowd) || PyDict_GET_SIZE(self->crowd) != 0)
        return 0;
    Tickets *open = (Tickets *) self->open;
    Py_ssize_t place = ticket->object != NULL ? place_of(open, ticket->object) : ticket->place;
    if (place < 0 || place >= self->starts.count || (ticket->object == NULL && !has_seat(open, ticket->number, place)))
        return 0;
    PyObject *spot = PyLong_FromSsize_t(place);
    unseat(open, place);
    if (spot == NULL || PyList_Append(self->free, spot) < 0)
        PyErr_Clear(); /* no memory: the place comes back when the board is idle, and tidies itself up */
    Py_XDECREF(spot);
    store((double *) self->starts.start + place, 0.0);
    if (in_flight(open) == 0 && self->busy < 0.0) {
        self->busy += now;
        store((double *) self->words.start + BUSY, self->busy);
    }
    return 1;
}

PyObject *ticket_object(const Ticket *ticket) {
    return ticket->object != NULL ? Py_NewRef(ticket->object) : PyLong_FromUnsignedLongLong(ticket->number);
}

static PyObject *board_leave(Board *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    double now;
    int told = time_of(self, args, count, keywords, &now);
    if (told < 0)
        return NULL;
    Ticket ticket = {count > 0 ? args[0] : NULL, 0, -1};
    if (told && leave(self, &ticket, now))
        Py_RETURN_NONE;
    return slowly(self, &leave_slowly, args, count, keywords);
}

VIEW(starts, Board, starts, 'd')
VIEW(labels, Board, labels, 'B')
VIEW(words, Board, words, 'd')
LIFETIME(board, 6, &((Board *) self)->starts, 3)

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
