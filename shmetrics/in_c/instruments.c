/* `instruments`, in C: the changes of custom metrics. */

#include "writes.h"
#include <math.h>

PyTypeObject *InstrumentType;
static Name add_slowly = {"_add_slowly", NULL}, add_two_slowly = {"_add_two_slowly", NULL},
            add_with_slowly = {"_add_with_slowly", NULL}, inc_slowly = {"_inc_slowly", NULL},
            set_slowly = {"_set_slowly", NULL}, observe_slowly = {"_observe_slowly", NULL};

double *own_cells(Instrument *self, Writer *writer, Py_ssize_t least) {
    uint64_t *catalog = memory_of(&self->in_catalog);
    double *cells = memory_of(&writer->cells);
    if (cells == NULL || self->cells != writer->cells.object || catalog == NULL ||
        self->in_catalog.count < 1 || self->serial < 0 || catalog[0] != (uint64_t) self->serial || self->first < 0 ||
        least > writer->cells.count || self->first > writer->cells.count - least)
        return NULL;
    return cells + self->first;
}

Py_ssize_t bucket_cell(Instrument *self, double value) {
    if (self->limits == NULL)
        return 0;
    const double *limits = (const double *) PyBytes_AS_STRING(self->limits);
    Py_ssize_t low = 0, high = self->count;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (limits[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return 2 + low;
}

/* A cell, the first after the serial number being 1; 0 for what is none. */
static Py_ssize_t as_cell(PyObject *object) {
    Py_ssize_t cell = as_index(object, PY_SSIZE_T_MAX);
    return cell < 0 ? 0 : cell;
}

static PyObject *add(Instrument *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    Py_ssize_t cell;
    double amount, *cells;
    Writer *writer = free_writer(self);
    if (writer == NULL || count != 2 || keywords != NULL || !(cell = as_cell(args[0])) ||
        !as_double(args[1], &amount) || (cells = own_cells(self, writer, cell + 1)) == NULL)
        return slowly(self, &add_slowly, args, count, keywords);
    store(&cells[cell], cells[cell] + amount);
    return end_write(writer);
}

static PyObject *add_two_(Instrument *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    Py_ssize_t cell;
    double amount, other, *cells;
    Writer *writer = free_writer(self);
    if (writer == NULL || count != 3 || keywords != NULL || !as_double(args[0], &amount) ||
        !(cell = as_cell(args[1])) || !as_double(args[2], &other) ||
        (cells = own_cells(self, writer, cell + 1)) == NULL)
        return slowly(self, &add_two_slowly, args, count, keywords);
    add_two(cells, amount, cell, other);
    return end_write(writer);
}

static PyObject *add_with(Instrument *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    Py_ssize_t cell;
    double amount, other, *cells, *others;
    Writer *writer = free_writer(self);
    if (writer == NULL || count != 4 || keywords != NULL || !as_double(args[0], &amount) ||
        !(cell = as_cell(args[1])) || !is_of(args[2], InstrumentType) || !as_double(args[3], &other) ||
        (cells = own_cells(self, writer, cell + 1)) == NULL ||
        (others = own_cells((Instrument *) args[2], writer, 2)) == NULL)
        return slowly(self, &add_with_slowly, args, count, keywords);
    store(&others[1], others[1] + other);
    add_two(cells, amount, cell, 1.0);
    return end_write(writer);
}

static PyObject *inc(Instrument *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    double amount = 1.0, *cells;
    Writer *writer = free_writer(self);
    if (writer == NULL || count > 1 || keywords != NULL || (count == 1 && !as_double(args[0], &amount)) ||
        !(amount >= 0.0 && amount < INFINITY) || (cells = own_cells(self, writer, 2)) == NULL)
        return slowly(self, &inc_slowly, args, count, keywords);
    store(&cells[1], cells[1] + amount);
    return end_write(writer);
}

static PyObject *set(Instrument *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    double value, now, *cells;
    Writer *writer;
    if (count != 1 || keywords != NULL || !as_double(args[0], &value))
        goto slowly;
    if (!read_clock(self->clock, &now))
        return NULL;
    if ((writer = free_writer(self)) == NULL || (cells = own_cells(self, writer, 4)) == NULL)
        goto slowly;
    store(&cells[2], value);
    store(&cells[3], 1.0);
    store(&cells[1], now); /* last: it makes the rest count */
    return end_write(writer);
slowly:
    return slowly(self, &set_slowly, args, count, keywords);
}

static PyObject *observe(Instrument *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords, int buckets) {
    double value, *cells;
    Py_ssize_t cell;
    Writer *writer = free_writer(self);
    if (writer == NULL || count != 1 || keywords != NULL || !as_double(args[0], &value) || isnan(value) ||
        !(cell = buckets ? bucket_cell(self, value) : 2) || (cells = own_cells(self, writer, cell + 1)) == NULL)
        return slowly(self, &observe_slowly, args, count, keywords);
    add_two(cells, value, cell, 1.0);
    return end_write(writer);
}

static PyObject *in_histogram(Instrument *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    return observe(self, args, count, keywords, 1);
}

static PyObject *in_summary(Instrument *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    return observe(self, args, count, keywords, 0);
}

static PyObject *bounds_get(Instrument *self, void *Py_UNUSED(name)) {
    if (self->bounds == NULL)
        PyErr_SetString(PyExc_AttributeError, "bounds");
    return Py_XNewRef(self->bounds);
}

/* Kept as C has numbers, too: a float of Python's is on a cache line of its own. */
static int bounds_set(Instrument *self, PyObject *bounds, void *Py_UNUSED(name)) {
    Py_ssize_t count = bounds != NULL && PyTuple_CheckExact(bounds) ? PyTuple_GET_SIZE(bounds) : 0;
    PyObject *limits = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t) sizeof(double));
    if (limits == NULL)
        return -1;
    double *numbers = (double *) PyBytes_AS_STRING(limits);
    int are_all = count > 0;
    for (Py_ssize_t each = 0; are_all && each < count; each++)
        are_all = as_double(PyTuple_GET_ITEM(bounds, each), &numbers[each]);
    if (!are_all)
        Py_CLEAR(limits);
    Py_XSETREF(self->limits, limits);
    self->count = count;
    Py_XSETREF(self->bounds, Py_XNewRef(bounds));
    return 0;
}

