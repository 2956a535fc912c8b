/* `cells.Plan.merge`, in C: one look at the cells of each worker, where numpy first puts them together and then looks at all
of them several times. What is added up is added in the same order, so that the sums are the same to the last bit.
*/

#include "writes.h"
#include <math.h>

/* How a cell merges that is not added up: `cells.Rule`, by `use_cells`. */
static struct {
    Py_ssize_t min, max, newest;
} at;

enum { LIVE_ONLY = 1, NEEDS_TIME = 2 };

/* A cell that is not added up, and how it merges; of which series it is. */
typedef struct {
    Py_ssize_t cell, rule, series;
} Other;

/* What `Plan` knows of a catalog: of each series its first cell, its serial number, and when it counts; of each cell which
series it is of, and whether it is a count; which cells are added up, and those that merge in some other way. */
typedef struct {
    const Py_ssize_t *first, *series_of, *added;
    const double *serial;
    const uint64_t *is_count; /* all bits, or none */
    const unsigned char *conditions;
    const Other *others;
    Py_ssize_t series, extent, added_count, other_count;
} Plan;

/* Room for one merge: whether each series is valid in a row, and in any; and the sums of all cells. */
typedef struct {
    unsigned char *valid, *there;
    double *sums;
} Room;

#define LEAST_EXPONENT ((uint64_t) 1 << 52) /* of a float's bits */

static inline int is_count_possible(double value) { return value >= 0.0 && value < INFINITY; }

/* Find the series that are there in this row and can be believed. Whether all are that need not live, and all that do. */
static int look_at(const double *row, const Plan *plan, const Room *room, int lives, double now) {
    int are_all = 1;
    uint64_t doubts = 0;
    for (Py_ssize_t each = 0; each < plan->series; each++) {
        const double *cells = row + plan->first[each];
        int conditions = plan->conditions[each], is_valid = cells[0] == plan->serial[each];
        if (conditions)
            is_valid &= !(conditions & LIVE_ONLY && !lives) &&
                        !(conditions & NEEDS_TIME && !(cells[1] > 0.0 && cells[1] < now + 1.0));
        room->valid[each] = (unsigned char) is_valid;
        are_all &= is_valid;
    }
    /* Without a comparison, of which there is none that takes several at once: the highest bit is that of a sign, or is set by
    what is added to the bits of what is infinite or no number. */
    for (Py_ssize_t cell = 0; cell < plan->extent; cell++) {
        uint64_t bits;
        memcpy(&bits, &row[cell], sizeof bits);
        doubts |= (bits | (bits + LEAST_EXPONENT)) & plan->is_count[cell];
    }
    if (!(doubts >> 63))
        return are_all;
    for (Py_ssize_t cell = 0; cell < plan->extent; cell++)
        if (plan->is_count[cell] && !is_count_possible(row[cell]))
            are_all = room->valid[plan->series_of[cell]] = 0;
    return are_all;
}

/* Merge a cell that is not added up with what the rows before came to, if its series was there in any of them. */
static void merge_other(double *merged, const double *row, const Other *other, int was_there) {
    double *cell = &merged[other->cell], value = row[other->cell];
    if (other->rule == at.newest) {
        if (value > *cell) {
            *cell = value;
            cell[1] = row[other->cell + 1];
        }
    } else if (!was_there)
        *cell = value;
    else
        *cell = other->rule == at.min ? lesser(*cell, value) : greater(*cell, value);
}

static void add_row(double *merged, const double *row, const Plan *plan, const Room *room, int are_all) {
    double *sums = room->sums;
    if (are_all)
        for (Py_ssize_t cell = 0; cell < plan->extent; cell++)
            sums[cell] += row[cell];
    else
        for (Py_ssize_t cell = 0; cell < plan->extent; cell++)
            if (room->valid[plan->series_of[cell]])
                sums[cell] += row[cell];
    for (const Other *other = plan->others; other < plan->others + plan->other_count; other++)
        if (room->valid[other->series])
            merge_other(merged, row, other, room->there[other->series]);
    for (Py_ssize_t each = 0; each < plan->series; each++)
        room->there[each] |= room->valid[each];
}

static void tell_sums(double *merged, const Plan *plan, const Room *room) {
    for (Py_ssize_t each = 0; each < plan->series; each++)
        merged[plan->first[each]] = room->there[each] ? plan->serial[each] : 0.0;
    for (Py_ssize_t each = 0; each < plan->added_count; each++)
        merged[plan->added[each]] = room->sums[plan->added[each]];
}

