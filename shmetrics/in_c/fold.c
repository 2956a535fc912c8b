/* `folded` and `tails`, in C: records are added to an area; areas are looked at whether they can be right, and added to one
another.

What numpy takes for it is mostly the way there: see docs/performance.md.
*/

#include "areas.h"

static Name add_rows_slowly = {"_add_rows_slowly", NULL}, words_of_area = {"_words", NULL};

enum { MOST_RECORDS = 2048, MOST_RUNS = 300 };

#define MOST_ERRORS ((uint64_t) 1 << 53) /* as `tails` has it */

/* Records of one second that follow one another. */
typedef struct {
    uint64_t second, requests, errors;
    double latency_sum, latency_max;
} Run;

/* What records add up to. */
typedef struct {
    double sum[MEASURES], least[MEASURES], most[MEASURES];
    Py_ssize_t records, invalid, runs;
    Run run[MOST_RUNS];
    uint16_t buckets[MEASURES * MOST_RECORDS];
} Batch;

/* Whether a record counts as invalid for one of these, as `folded.is_valid` has it. */
static int is_invalid(const double *values) {
    for (int each = 0; each < RAW; each++)
        if (!(values[each] >= 0.0 && values[each] < at.limit))
            return 1;
    return 0;
}

/* Add up the records, nowhere but in `batch`; 0 if there are too many of them or of seconds, or one is not told at once. */
static int add_up(Batch *batch, const Record *rows, Py_ssize_t count) {
    if (count > MOST_RECORDS)
        return 0;
    double end = -INFINITY; /* of the second that the last record was in; the first is in none that is known */
    uint16_t *buckets = batch->buckets;
    Run *run = batch->run - 1;
    batch->records = batch->invalid = 0;
    for (const Record *row = rows; row < rows + count; row++) {
        double values[MEASURES] = {row->inference, row->batch, row->preprocessing, row->quantization};
        if (row->errors >= MOST_ERRORS)
            return 0;
        if (bits_of(values[0]) > at.surely_valid || bits_of(values[1]) > at.surely_valid ||
            bits_of(values[2]) > at.surely_valid || bits_of(values[3]) > at.surely_valid) {
            if (!is_invalid(values))
                return 0;
            batch->invalid++;
            continue;
        }
        values[TOTAL] = values[0] + values[2] + values[3];
        if (!(row->time < end && row->time >= end - 1.0)) {
            if (!(row->time >= 0.0 && row->time < at.latest) || ++run == batch->run + MOST_RUNS)
                return 0;
            end = floor(row->time) + 1.0;
            *run = (Run) {(uint64_t) row->time, 0, 0, 0.0, 0.0};
        }
        run->requests++;
        run->errors = row->errors;
        run->latency_sum += values[TOTAL];
        run->latency_max = values[TOTAL] > run->latency_max ? values[TOTAL] : run->latency_max;
        if (batch->records++ == 0)
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
    batch->runs = run + 1 - batch->run;
    return 1;
}

/* As `Folded._add_second`. */
static void add_run(const Area *area, const Run *run) {
    uint64_t *words = area->words;
    double *reals = (double *) words;
    Py_ssize_t place = (Py_ssize_t) (run->second % (uint64_t) at.seconds) - area->skipped;
    if (words[at.second + place] != run->second) {
        words[at.second + place] = run->second;
        words[at.requests + place] = words[at.second_errors + place] = 0;
        reals[at.latency_sum + place] = reals[at.latency_max + place] = 0.0;
    }
    words[at.requests + place] += run->requests;
    reals[at.latency_sum + place] += run->latency_sum;
    if (run->latency_max > reals[at.latency_max + place])
        reals[at.latency_max + place] = run->latency_max;
    if (run->errors > words[at.errors]) {
        words[at.second_errors + place] += run->errors - words[at.errors];
        words[at.errors] = run->errors;
    }
}

/* As `Folded._add_measures`, and the runs. */
static void add_batch(const Area *area, const Batch *batch) {
    uint64_t *words = area->words;
    double *reals = (double *) words;
    words[at.invalid] += (uint64_t) batch->invalid;
    if (batch->records == 0)
        return;
    const uint16_t *bucket = batch->buckets;
    for (Py_ssize_t row = 0; row < batch->records; row++)
        for (int each = 0; each < MEASURES; each++)
            words[area->start[each] + *bucket++]++;
    int is_first = words[at.valid] == 0;
    for (int each = 0; each < MEASURES; each++) {
        reals[at.sum + each] += batch->sum[each];
        if (is_first || batch->least[each] < reals[at.min + each])
            reals[at.min + each] = batch->least[each];
        if (is_first || batch->most[each] > reals[at.max + each])
            reals[at.max + each] = batch->most[each];
    }
    words[at.valid] += (uint64_t) batch->records;
    for (Py_ssize_t run = 0; run < batch->runs; run++)
        add_run(area, &batch->run[run]);
}

/* Add an array of records to the words of an area; whether it did, or nothing of it. */
static int add_array(uint64_t *words, PyObject *array, Batch *batch) {
    Py_buffer rows;
    if (PyObject_GetBuffer(array, &rows, PyBUF_SIMPLE) < 0) {
        PyErr_Clear(); /* it is not contiguous, say */
        return 0;
    }
    Py_ssize_t count = rows.len / (Py_ssize_t) sizeof(Record);
    int done = rows.len % (Py_ssize_t) sizeof(Record) == 0 && (uintptr_t) rows.buf % sizeof(double) == 0;
    Area area = whole_area(words);
    for (int adds = count <= MOST_RECORDS; done && adds < 2; adds++) /* nothing is added before all that is more is known */
        for (Py_ssize_t from = 0; done && from < count; from += MOST_RECORDS) {
            done = add_up(batch, (const Record *) rows.buf + from, count - from < MOST_RECORDS ? count - from : MOST_RECORDS);
            if (done && adds)
                add_batch(&area, batch);
            else if (adds && from > 0) { /* somebody has stored there meanwhile: what was added is not added again */
                done = 1;
                break;
            }
        }
    PyBuffer_Release(&rows);
    return done;
}

/* Whether all of these are numbers that sums and extremes can be. */
static int are_plausible(const double *numbers, Py_ssize_t count) {
    int are = 1;
    for (Py_ssize_t each = 0; each < count; each++)
        are &= numbers[each] >= 0.0 && numbers[each] <= at.largest_sum;
    return are;
}

/* Whether an area can be right that is to hold so many records: as `folded.flaws`, which then finds nothing. */
static int can_be_right(const Area *area, uint64_t known, double now) {
    const uint64_t *words = area->words;
    const double *reals = (const double *) words;
    Py_ssize_t skipped = area->skipped;
    uint64_t valid = words[at.valid], invalid = words[at.invalid];
    if (known > at.most_records || valid > at.most_records || invalid > at.most_records || valid + invalid != known)
        return 0;
    for (int each = 0; each < MEASURES; each++) {
        uint64_t total = 0, bits = 0;
        for (Py_ssize_t bucket = area->span[each].first; bucket < area->span[each].end; bucket++) {
            total += words[area->start[each] + bucket];
            bits |= words[area->start[each] + bucket];
        }
        if (total != valid || bits >= 2 * at.most_records || reals[at.min + each] > reals[at.max + each])
            return 0;
    }
    if (!are_plausible(reals + at.sum, MEASURES) || !are_plausible(reals + at.min, MEASURES) ||
        !are_plausible(reals + at.max, MEASURES) || !are_plausible(reals + (at.latency_sum - skipped), at.seconds) ||
        !are_plausible(reals + (at.latency_max - skipped), at.seconds) || !(now >= 0.0 && now <= at.latest))
        return 0;
    uint64_t last = (uint64_t) (now + 1.0);
    int is_beyond = 0;
    for (Py_ssize_t place = 0; place < at.seconds; place++)
        is_beyond |= words[at.second - skipped + place] > last || words[at.requests - skipped + place] > known ||
                     words[at.second_errors - skipped + place] > words[at.errors];
    return !is_beyond;
}

/* Copy an area from shared memory, packed, with room for more records. Of each sketch only what is between its extremes: no
other bucket has ever been counted in. */
static void copy_packed(const Area *area, const uint64_t *words) {
    uint64_t *to = area->words;
    Py_ssize_t size = (Py_ssize_t) sizeof *words, after = at.sketch + area->skipped;
    memcpy(to + at.sketch, words + after, (size_t) ((at.end - after) * size));
    for (int each = 0; each < MEASURES; each++) {
        Span room = area->span[each];
        Span span = span_between(((const double *) to)[at.min + each], ((const double *) to)[at.max + each]);
        memset(to + area->start[each] + room.first, 0, (size_t) ((room.end - room.first) * size));
        if (room.first <= span.first && span.end <= room.end)
            memcpy(to + area->start[each] + span.first, words + at.sketch + each * at.buckets + span.first,
                   (size_t) ((span.end - span.first) * size));
    }
}

/* The buckets that have records of an area or of a batch. */
static Span both_of(const uint64_t *words, const Batch *batch, int each) {
    double least = ((const double *) words)[at.min + each], most = ((const double *) words)[at.max + each];
    if (batch->records > 0 && (words[at.valid] == 0 || batch->least[each] < least))
        least = batch->least[each];
    if (batch->records > 0 && (words[at.valid] == 0 || batch->most[each] > most))
        most = batch->most[each];
    return span_between(least, most);
}

PyObject *pack_area(const uint64_t *words, uint64_t known, const Record *rows, Py_ssize_t count, double now) {
    enum { MOST_HEAD = 64 };
    Py_ssize_t size = (Py_ssize_t) sizeof *words;
    uint64_t head[MOST_HEAD] = {0};
    Batch batch;
    batch.records = batch.invalid = batch.runs = 0;
    if (!is_told() || at.sketch > MOST_HEAD || (count > 0 && !add_up(&batch, rows, count)))
        return Py_NewRef(Py_None);
    if (known > 0)
        memcpy(head, words, (size_t) (at.sketch * size));
    Span spans[MEASURES];
    for (int each = 0; each < MEASURES; each++)
        spans[each] = both_of(head, &batch, each);
    Area area = area_of_spans(NULL, spans);
    PyObject *packed = PyByteArray_FromStringAndSize(NULL, area.size * size);
    if (packed == NULL)
        return NULL;
    area.words = (uint64_t *) PyByteArray_AS_STRING(packed);
    if (known > 0) {
        memcpy(area.words, head, (size_t) (at.sketch * size));
        copy_packed(&area, words);
    } else
        memset(area.words, 0, (size_t) (area.size * size));
    if (known > 0 && !can_be_right(&area, known, now)) {
        Py_DECREF(packed);
        return Py_NewRef(Py_None);
    }
    add_batch(&area, &batch);
    return packed;
}

/* `unpack(packed, area)`: fill an area that is 0. */
static PyObject *unpack(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer packed, whole;
    if (!PyArg_ParseTuple(args, "y*w*", &packed, &whole))
        return NULL;
    Area from, to;
    int is_right = find_area(&packed, 1, &from) && find_area(&whole, 0, &to);
    if (is_right) {
        size_t size = sizeof *to.words;
        Py_ssize_t after = at.sketch + MEASURES * at.buckets;
        memcpy(to.words, from.words, (size_t) at.sketch * size);
        memcpy(to.words + after, from.words + after - from.skipped, (size_t) (at.end - after) * size);
        for (int each = 0; each < MEASURES; each++)
            memcpy(to.words + to.start[each] + from.span[each].first, from.words + from.start[each] + from.span[each].first,
                   (size_t) (from.span[each].end - from.span[each].first) * size);
    }
    PyBuffer_Release(&packed);
    PyBuffer_Release(&whole);
    if (!is_right) {
        PyErr_SetString(PyExc_ValueError, "wanted a packed area, and one that is not");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* `_add_rows(folded, rows)`: an area, and an array of records. */
static PyObject *add_rows(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    int done = 0;
    if (count == 2 && keywords == NULL && is_told()) {
        View words = {NULL, 0, NULL};
        Batch batch;
        PyObject *area = attribute(args[0], &words_of_area);
        if (area == NULL)
            return NULL;
        view_set(&words, area, 'Q');
        Py_DECREF(area);
        done = words.start != NULL && words.count >= at.end && add_array(words.start, args[1], &batch);
        view_set(&words, NULL, '\0');
    }
    if (done)
        Py_RETURN_NONE;
    return slowly(self, &add_rows_slowly, args, count, keywords);
}

PyObject *add_tails(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Py_buffer areas;
    if (count != 2 || !PyList_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "wanted areas, and a list of the records of each");
        return NULL;
    }
    PyObject *left = PyList_New(0);
    if (left == NULL || PyObject_GetBuffer(args[0], &areas, PyBUF_WRITABLE) < 0) {
        Py_XDECREF(left);
        return NULL;
    }
    Py_ssize_t size = at.end * (Py_ssize_t) sizeof(uint64_t);
    Batch batch;
    for (Py_ssize_t each = 0; left != NULL && each < PyList_GET_SIZE(args[1]); each++)
        if (!is_told() || size == 0 || (each + 1) * size > areas.len ||
            !add_array((uint64_t *) ((char *) areas.buf + each * size), PyList_GET_ITEM(args[1], each), &batch)) {
            PyObject *index = PyLong_FromSsize_t(each);
            if (index == NULL || PyList_Append(left, index) < 0)
                Py_CLEAR(left);
            Py_XDECREF(index);
        }
    PyBuffer_Release(&areas);
    return left;
}

/* Words of area number `index` of a buffer of them; NULL for one that is not in it. */
static uint64_t *area_in(const Py_buffer *areas, Py_ssize_t index) {
    Py_ssize_t size = at.end * (Py_ssize_t) sizeof(uint64_t);
    if (size <= 0 || index < 0 || index >= areas->len / size || (uintptr_t) areas->buf % sizeof(uint64_t) != 0)
        return NULL;
    return (uint64_t *) areas->buf + index * at.end;
}

/* `doubtful(areas, folded_records, now)`: the indices of the areas that may have a flaw. */
static PyObject *doubtful(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer areas;
    PyObject *known;
    double now;
    if (!PyArg_ParseTuple(args, "y*O!d", &areas, &PyList_Type, &known, &now))
        return NULL;
    PyObject *found = PyList_New(0);
    for (Py_ssize_t each = 0; found != NULL && each < PyList_GET_SIZE(known); each++) {
        uint64_t *words = area_in(&areas, each);
        Area area = whole_area(words);
        Py_ssize_t count = as_index(PyList_GET_ITEM(known, each), PY_SSIZE_T_MAX);
        if (words != NULL && count >= 0 && can_be_right(&area, (uint64_t) count, now))
            continue;
        PyObject *index = PyLong_FromSsize_t(each);
        if (index == NULL || PyList_Append(found, index) < 0)
            Py_CLEAR(found);
        Py_XDECREF(index);
    }
    PyBuffer_Release(&areas);
    return found;
}

void add_area(uint64_t *restrict merged, const Area *area, int *is_first) {
    double *sums = (double *) merged;
    const uint64_t *words = area->words;
    const double *reals = (const double *) words;
    Py_ssize_t skipped = area->skipped;
    if (words[at.valid] > 0) {
        for (int each = 0; each < MEASURES; each++) {
            Py_ssize_t sum = at.sum + each, least = at.min + each, most = at.max + each;
            sums[sum] += reals[sum];
            sums[least] = *is_first ? reals[least] : lesser(sums[least], reals[least]);
            sums[most] = *is_first ? reals[most] : greater(sums[most], reals[most]);
            uint64_t *target = merged + at.sketch + each * at.buckets;
            for (Py_ssize_t bucket = area->span[each].first; bucket < area->span[each].end; bucket++)
                target[bucket] += words[area->start[each] + bucket];
        }
        *is_first = 0;
    }
    merged[at.valid] += words[at.valid];
    merged[at.invalid] += words[at.invalid];
    merged[at.errors] += words[at.errors];
    for (Py_ssize_t place = 0; place < at.seconds; place++) {
        Py_ssize_t second = at.second + place, requests = at.requests + place, errors = at.second_errors + place;
        Py_ssize_t latency = at.latency_sum + place, largest = at.latency_max + place;
        if (words[second - skipped] < merged[second])
            continue;
        if (words[second - skipped] > merged[second]) {
            merged[second] = words[second - skipped];
            merged[requests] = merged[errors] = 0;
            sums[latency] = sums[largest] = 0.0;
        }
        merged[requests] += words[requests - skipped];
        merged[errors] += words[errors - skipped];
        sums[latency] += reals[latency - skipped];
        sums[largest] = greater(sums[largest], reals[largest - skipped]);
    }
}

/* `add_areas(merged, areas, which)`: add those areas to an empty one. */
static PyObject *add_areas(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer merged, areas;
    PyObject *which;
    if (!PyArg_ParseTuple(args, "w*y*O!", &merged, &areas, &PyList_Type, &which))
        return NULL;
    uint64_t *target = area_in(&merged, 0);
    int is_first = 1;
    for (Py_ssize_t each = 0; each < PyList_GET_SIZE(which); each++) {
        uint64_t *words = area_in(&areas, as_index(PyList_GET_ITEM(which, each), PY_SSIZE_T_MAX));
        if (target == NULL || words == NULL) {
            PyErr_SetString(PyExc_IndexError, "there is no such area");
            break;
        }
        Area area = whole_area(words);
        add_area(target, &area, &is_first);
    }
    PyBuffer_Release(&areas);
    PyBuffer_Release(&merged);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    METHOD("_add_rows", add_rows, "folded, rows", "Add records to an area. See `folded.Folded`."), {0}};

LIFETIME(folding, 0, NULL, 0)

static PyType_Slot slots[] = {
    {Py_tp_methods, methods},       {Py_tp_traverse, folding_traverse},
    {Py_tp_clear, folding_clear},   {Py_tp_dealloc, folding_dealloc},
    {0},
};

static PyMethodDef functions[] = {
    {"doubtful", doubtful, METH_VARARGS,
     "The indices of those areas that may have a flaw, as areas of so many records each. See `folded`."},
    {"unpack", unpack, METH_VARARGS, "Make a packed area a whole one, which is 0 before. See `folded`."},
    {"add_areas", add_areas, METH_VARARGS, "Add those areas of these indices to an empty one. See `folded`."},
    {0},
};

int add_fold(PyObject *module) {
    PyTypeObject *type = add_type(module, "shmetrics._native.Folding", sizeof(PyObject), NULL, slots);
    return type == NULL ? -1 : PyModule_AddFunctions(module, functions);
}
