/* `copies`, in C: slots are brought home one by one, each by the steps that `Copier._bring` takes for all of them at once.

What is copied of a slot is checked and added up while it is still in the cache, and its folded area is packed: nine tenths
of it are buckets that nothing was ever counted in. Nothing in shared memory is trusted: where something lies follows from the
layout alone, of rows there are never more than a ring has, and a bucket is counted in only where there is room for it. A slot
that is odd in any way, because it has changed meanwhile, or cannot be right, is left to Python, which knows what to say.
*/

#include "writes.h"
#include <fcntl.h>
#include <math.h>
#include <time.h>

/* From `copies`, by `use_copies`: words of a slot, of parts of it, and what makes them impossible. */
static struct {
    Py_ssize_t state, generation, head, fold, errors, hits, misses, dropped, uncounted;
    Py_ssize_t owner, garbage, board, board_words, labels, ring, exemplars, exemplar_words, area_words, lock;
    unsigned long long free, claimed, most_events;
} at;

#define TURN 0.005 /* seconds: `sys.getswitchinterval()`, where nobody has changed it */
enum { MOST_OWNER = 64 }; /* words of an owner's entry */

/* Where the parts of one hub are, in words: of the segment, and of each slot and each copy of the retired area. */
typedef struct {
    Py_ssize_t slots, slot, capacity, window, folded, cells, exemplars, retired_index, retired, retired_copy;
} Place;

/* The types of what a slot is brought home as, and how numpy makes an array of bytes: `numpy.ndarray`, and the type of rows. */
typedef struct {
    PyObject *copy, *owner, *hot, *array, *row;
} Types;

enum { HOT_WORDS = 7 };

static inline uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

static inline void fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* Copy rows. Returns the latest of their times and `latest`; of what was copied, since the original may change. */
static double copy_rows(Record *target, const Record *source, Py_ssize_t count, double latest) {
    for (Py_ssize_t each = 0; each < count; each++) {
        memcpy(&target[each], &source[each], sizeof *target);
        double time = *(volatile double *) &target[each].time;
        latest = time > latest ? time : latest;
    }
    return latest;
}

/* Whether any of the words, which lie so many apart, is not 0. */
static int has_any(const uint64_t *words, Py_ssize_t count, Py_ssize_t apart) {
    uint64_t bits = 0;
    for (Py_ssize_t each = 0; each < count; each++)
        bits |= words[each * apart];
    return bits != 0;
}

/* As `slots.hot_flaw`: whether the hot words can be right. */
static int is_possible(const uint64_t *hot, Py_ssize_t capacity) {
    uint64_t folded = hot[1] >> 1;
    for (int each = 0; each < HOT_WORDS; each++)
        if (each != 1 && hot[each] >= at.most_events)
            return 0;
    return folded <= hot[0] && hot[0] - folded <= (uint64_t) capacity;
}

/* Bring the rows from number `first` to `head` into a buffer. Returns the latest of their times. */
static double bring_rows(Record *target, const uint64_t *slot, const Place *place, uint64_t first, uint64_t head) {
    Py_ssize_t count = (Py_ssize_t) (head - first), start = (Py_ssize_t) (first % (uint64_t) place->capacity);
    const Record *ring = (const Record *) (slot + at.ring);
    Py_ssize_t upper = count < place->capacity - start ? count : place->capacity - start;
    double latest = copy_rows(target, ring + start, upper, -INFINITY);
    return copy_rows(target + upper, ring, count - upper, latest);
}

