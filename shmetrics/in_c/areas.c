/* Folded areas, in C: what they are like, whole or packed, as `folded` and `sketch` have it. */

#include "areas.h"

AreaLayout at;
View lowest, upper;

Span span_between(double least, double most) {
    if (!(least <= most))
        return (Span) {0, 0};
    /* A zero may be one below zero, whose bits are not those of the least then. */
    return (Span) {least > 0.0 ? bucket_of(least) : 0, (most > 0.0 ? bucket_of(most) : 0) + 1};
}

Area whole_area(uint64_t *words) {
    Area area = {words, 0, at.end, {0}, {{0, 0}}};
    for (int each = 0; each < MEASURES; each++) {
        area.start[each] = at.sketch + each * at.buckets;
        area.span[each] = (Span) {0, at.buckets};
    }
    return area;
}

Area area_of_spans(uint64_t *words, const Span *spans) {
    Py_ssize_t skipped = MEASURES * at.buckets;
    Area area = {words, skipped, at.end - skipped, {0}, {{0, 0}}};
    for (int each = 0; each < MEASURES; each++) {
        area.span[each] = spans[each];
        area.start[each] = area.size - spans[each].first;
        area.size += spans[each].end - spans[each].first;
    }
    return area;
}

Area packed_area(uint64_t *words) {
    Span spans[MEASURES];
    for (int each = 0; each < MEASURES; each++)
        spans[each] = span_between(((double *) words)[at.min + each], ((double *) words)[at.max + each]);
    return area_of_spans(words, spans);
}

int find_area(const Py_buffer *buffer, int is_packed, Area *area) {
    Py_ssize_t words = buffer->len / (Py_ssize_t) sizeof(uint64_t);
    if (!is_told() || at.end <= 0 || words < at.end - MEASURES * at.buckets || (uintptr_t) buffer->buf % sizeof(uint64_t) != 0)
        return 0;
    *area = is_packed ? packed_area(buffer->buf) : whole_area(buffer->buf);
    return area->size == words;
}

PyObject *use_fold(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords) {
    static char *names[] = {"valid",        "invalid",      "errors",        "sum",         "min",
                            "max",          "sketch",       "second",        "requests",    "second_errors",
                            "latency_sum",  "latency_max",  "seconds",       "buckets",     "end",
                            "surely_valid", "most_records", "latest",        "largest_sum", "limit",
                            "shift",        "cell_before",  "lowest",       "upper",       NULL};
    PyObject *cells, *bounds;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$nnnnnnnnnnnnnnnKKdddinOO", names, &at.valid, &at.invalid,
                                     &at.errors, &at.sum, &at.min, &at.max, &at.sketch, &at.second, &at.requests,
                                     &at.second_errors, &at.latency_sum, &at.latency_max, &at.seconds, &at.buckets,
                                     &at.end, &at.surely_valid, &at.most_records, &at.latest, &at.largest_sum, &at.limit,
                                     &at.shift, &at.cell_before, &cells, &bounds))
        return NULL;
    view_set(&lowest, cells, 'l');
    view_set(&upper, bounds, 'd');
    Py_RETURN_NONE;
}
