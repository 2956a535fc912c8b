/* What a folded area is like, and its buckets: for what adds to areas, and what looks at them. */

#ifndef SHMETRICS_AREAS_H
#define SHMETRICS_AREAS_H

#include "writes.h"
#include <math.h>

enum { MEASURES = 5, RAW = 4, TOTAL = 4 };

/* From `layout`, `folded` and `sketch`, by `use_fold`. Words of an area, and what a measure's bits are at most. */
typedef struct {
    Py_ssize_t valid, invalid, errors, sum, min, max, sketch, second, requests, second_errors, latency_sum, latency_max;
    Py_ssize_t seconds, buckets, end;
    unsigned long long surely_valid, most_records;
    double latest, largest_sum, limit;
    int shift;
    Py_ssize_t cell_before;
} AreaLayout;
extern AreaLayout at;
extern View lowest, upper; /* of `sketch.bucket_index`: the bucket of each cell's least value, and the bounds */

/* Whether all of it was told. */
static inline int is_told(void) { return memory_of(&lowest) != NULL && memory_of(&upper) != NULL; }

static inline uint64_t bits_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* As `sketch.bucket_index`. */
static inline Py_ssize_t bucket_of(double value) {
    Py_ssize_t cell = (Py_ssize_t) (bits_of(value) >> at.shift) - at.cell_before, last = lowest.count - 1;
    Py_ssize_t bucket = ((const Py_ssize_t *) lowest.start)[cell < 0 ? 0 : cell < last ? cell : last];
    return bucket + (value > ((const double *) upper.start)[bucket]);
}

/* The buckets that a measure between these extremes can have been counted in, whatever the extremes are: none, where they
cannot be right. */
Span span_between(double least, double most);

/* One whose sketches have only these buckets, in a row behind all else. */
Area area_of_spans(uint64_t *words, const Span *spans);

#endif