/* As `copies.Owner`, from a private copy of an entry. */
static PyObject *owner_of(const uint64_t *entry, PyObject *type) {
    enum { INTEGERS = 5, TIMES = 3, FIELDS = INTEGERS + TIMES + 2 };
    PyObject *values[FIELDS], *counts = PyList_New(at.owner - at.garbage);
    for (int each = 0; each < INTEGERS; each++)
        values[each] = PyLong_FromUnsignedLongLong(entry[each]);
    for (int each = INTEGERS; each < INTEGERS + TIMES; each++)
        values[each] = PyFloat_FromDouble(((const double *) entry)[each]);
    const char *role = (const char *) (entry + INTEGERS + TIMES);
    Py_ssize_t length = (at.garbage - INTEGERS - TIMES) * (Py_ssize_t) sizeof *entry;
    while (length > 0 && role[length - 1] == '\0')
        length--;
    values[FIELDS - 2] = PyBytes_FromStringAndSize(role, length);
    for (Py_ssize_t each = 0; counts != NULL && each < at.owner - at.garbage; each++) {
        PyObject *count = PyLong_FromUnsignedLongLong(entry[at.garbage + each]);
        if (count == NULL)
            Py_CLEAR(counts);
        else
            PyList_SET_ITEM(counts, each, count);
    }
    values[FIELDS - 1] = counts;
    return named(type, values, FIELDS);
}

static PyObject *hot_of(const uint64_t *hot, PyObject *type) {
    PyObject *values[HOT_WORDS];
    for (int each = 0; each < HOT_WORDS; each++)
        values[each] = PyLong_FromUnsignedLongLong(hot[each]);
    return named(type, values, HOT_WORDS);
}

/* Rows as an array. */
static PyObject *array_of(PyObject *rows, const Types *types) {
    Py_ssize_t count = PyByteArray_GET_SIZE(rows) / (Py_ssize_t) sizeof(Record);
    return PyObject_CallFunction(types->array, "(n)OO", count, types->row, rows);
}

/* Private memory that is filled, and the arrays that it is of. */
typedef struct {
    uint64_t *board, *cells, *total; /* NULL where none is wanted */
    Record *rows; /* room for as many as a ring has */
    int *is_first; /* in the total */
    Py_ssize_t extent;
    PyObject *boards, *all_cells;
} Target;

/* What one slot says of itself. */
typedef struct {
    uint64_t state, generation, first, hot[HOT_WORDS], owner[MOST_OWNER];
    int has_board, has_exemplars, is_alive;
    PyObject *rows, *area; /* bytearrays: those of the window and the one before; packed */
} Facts;

/* Whether anybody holds the lock of a slot, as `locks.is_locked`; -1 and an exception where that cannot be found out. */
static int is_locked(int descriptor, Py_ssize_t byte) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(descriptor, F_OFD_GETLK, &lock) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return lock.l_type != F_UNLCK;
}

