/* `folded`, in C: a batch of records is added to an area, where all are valid and of one second.

That is what a busy worker folds. What numpy takes for it is mostly the way there: see docs/performance.md.
*/

#include "writes.h"
#include <math.h>

static Name add_rows_slowly = {"_add_rows_slowly", NULL}, words_of_area = {"_words", NULL};

/* From `layout`, `folded` and `sketch`, by `use_fold`. Words of an area, and what a measure's bits are at most. */
static struct {
    Py_ssize_t valid, errors, sum, min, max, sketch, second, requests, second_errors, latency_sum, latency_max;
    Py_ssize_t seconds, buckets, end;
    unsigned long long surely_valid;
    double latest;
    int shift;
} at;
static View lowest, upper; /* of `sketch.bucket_index`: the bucket of each cell's least value, and the bounds */

enum { MEASURES = 5, RAW = 4, TOTAL = 4, MOST_RECORDS = 2048 };

/* What a batch adds up to. */
typedef struct {
    double sum[MEASURES], least[MEASURES], most[MEASURES];
    uint16_t buckets[MEASURES * MOST_RECORDS];
} Batch;

static inline uint64_t bits_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* As `sketch.bucket_index`. */
static inline Py_ssize_t bucket_of(double value) {
    Py_ssize_t cell = (Py_ssize_t) (bits_of(value) >> at.shift);
    Py_ssize_t bucket = ((const Py_ssize_t *) lowest.start)[cell < lowest.count ? cell : lowest.count - 1];
    return bucket + (value > ((const double *) upper.start)[bucket]);
}

/* Add up the records, nowhere but in `batch`; 0 if one may be invalid, or of another second than the first. */
static int add_up(Batch *batch, const Record *rows, Py_ssize_t count) {
    if (count < 1 || count > MOST_RECORDS || !(rows->time >= 0.0 && rows->time < at.latest))
        return 0;
    double second = floor(rows->time), end = second + 1.0;
    uint16_t *buckets = batch->buckets;
    for (const Record *row = rows; row < rows + count; row++) {
        double values[MEASURES] = {row->inference, row->batch, row->preprocessing, row->quantization};
        if (!(row->time >= second && row->time < end) || bits_of(values[0]) > at.surely_valid ||
            bits_of(values[1]) > at.surely_valid || bits_of(values[2]) > at.surely_valid ||
            bits_of(values[3]) > at.surely_valid)
            return 0;
        values[TOTAL] = values[0] + values[2] + values[3];
        if (row == rows)
            for (int each = 0; each < MEASURES; each++) {
                batch->sum[each] = 0.0;
                batch->least[each] = batch->most[each] = values[each];
            }
        for (int each = 0; each < MEASURES; each++) {
            batch->sum[each] += values[each];
            batch->least[each] = values[each] < batch->least[each] ? values[each] : batch->least[each];
            batch->most[each] = values[each] > batch->most[each] ? values[each] : batch->most[each];
            *buckets++ = (uint16_t) bucket_of(values[each]);
        }
    }
    return 1;
}

/* As `Folded._add_measures` and `Folded._add_second`. */
static void add_batch(uint64_t *words, const Batch *batch, const Record *rows, Py_ssize_t count) {
    double *reals = (double *) words;
    const uint16_t *bucket = batch->buckets;
    for (Py_ssize_t row = 0; row < count; row++)
        for (int each = 0; each < MEASURES; each++)
            words[at.sketch + each * at.buckets + *bucket++]++;
    int is_first = words[at.valid] == 0;
    for (int each = 0; each < MEASURES; each++) {
        reals[at.sum + each] += batch->sum[each];
        if (is_first || batch->least[each] < reals[at.min + each])
            reals[at.min + each] = batch->least[each];
        if (is_first || batch->most[each] > reals[at.max + each])
            reals[at.max + each] = batch->most[each];
    }
    words[at.valid] += (uint64_t) count;
    uint64_t second = (uint64_t) rows->time, place = second % (uint64_t) at.seconds, errors = rows[count - 1].errors;
    if (words[at.second + place] != second) {
        words[at.second + place] = second;
        words[at.requests + place] = words[at.second_errors + place] = 0;
        reals[at.latency_sum + place] = reals[at.latency_max + place] = 0.0;
    }
    words[at.requests + place] += (uint64_t) count;
    reals[at.latency_sum + place] += batch->sum[TOTAL];
    if (batch->most[TOTAL] > reals[at.latency_max + place])
        reals[at.latency_max + place] = batch->most[TOTAL];
    if (errors > words[at.errors]) {
        words[at.second_errors + place] += errors - words[at.errors];
        words[at.errors] = errors;
    }
}

/* `_add_rows(folded, rows)`: the area, and a contiguous array of records. */
static PyObject *add_rows(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    int done = 0;
    if (count == 2 && keywords == NULL && memory_of(&lowest) != NULL && memory_of(&upper) != NULL) {
        View words = {NULL, 0, NULL};
        Py_buffer rows;
        Batch batch;
        PyObject *name = name_of(&words_of_area), *area = name == NULL ? NULL : PyObject_GetAttr(args[0], name);
        if (area == NULL)
            return NULL;
        view_set(&words, area, 'Q');
        Py_DECREF(area);
        if (words.start != NULL && words.count >= at.end && PyObject_GetBuffer(args[1], &rows, PyBUF_SIMPLE) == 0) {
            Py_ssize_t records = rows.len / (Py_ssize_t) sizeof(Record);
            if (rows.len % (Py_ssize_t) sizeof(Record) == 0 && add_up(&batch, rows.buf, records)) {
                add_batch(words.start, &batch, rows.buf, records);
                done = 1;
            }
            PyBuffer_Release(&rows);
        } else
            PyErr_Clear(); /* rows that are not contiguous, say */
        view_set(&words, NULL, '\0');
    }
    if (done)
        Py_RETURN_NONE;
    return slowly(self, &add_rows_slowly, args, count, keywords);
}

PyObject *use_fold(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords) {
    static char *names[] = {"valid",        "errors",      "sum",         "min",     "max",     "sketch", "second",
                            "requests",     "second_errors", "latency_sum", "latency_max", "seconds", "buckets", "end",
                            "surely_valid", "latest",      "shift",       "lowest",  "upper",   NULL};
    PyObject *cells, *bounds;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$nnnnnnnnnnnnnnKdiOO", names, &at.valid, &at.errors, &at.sum,
                                     &at.min, &at.max, &at.sketch, &at.second, &at.requests, &at.second_errors,
                                     &at.latency_sum, &at.latency_max, &at.seconds, &at.buckets, &at.end,
                                     &at.surely_valid, &at.latest, &at.shift, &cells, &bounds))
        return NULL;
    view_set(&lowest, cells, 'l');
    view_set(&upper, bounds, 'd');
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    METHOD("_add_rows", add_rows, "folded, rows", "Add records to an area. See `folded.Folded`."), {0}};

static int nothing_held(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void folding_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot slots[] = {
    {Py_tp_methods, methods}, {Py_tp_traverse, nothing_held}, {Py_tp_dealloc, folding_dealloc}, {0}};

int add_fold(PyObject *module) {
    return add_type(module, "shmetrics._native.Folding", sizeof(PyObject), NULL, slots) == NULL ? -1 : 0;
}
