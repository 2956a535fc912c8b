/* `percentiles`, in C: the values that would be in certain places if they were sorted, without sorting them.

Values are told apart by their bits, which are in the order of numbers from 0 up: first by the leading bits in which they
differ, then, only where a wanted place is, by those that follow.
*/

#include "writes.h"

enum { BUCKETS = 1024, FEW = 24, MOST_RANKS = 16, LANES = 8 };

/* Keys, and the least and the largest of them. */
typedef struct {
    const uint64_t *keys;
    Py_ssize_t count;
    uint64_t least, most;
} Keys;

/* Valid numbers have no sign, but for a zero below 0.0, which is one all the same. */
static inline uint64_t key_of(uint64_t bits) { return bits & ~(UINT64_C(1) << 63); }

/* The last bucket for whatever is no valid number, which nobody should give. */
static inline Py_ssize_t bucket_of(uint64_t key, const Keys *all, int shift) {
    uint64_t bucket = (key - all->least) >> shift;
    return (Py_ssize_t) (bucket < BUCKETS ? bucket : BUCKETS - 1);
}

/* Find few of few keys. */
static void pick_of_few(Keys all, const Py_ssize_t *ranks, int wanted, uint64_t *found) {
    uint64_t sorted[FEW];
    for (Py_ssize_t at = 0; at < all.count; at++) {
        uint64_t key = key_of(all.keys[at]);
        Py_ssize_t place = at;
        for (; place > 0 && sorted[place - 1] > key; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = key;
    }
    for (int each = 0; each < wanted; each++)
        found[each] = sorted[ranks[each]];
}

/* Find the keys at ascending `ranks`. `room` and `spare` are for as many keys each. */
static void pick(Keys all, uint64_t *room, uint64_t *spare, const Py_ssize_t *ranks, int wanted, uint64_t *found) {
    if (all.count <= FEW) {
        pick_of_few(all, ranks, wanted, found);
        return;
    }
    if (all.least == all.most) {
        for (int each = 0; each < wanted; each++)
            found[each] = all.least;
        return;
    }
    int shift = 0;
    while ((all.most - all.least) >> shift >= BUCKETS)
        shift++;
    uint32_t counts[BUCKETS] = {0};
    for (Py_ssize_t at = 0; at < all.count; at++)
        counts[bucket_of(key_of(all.keys[at]), &all, shift)]++;
    /* The buckets that have a wanted rank, and where in `room` their keys go. */
    struct {
        uint64_t *keys, least, most;
        Py_ssize_t count, before;
        int first;
    } group[MOST_RANKS];
    uint8_t group_of[BUCKETS] = {0};
    Py_ssize_t below = 0, used = 0;
    int groups = 0, each = 0;
    for (Py_ssize_t bucket = 0; each < wanted; below += counts[bucket++]) {
        Py_ssize_t above = below + (Py_ssize_t) counts[bucket];
        if (ranks[each] >= above)
            continue;
        group[groups].keys = room + used;
        group[groups].least = UINT64_MAX;
        group[groups].most = 0;
        group[groups].count = 0;
        group[groups].before = below;
        group[groups].first = each;
        while (each < wanted && ranks[each] < above)
            each++;
        used += counts[bucket];
        group_of[bucket] = (uint8_t) ++groups;
    }
    for (Py_ssize_t at = 0; at < all.count; at++) {
        uint64_t key = key_of(all.keys[at]);
        int number = group_of[bucket_of(key, &all, shift)] - 1;
        if (number < 0)
            continue;
        group[number].keys[group[number].count++] = key;
        group[number].least = key < group[number].least ? key : group[number].least;
        group[number].most = key > group[number].most ? key : group[number].most;
    }
    for (int number = 0; number < groups; number++) {
        Py_ssize_t inner[MOST_RANKS];
        int first = group[number].first, members = (number + 1 < groups ? group[number + 1].first : wanted) - first;
        for (int member = 0; member < members; member++)
            inner[member] = ranks[first + member] - group[number].before;
        Keys mine = {group[number].keys, group[number].count, group[number].least, group[number].most};
        pick(mine, spare, group[number].keys, inner, members, found + first);
    }
}

/* All of a row, whose least and largest are found as numbers, since processors are quicker with those. */
static Keys keys_of(const double *numbers, Py_ssize_t count) {
    double least[LANES], most[LANES];
    for (int lane = 0; lane < LANES; lane++)
        least[lane] = most[lane] = numbers[0];
    for (Py_ssize_t at = 0; at < count; at += LANES) {
        Py_ssize_t from = at + LANES <= count ? at : count > LANES ? count - LANES : 0;
        for (int lane = 0; lane < LANES && lane < count; lane++) {
            double number = numbers[from + lane];
            least[lane] = number < least[lane] ? number : least[lane];
            most[lane] = number > most[lane] ? number : most[lane];
        }
    }
    for (int lane = 1; lane < LANES; lane++) {
        least[0] = least[lane] < least[0] ? least[lane] : least[0];
        most[0] = most[lane] > most[0] ? most[lane] : most[0];
    }
    Keys all = {(const uint64_t *) numbers, count, 0, 0};
    memcpy(&all.least, least, sizeof all.least);
    memcpy(&all.most, most, sizeof all.most);
    all.least = key_of(all.least);
    all.most = key_of(all.most);
    return all;
}

/* `at_ranks(rows, count, ranks)`: of each row of `count` valid numbers a row with those at the ranks, in a bytearray. */
static PyObject *at_ranks(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer rows;
    PyObject *given, *found = NULL;
    Py_ssize_t count, ranks[MOST_RANKS];
    if (!PyArg_ParseTuple(args, "y*nO!", &rows, &count, &PyList_Type, &given))
        return NULL;
    Py_ssize_t wanted = PyList_GET_SIZE(given), values = rows.len / (Py_ssize_t) sizeof(double);
    int is_right = count > 0 && count <= UINT32_MAX && values % count == 0 && wanted > 0 && wanted <= MOST_RANKS &&
                   (uintptr_t) rows.buf % sizeof(double) == 0;
    for (Py_ssize_t each = 0; is_right && each < wanted; each++) {
        ranks[each] = as_index(PyList_GET_ITEM(given, each), count);
        is_right = ranks[each] >= (each > 0 ? ranks[each - 1] : 0);
    }
    uint64_t *room = is_right ? PyMem_Malloc(2 * (size_t) count * sizeof(uint64_t)) : NULL;
    if (!is_right)
        PyErr_SetString(PyExc_ValueError, "wanted rows of numbers, and ascending ranks in them");
    else if (room == NULL)
        PyErr_NoMemory();
    else
        found = PyByteArray_FromStringAndSize(NULL, values / count * wanted * (Py_ssize_t) sizeof(double));
    for (Py_ssize_t row = 0; found != NULL && row < values / count; row++) {
        Keys all = keys_of((const double *) rows.buf + row * count, count);
        uint64_t *target = (uint64_t *) PyByteArray_AS_STRING(found) + row * wanted;
        pick(all, room, room + count, ranks, (int) wanted, target);
    }
    PyMem_Free(room);
    PyBuffer_Release(&rows);
    return found;
}

static PyMethodDef functions[] = {
    {"at_ranks", at_ranks, METH_VARARGS, "What would be in certain places of each row if it were sorted. See `percentiles`."},
    {0},
};

int add_ranks(PyObject *module) { return PyModule_AddFunctions(module, functions); }