/* Bring one slot home, but for what Python makes of it: 1, or 0 for a slot that is odd, or -1 and an exception, which only
the clock raises, or lack of memory. */
static int bring(const uint64_t *segment, Py_ssize_t number, const Place *place, const Target *to, Facts *facts,
                 PyObject *clock) {
    const uint64_t *slot = segment + place->slots + number * place->slot;
    uint64_t state = load(slot + at.state), generation = load(slot + at.generation), fold = load(slot + at.fold);
    *facts = (Facts) {.state = state, .generation = generation};
    fence();
    /* Now, since by the time Python copies the retired area it may know the incarnation that is being claimed. */
    uint64_t index = load(segment + place->retired_index) & 1;
    uint64_t retired = load(segment + place->retired + (Py_ssize_t) index * place->retired_copy + number);
    memcpy(facts->owner, slot, (size_t) at.owner * sizeof *slot);
    facts->has_board = has_any(slot + at.board, at.labels, 1);
    if (facts->has_board)
        memcpy(to->board, slot + at.board, (size_t) at.board_words * sizeof *slot);
    memcpy(to->cells, slot + place->cells, (size_t) to->extent * sizeof *slot);
    facts->has_exemplars = has_any(slot + place->exemplars, at.exemplars, at.exemplar_words);
    fence();
    /* The commit word first: then the counters count no less than the records do. */
    const Py_ssize_t words[HOT_WORDS] = {at.head, at.fold, at.errors, at.hits, at.misses, at.dropped, at.uncounted};
    for (int each = 0; each < HOT_WORDS; each++)
        facts->hot[each] = load(slot + words[each]);
    uint64_t head = facts->hot[0], folded = facts->hot[1] >> 1, window = (uint64_t) place->window + 1;
    if ((state != at.free && state != at.claimed) || (state == at.free && generation != retired) ||
        fold != facts->hot[1] || !is_possible(facts->hot, place->capacity))
        return 0;
    uint64_t shown = head < window ? 0 : head - window, first = folded < shown ? folded : shown;
    facts->first = shown;
    facts->rows = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t) (head - shown) * (Py_ssize_t) sizeof(Record));
    if (facts->rows == NULL)
        return -1;
    Record *kept = (Record *) PyByteArray_AS_STRING(facts->rows), *rows = first == shown ? kept : to->rows;
    double latest = bring_rows(rows, slot, place, first, head), now;
    if (rows != kept)
        memcpy(kept, rows + (shown - first), (size_t) (head - shown) * sizeof *kept);
    fence();
    if (!read_clock(clock, &now)) /* it may run code of Python's, and take as long as it likes */
        return -1;
    fence();
    facts->area = pack_area(slot + place->folded + (Py_ssize_t) (fold & 1) * at.area_words, folded,
                            rows + (folded - first), (Py_ssize_t) (head - folded), now);
    if (facts->area == NULL)
        return -1;
    fence();
    uint64_t last = load(slot + at.head), capacity = (uint64_t) place->capacity;
    fence();
    if (state != load(slot + at.state) || generation != load(slot + at.generation) || fold != load(slot + at.fold) ||
        (last >= capacity && first <= last - capacity) || latest > now + 1.0 || facts->area == Py_None)
        return 0;
    return 1;
}

/* As `copies.SlotCopy`. */
static PyObject *copy_of(const Facts *facts, Py_ssize_t number, Py_ssize_t place, const Target *to, const Types *types) {
    enum { FIELDS = 13 };
    int is_added = to->total != NULL && facts->state == at.claimed && facts->hot[0] > 0;
    if (is_added) {
        Area area = packed_area((uint64_t *) PyByteArray_AS_STRING(facts->area));
        add_area(to->total, &area, to->is_first);
    }
    PyObject *values[FIELDS] = {NULL};
    int known = 0, failed = 0;
#define FIELD(VALUE) (failed = failed || (values[known++] = (VALUE)) == NULL)
    FIELD(PyLong_FromSsize_t(number));
    FIELD(PyBool_FromLong(facts->state == at.claimed));
    FIELD(PyBool_FromLong(facts->is_alive));
    FIELD(PyLong_FromUnsignedLongLong(facts->generation));
    FIELD(owner_of(facts->owner, types->owner));
    FIELD(hot_of(facts->hot, types->hot));
    FIELD(Py_NewRef(facts->area));
    FIELD(PyLong_FromUnsignedLongLong(facts->first));
    FIELD(array_of(facts->rows, types));
    FIELD(facts->has_board ? PySequence_GetItem(to->boards, place) : Py_NewRef(Py_None));
    FIELD(PySequence_GetItem(to->all_cells, place));
    FIELD(facts->has_exemplars ? Py_NewRef(Py_None) : PyTuple_New(0));
    FIELD(PyBool_FromLong(is_added));
#undef FIELD
    return named(types->copy, values, FIELDS);
}

/* Whether all that is looked at in a slot of this number is within the segment, and what is copied has room. */
static int is_within(const Place *place, Py_ssize_t number, Py_ssize_t extent, Py_ssize_t words) {
    const Py_ssize_t all[] = {place->slots, place->slot, place->folded, place->cells, place->exemplars,
                              place->retired_index, place->retired, place->retired_copy, extent, number};
    for (size_t each = 0; each < sizeof all / sizeof *all; each++)
        if (all[each] < 0 || all[each] > words)
            return 0;
    Py_ssize_t record = (Py_ssize_t) (sizeof(Record) / sizeof(uint64_t)), slot = place->slot;
    return at.area_words > 0 && place->capacity > 0 && place->capacity <= slot / record && place->window >= 0 &&
           place->window < place->capacity && slot > 0 && number < (words - place->slots) / slot &&
           at.ring + place->capacity * record <= slot && place->folded + 2 * at.area_words <= slot &&
           place->cells + extent <= slot && place->exemplars + at.exemplars * at.exemplar_words <= slot &&
           place->retired_index < words && place->retired + place->retired_copy + number < words;
}

