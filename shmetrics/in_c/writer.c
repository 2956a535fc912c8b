/* `writer` and `completion`, in C: a record, a counter, and the end of a request. */

#include "writes.h"

PyTypeObject *WriterType;
static PyTypeObject *DequeType; /* collections.deque, of which it counts as a list does: see its `deque_len` */
static Name record_slowly = {"_record_slowly", NULL}, add_slowly = {"_add_slowly", NULL},
            complete_slowly = {"_complete_slowly", NULL}, perform_pending = {"perform_pending", NULL};

PyObject *end_write(Writer *self) {
    PyObject *pending = self->pending;
    Py_ssize_t waiting = pending == NULL ? 0 : Py_IS_TYPE(pending, DequeType) ? Py_SIZE(pending) : PyObject_Size(pending);
    if (waiting > 0)
        return slowly(self, &perform_pending, NULL, 0, NULL);
    if (waiting < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Where the next record goes; NULL if it cannot now. */
static Record *next_record(Writer *self) {
    uint64_t *words = memory_of(&self->words);
    Record *ring = memory_of(&self->ring);
    if (!has_token(self) || words == NULL || ring == NULL || HEAD >= self->words.count ||
        ERRORS >= self->words.count || CACHE_HITS >= self->words.count || CACHE_MISSES >= self->words.count)
        return NULL;
    uint64_t head = words[HEAD], index = head & (uint64_t) self->mask;
    if (head >= self->advance_at || index >= (uint64_t) self->ring.count / sizeof(Record))
        return NULL;
    return ring + index;
}

static void commit_record(Writer *self, Record *record, double time, const double measures[4]) {
    uint64_t *words = self->words.start;
    *record = (Record) {time, measures[0], measures[1], measures[2], measures[3],
                        words[ERRORS], words[CACHE_HITS], words[CACHE_MISSES]};
    commit(&words[HEAD], words[HEAD] + 1);
}

static PyObject *record(Writer *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    double measures[4] = {0.0, 1.0, 0.0, 0.0}, now;
    if (count < 1 || count > 4 || keywords != NULL)
        goto slowly;
    for (Py_ssize_t each = 0; each < count; each++)
        if (!as_double(args[each], &measures[each]))
            goto slowly;
    if (!read_clock(self->clock, &now))
        return NULL;
    Record *record = next_record(self);
    if (record == NULL)
        goto slowly;
    commit_record(self, record, now, measures);
    return end_write(self);
slowly:
    return slowly(self, &record_slowly, args, count, keywords);
}

static PyObject *add(Writer *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    uint64_t *words = memory_of(&self->words);
    if (count != 2 || keywords != NULL || words == NULL || memory_of(&self->cells) == NULL || !has_token(self) ||
        !PyLong_CheckExact(args[1]))
        goto slowly;
    Py_ssize_t word = as_index(args[0], self->words.count);
    unsigned long long amount = PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        goto slowly;
    }
    if (word < 0 || words[word] + amount < amount)
        goto slowly;
    commit(&words[word], words[word] + amount);
    return end_write(self);
slowly:
    return slowly(self, &add_slowly, args, count, keywords);
}

int complete(Writer *self, const Ticket *ticket, double now, const double measures[4], PyObject *durations,
             double duration) {
    double *cells = NULL;
    Py_ssize_t bucket = 0;
    if (self->board == NULL)
        return 0;
    if (durations != Py_None) {
        if (!is_of(durations, InstrumentType))
            return 0;
        bucket = bucket_cell((Instrument *) durations, duration);
        cells = bucket ? own_cells((Instrument *) durations, self, bucket + 1) : NULL;
        if (cells == NULL)
            return 0;
    }
    Record *record = next_record(self);
    if (record == NULL)
        return 0;
    commit_record(self, record, now, measures);
    if (cells != NULL)
        add_two(cells, duration, bucket, 1.0);
    if (is_of(self->board, BoardType) && leave((Board *) self->board, ticket, now))
        return 1;
    PyObject *left = NULL, *object = ticket_object(ticket), *then = PyFloat_FromDouble(now);
    if (object != NULL && then != NULL) {
        PyObject *args[] = {object, then};
        left = slowly(self->board, &leave_slowly, args, 2, NULL);
    }
    Py_XDECREF(object);
    Py_XDECREF(then);
    Py_XDECREF(left);
    return left == NULL ? -1 : 1;
}

PyObject *writer_complete(Writer *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    double measures[4], duration = 0.0;
    if (count != 8 || keywords != NULL || !PyFloat_CheckExact(args[1]) ||
        (args[6] != Py_None && !as_double(args[7], &duration)))
        goto slowly;
    for (int each = 0; each < 4; each++)
        if (!as_double(args[2 + each], &measures[each]))
            goto slowly;
    Ticket ticket = {args[0], 0, -1};
    int completed = complete(self, &ticket, PyFloat_AS_DOUBLE(args[1]), measures, args[6], duration);
    if (completed)
        return completed < 0 ? NULL : end_write(self);
slowly:
    return slowly(self, &complete_slowly, args, count, keywords);
}

static PyObject *take_get(Writer *self, void *Py_UNUSED(name)) {
    if (self->take == NULL)
        PyErr_SetString(PyExc_AttributeError, "take");
    return Py_XNewRef(self->take);
}

static int take_set(Writer *self, PyObject *take, void *Py_UNUSED(name)) {
    PyObject *of = take != NULL && PyCFunction_Check(take) ? PyCFunction_GET_SELF(take) : NULL;
    Py_XSETREF(self->take, Py_XNewRef(take));
    Py_XSETREF(self->token, of != NULL && PyList_CheckExact(of) ? Py_NewRef(of) : NULL);
    return 0;
}

VIEW(words, Writer, words, 'Q')
VIEW(ring, Writer, ring, 'B')
VIEW(cells, Writer, cells, 'd')
LIFETIME(writer, 5, &((Writer *) self)->words, 3)

static PyMethodDef methods[] = {
    METHOD("record", record, "inference_time, batch_size=1, preprocessing_time=0.0, quantization_time=0.0",
           "Commit one record. See `writer.Writer`."),
    METHOD("add", add, "word, amount", "Add to a counter. See `writer.Writer`."),
    METHOD("complete", writer_complete,
           "ticket, now, inference_time, batch_size, preprocessing_time, quantization_time, durations, duration",
           "Commit one record, count a duration, and take the request off the board. See `completion.RequestWriter`."),
    {0},
};
static PyMemberDef members[] = {
    OBJECT("pending", Writer, pending),
    OBJECT("_clock", Writer, clock),
    OBJECT("_board", Writer, board),
    {"_advance_at", T_ULONGLONG, offsetof(Writer, advance_at), 0, NULL},
    {"_mask", T_PYSSIZET, offsetof(Writer, mask), 0, NULL},
    {0},
};
static PyGetSetDef attributes[] = {
    {"take", (getter) take_get, (setter) take_set, NULL, NULL},
    {"_words", words_get, words_set, NULL, "_words"},
    {"_ring", ring_get, ring_set, NULL, "_ring"},
    {"shared_cells", cells_get, cells_set, NULL, "shared_cells"},
    {0},
};
static PyType_Slot slots[] = {
    {Py_tp_methods, methods},           {Py_tp_members, members},    {Py_tp_getset, attributes},
    {Py_tp_traverse, writer_traverse},  {Py_tp_clear, writer_clear}, {Py_tp_dealloc, writer_dealloc},
    {0},
};

int add_writer(PyObject *module) {
    PyObject *collections = PyImport_ImportModule("collections");
    DequeType = collections == NULL ? NULL : (PyTypeObject *) PyObject_GetAttrString(collections, "deque");
    Py_XDECREF(collections);
    if (DequeType == NULL)
        return -1;
    WriterType = add_type(module, "shmetrics._native.Writer", sizeof(Writer), NULL, slots);
    return WriterType == NULL ? -1 : 0;
}
