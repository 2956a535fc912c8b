/* `percentiles`, in C: the values that would be in certain places if they were sorted, without sorting them.

Values are told apart by their bits, which are in the order of numbers from 0 up: first by the leading bits in which they
differ, then, only where a wanted place is, by those that follow.
*/

#include "writes.h"

enum { BUCKETS = 1024, FEW = 24, MOST_RANKS = 16 };

/* Put few keys in order. */
static void sort(uint64_t *keys, Py_ssize_t count) {
    for (Py_ssize_t at = 1; at < count; at++) {
        uint64_t key = keys[at];
        Py_ssize_t place = at;
        for (; place > 0 && keys[place - 1] > key; place--)
            keys[place] = keys[place - 1];
        keys[place] = key;
    }
}

/* Keys, and the least and the largest of them. */
typedef struct {
    uint64_t *keys, least, most;
    Py_ssize_t count;
} Keys;

static inline void add(Keys *keys, uint64_t key) {
    keys->keys[keys->count++] = key;
    keys->least = key < keys->least ? key : keys->least;
    keys->most = key > keys->most ? key : keys->most;
}

/* Find the keys at ascending `ranks`. `room` is for as many keys again; what is in `keys` may change its place. */
static void pick(Keys all, uint64_t *room, const Py_ssize_t *ranks, int wanted, uint64_t *found) {
    uint64_t *keys = all.keys, least = all.least;
    Py_ssize_t count = all.count;
    if (least == all.most) {
        for (int each = 0; each < wanted; each++)
            found[each] = least;
        return;
    }
    if (count <= FEW) {
        sort(keys, count);
        for (int each = 0; each < wanted; each++)
            found[each] = keys[ranks[each]];
        return;
    }
    int shift = 0;
    while ((all.most - least) >> shift >= BUCKETS)
        shift++;
    uint32_t counts[BUCKETS] = {0};
    for (Py_ssize_t at = 0; at < count; at++)
        counts[(keys[at] - least) >> shift]++;
    /* The buckets that have a wanted rank, and where in `room` their keys go. */
    uint8_t group_of[BUCKETS] = {0};
    Keys group[MOST_RANKS];
    Py_ssize_t before[MOST_RANKS], below = 0, used = 0;
    int groups = 0, first[MOST_RANKS + 1], each = 0;
    for (Py_ssize_t bucket = 0; each < wanted; below += counts[bucket++]) {
        if (ranks[each] >= below + (Py_ssize_t) counts[bucket])
            continue;
        first[groups] = each;
        while (each < wanted && ranks[each] < below + (Py_ssize_t) counts[bucket])
            each++;
        group[groups] = (Keys) {room + used, UINT64_MAX, 0, 0};
        before[groups] = below;
        used += counts[bucket];
        group_of[bucket] = (uint8_t) ++groups;
    }
    first[groups] = wanted;
    for (Py_ssize_t at = 0; at < count; at++) {
        int number = group_of[(keys[at] - least) >> shift];
        if (number > 0)
            add(&group[number - 1], keys[at]);
    }
    for (int number = 0; number < groups; number++) {
        Py_ssize_t inner[MOST_RANKS];
        int members = first[number + 1] - first[number];
        for (int member = 0; member < members; member++)
            inner[member] = ranks[first[number] + member] - before[number];
        pick(group[number], keys, inner, members, found + first[number]); /* `keys` are no longer needed */
    }
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
    uint64_t *keys = is_right ? PyMem_Malloc(2 * (size_t) count * sizeof(uint64_t)) : NULL;
    if (!is_right)
        PyErr_SetString(PyExc_ValueError, "wanted rows of numbers, and ascending ranks in them");
    else if (keys == NULL)
        PyErr_NoMemory();
    else
        found = PyByteArray_FromStringAndSize(NULL, values / count * wanted * (Py_ssize_t) sizeof(double));
    for (Py_ssize_t row = 0; found != NULL && row < values / count; row++) {
        const double *numbers = (const double *) rows.buf + row * count;
        Keys all = {keys, UINT64_MAX, 0, 0};
        for (Py_ssize_t at = 0; at < count; at++) {
            double number = numbers[at] + 0.0; /* there is a zero below 0.0 otherwise */
            uint64_t key;
            memcpy(&key, &number, sizeof key);
            add(&all, key);
        }
        pick(all, keys + count, ranks, (int) wanted, (uint64_t *) PyByteArray_AS_STRING(found) + row * wanted);
    }
    PyMem_Free(keys);
    PyBuffer_Release(&rows);
    return found;
}

static PyMethodDef functions[] = {
    {"at_ranks", at_ranks, METH_VARARGS, "What would be in certain places of each row if it were sorted. See `percentiles`."},
    {0},
};

int add_ranks(PyObject *module) { return PyModule_AddFunctions(module, functions); }