/* Words of a buffer that has that many at least, each in its place; NULL otherwise. */
static uint64_t *words_in(const Py_buffer *buffer, Py_ssize_t count) {
    Py_ssize_t size = (Py_ssize_t) sizeof(uint64_t);
    return (uintptr_t) buffer->buf % sizeof(uint64_t) == 0 && buffer->len / size >= count ? buffer->buf : NULL;
}

/* Bring a slot home: its copy, or None where it is odd, or NULL and an exception. */
static PyObject *bring_one(const uint64_t *segment, Py_ssize_t number, Py_ssize_t index, const Place *place, const Target *to,
                           const Types *types, PyObject *clock, int descriptor) {
    Facts facts;
    PyObject *copy = NULL;
    int done = bring(segment, number, place, to, &facts, clock);
    /* Without a descriptor it was not claimed, when somebody looked whether locks have to be asked. */
    if (done == 0 || (done > 0 && facts.state == at.claimed && descriptor < 0))
        copy = Py_NewRef(Py_None);
    else if (done > 0 && (facts.state != at.claimed || (facts.is_alive = is_locked(descriptor, at.lock + number)) >= 0))
        copy = copy_of(&facts, number, index, to, types);
    Py_XDECREF(facts.rows);
    Py_XDECREF(facts.area);
    return copy;
}

/* As Python's own code, give signal handlers and other threads their turn, but not more often: 1, or 0 and an exception. */
static int take_turns(double *begun) {
    struct timespec time;
    if (clock_gettime(CLOCK_MONOTONIC, &time) < 0)
        return 1;
    double now = (double) time.tv_sec + 1e-9 * (double) time.tv_nsec;
    if (*begun == 0.0)
        *begun = now;
    if (now - *begun < TURN)
        return 1;
    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
    *begun = 0.0;
    return PyErr_CheckSignals() == 0;
}

/* What a call is given: memory that is read, arrays that are filled, and a total or None. */
enum { SEGMENT, BOARDS, CELLS, TOTAL, BUFFERS };

/* Bring all of the slots home: a list of their copies, or NULL and an exception. */
static PyObject *bring_all(PyObject *slots, const Place *place, const Types *types, PyObject *const *arrays,
                           const Py_buffer *buffers, PyObject *clock, int descriptor) {
    Py_ssize_t count = PyList_GET_SIZE(slots), words = buffers[SEGMENT].len / (Py_ssize_t) sizeof(uint64_t);
    Py_ssize_t extent = count > 0 ? buffers[CELLS].len / (Py_ssize_t) sizeof(double) / count : 0;
    uint64_t *segment = words_in(&buffers[SEGMENT], 0), *cells = words_in(&buffers[CELLS], 0);
    uint64_t *boards = words_in(&buffers[BOARDS], count * at.board_words), *total = NULL;
    if (arrays[TOTAL] != Py_None)
        total = words_in(&buffers[TOTAL], at.area_words);
    int is_right = segment != NULL && cells != NULL && boards != NULL && (total != NULL || arrays[TOTAL] == Py_None) &&
                   place->capacity > 0 && place->capacity <= words;
    Record *rows = is_right ? PyMem_Malloc((size_t) place->capacity * sizeof *rows) : NULL;
    int is_first = 1;
    double begun = 0.0;
    PyObject *found = is_right && rows == NULL ? PyErr_NoMemory() : PyList_New(0);
    for (Py_ssize_t each = 0; found != NULL && each < count; each++) {
        PyObject *copy = NULL;
        /* Of a list that the clock might change, one at a time. */
        Py_ssize_t number = each < PyList_GET_SIZE(slots) ? as_index(PyList_GET_ITEM(slots, each), PY_SSIZE_T_MAX) : -1;
        if (!is_right || number < 0 || !is_within(place, number, extent, words))
            PyErr_SetString(PyExc_ValueError, "wanted slots of a hub, and room for their copies");
        else {
            Target to = {boards + each * at.board_words, cells + each * extent, total, rows, &is_first, extent,
                         arrays[BOARDS], arrays[CELLS]};
            copy = bring_one(segment, number, each, place, &to, types, clock, descriptor);
        }
        if (copy == NULL || PyList_Append(found, copy) < 0 || !take_turns(&begun))
            Py_CLEAR(found);
        Py_XDECREF(copy);
    }
    PyMem_Free(rows);
    return found;
}