/* Whether no index of a plan is beyond what it is an index of. */
static int is_sound(const Plan *plan) {
    for (Py_ssize_t each = 0; each < plan->series; each++)
        if (plan->first[each] < 0 || plan->first[each] >= plan->extent - (plan->conditions[each] & NEEDS_TIME ? 1 : 0))
            return 0;
    for (Py_ssize_t cell = 0; cell < plan->extent; cell++)
        if (plan->series_of[cell] < 0 || plan->series_of[cell] >= plan->series)
            return 0;
    for (Py_ssize_t each = 0; each < plan->added_count; each++)
        if (plan->added[each] < 0 || plan->added[each] >= plan->extent)
            return 0;
    for (const Other *other = plan->others; other < plan->others + plan->other_count; other++)
        if (other->cell < 0 || other->cell >= plan->extent - (other->rule == at.newest ? 1 : 0) || other->series < 0 ||
            other->series >= plan->series)
            return 0;
    return 1;
}

/* Merge all rows: 1, or 0 for what is no row of so many cells. */
static int merge_rows(double *merged, PyObject *rows, PyObject *live, const Plan *plan, const Room *room, double now) {
    for (Py_ssize_t each = 0; each < PyList_GET_SIZE(rows); each++) {
        Py_buffer row;
        int lives = each < PyList_GET_SIZE(live) ? PyObject_IsTrue(PyList_GET_ITEM(live, each)) : -1;
        PyObject *object = lives < 0 || each >= PyList_GET_SIZE(rows) ? NULL : Py_NewRef(PyList_GET_ITEM(rows, each));
        int is_there = object != NULL && PyObject_GetBuffer(object, &row, PyBUF_SIMPLE) == 0;
        Py_XDECREF(object);
        if (!is_there)
            return 0;
        int is_right = row.len / (Py_ssize_t) sizeof(double) == plan->extent && (uintptr_t) row.buf % sizeof(double) == 0;
        if (is_right) {
            int are_all = look_at(row.buf, plan, room, lives, now);
            add_row(merged, row.buf, plan, room, are_all);
        }
        PyBuffer_Release(&row);
        if (!is_right)
            return 0;
    }
    tell_sums(merged, plan, room);
    return 1;
}

/* `merge_cells(merged, rows, live, now, first, serial, conditions, series_of, is_count, added, others)`: fill `merged`,
which is 0. Each is an array of its own type, contiguous; but for the rows, a list of such, and what says who lives. */
static PyObject *merge_cells(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *rows, *live;
    double now;
    Py_buffer merged, of[7];
    if (!PyArg_ParseTuple(args, "w*O!O!dy*y*y*y*y*y*y*", &merged, &PyList_Type, &rows, &PyList_Type, &live, &now, &of[0],
                          &of[1], &of[2], &of[3], &of[4], &of[5], &of[6]))
        return NULL;
    Py_ssize_t size = (Py_ssize_t) sizeof(double), extent = merged.len / size, series = of[0].len / size;
    Plan plan = {of[0].buf, of[3].buf, of[5].buf, of[1].buf, of[4].buf, of[2].buf, of[6].buf,
                 series, extent, of[5].len / size, of[6].len / (Py_ssize_t) sizeof(Other)};
    int is_right = PyList_GET_SIZE(rows) == PyList_GET_SIZE(live) && of[1].len / size == series && of[2].len == series &&
                   of[3].len / size == extent && of[4].len / size == extent && is_sound(&plan);
    Room room = {PyMem_Calloc((size_t) series + 1, 1), PyMem_Calloc((size_t) series + 1, 1),
                 PyMem_Calloc((size_t) extent + 1, sizeof(double))};
    int has_room = room.valid != NULL && room.there != NULL && room.sums != NULL;
    if (has_room && is_right)
        is_right = merge_rows(merged.buf, rows, live, &plan, &room, now);
    PyMem_Free(room.valid);
    PyMem_Free(room.there);
    PyMem_Free(room.sums);
    PyBuffer_Release(&merged);
    for (int each = 0; each < 7; each++)
        PyBuffer_Release(&of[each]);
    if (!has_room)
        return PyErr_NoMemory();
    if (!is_right) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "wanted a plan, and rows of as many cells");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *use_cells(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords) {
    static char *names[] = {"min", "max", "newest", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$nnn", names, &at.min, &at.max, &at.newest))
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"use_cells", (PyCFunction) (void (*)(void)) use_cells, METH_VARARGS | METH_KEYWORDS,
     "Say how cells merge that are not added up: once, and before any are merged."},
    {"merge_cells", merge_cells, METH_VARARGS, "Merge rows of cells into one that is 0. See `cells.Plan.merge`."},
    {0},
};

int add_cells(PyObject *module) { return PyModule_AddFunctions(module, functions); }