VIEW(in_catalog, Instrument, in_catalog, 'Q')

LIFETIME(instrument, 5, &((Instrument *) self)->in_catalog, 1)

static PyMethodDef methods[] = {
    METHOD("_add", add, "cell, amount", "Add to a cell. See `instruments.Instrument`."),
    METHOD("_add_two", add_two_, "amount, other_cell, other_amount",
           "Add to cell 1, then to another. See `instruments.Instrument`."),
    METHOD("add_with", add_with, "amount, cell, other, other_amount",
           "Add to cell 1 of another one, and of this, and one to a cell of it. See `instruments.Instrument`."),
    {0},
};
static PyMemberDef members[] = {
    OBJECT("_writer", Instrument, writer),
    OBJECT("_clock", Instrument, clock),
    OBJECT("cells", Instrument, cells),
    {"serial", T_LONGLONG, offsetof(Instrument, serial), 0, NULL},
    {"first", T_PYSSIZET, offsetof(Instrument, first), 0, NULL},
    {0},
};
static PyGetSetDef attributes[] = {
    {"bounds", (getter) bounds_get, (setter) bounds_set, NULL, NULL},
    {"in_catalog", in_catalog_get, in_catalog_set, NULL, "in_catalog"},
    {0},
};
static PyType_Slot slots[] = {
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, attributes},
    {Py_tp_traverse, instrument_traverse},
    {Py_tp_clear, instrument_clear},
    {Py_tp_dealloc, instrument_dealloc},
    {0},
};

static PyMethodDef counter_methods[] = {
    METHOD("inc", inc, "amount=1.0, exemplar=None",
           "Add ``amount``, finite and not negative (ValueError).\n\n"
           "``exemplar``: labels that tell of which request, a trace id say; 128 characters at most (ValueError)."),
    {0},
};
static PyMethodDef gauge_methods[] = {METHOD("set", set, "value", "The value is ``value`` now."), {0}};
static PyMethodDef histogram_methods[] = {
    METHOD("observe", in_histogram, "value, exemplar=None",
           "Count one value. NaN counts nowhere, which is logged once.\n\n"
           "``exemplar``: labels that tell of which request it is, a trace id say. The greatest recent value of each "
           "bucket keeps its own."),
    {0},
};
static PyMethodDef summary_methods[] = {
    METHOD("observe", in_summary, "value", "Count one value. NaN counts nowhere, which is logged once."), {0}};

/* A kind of them, which has its own way to be changed. */
static int add_kind(PyObject *module, const char *name, PyMethodDef *own) {
    PyType_Slot kind[] = {
        {Py_tp_methods, own},
        {Py_tp_traverse, instrument_traverse},
        {Py_tp_clear, instrument_clear},
        {Py_tp_dealloc, instrument_dealloc},
        {0},
    };
    return add_type(module, name, sizeof(Instrument), InstrumentType, kind) == NULL ? -1 : 0;
}

int add_instruments(PyObject *module) {
    InstrumentType = add_type(module, "shmetrics._native.Instrument", sizeof(Instrument), NULL, slots);
    if (InstrumentType == NULL || add_kind(module, "shmetrics._native.Counter", counter_methods) < 0 ||
        add_kind(module, "shmetrics._native.Gauge", gauge_methods) < 0 ||
        add_kind(module, "shmetrics._native.Histogram", histogram_methods) < 0 ||
        add_kind(module, "shmetrics._native.Summary", summary_methods) < 0)
        return -1;
    return 0;
}