/* `bring(slots, place, clock, descriptor, types, memory, boards, cells, total)`: the copies, and None for those slots that are
odd. See `Copier._attempt_in_c`. */
static PyObject *bring_slots(PyObject *Py_UNUSED(module), PyObject *args) {
    Place place;
    Types types;
    PyObject *slots, *clock, *arrays[BUFFERS], *found = NULL;
    Py_buffer buffers[BUFFERS];
    int descriptor, taken = 0;
    if (!PyArg_ParseTuple(args, "O!(nnnnnnnnnn)Oi(OOOOO)OOOO", &PyList_Type, &slots, &place.slots, &place.slot,
                          &place.capacity, &place.window, &place.folded, &place.cells, &place.exemplars,
                          &place.retired_index, &place.retired, &place.retired_copy, &clock, &descriptor, &types.copy,
                          &types.owner, &types.hot, &types.array, &types.row, &arrays[SEGMENT], &arrays[BOARDS],
                          &arrays[CELLS], &arrays[TOTAL]))
        return NULL;
    int count = arrays[TOTAL] == Py_None ? TOTAL : BUFFERS;
    while (taken < count &&
           PyObject_GetBuffer(arrays[taken], &buffers[taken], taken == SEGMENT ? PyBUF_SIMPLE : PyBUF_WRITABLE) == 0)
        taken++;
    if (taken == count)
        found = bring_all(slots, &place, &types, arrays, buffers, clock, descriptor);
    while (taken > 0)
        PyBuffer_Release(&buffers[--taken]);
    return found;
}

static PyObject *use_copies(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords) {
    static char *names[] = {"state",     "generation", "head",    "fold",   "errors", "hits",      "misses",
                            "dropped",   "uncounted",  "owner",   "garbage", "board", "board_words", "labels",
                            "ring",      "exemplars",  "exemplar_words", "area_words", "lock", "free", "claimed",
                            "most_events", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$nnnnnnnnnnnnnnnnnnnKKK", names, &at.state, &at.generation, &at.head,
                                     &at.fold, &at.errors, &at.hits, &at.misses, &at.dropped, &at.uncounted, &at.owner,
                                     &at.garbage, &at.board, &at.board_words, &at.labels, &at.ring, &at.exemplars,
                                     &at.exemplar_words, &at.area_words, &at.lock, &at.free, &at.claimed,
                                     &at.most_events))
        return NULL;
    if (at.owner > MOST_OWNER || at.garbage > at.owner) {
        at.area_words = 0; /* so that no slot is one */
        PyErr_SetString(PyExc_TypeError, "so many words are no owner");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"bring", bring_slots, METH_VARARGS, "Bring slots home: their copies, and None for what is odd. See `copies`."},
    {"use_copies", (PyCFunction) (void (*)(void)) use_copies, METH_VARARGS | METH_KEYWORDS,
     "Say where the parts of a slot are: once, and before any is brought home."},
    {0},
};

int add_copies(PyObject *module) { return PyModule_AddFunctions(module, functions); }
