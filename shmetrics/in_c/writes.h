/* What the parts of the module in C have in common: how they leave things to Python, and how they look at memory.

The rules that all of them keep are told in module.c.
*/

#ifndef SHMETRICS_WRITES_H
#define SHMETRICS_WRITES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#ifdef Py_GIL_DISABLED
#error "these writes are whole because no other thread runs; without the GIL those in Python are used"
#endif

/* The order of stores: one that commits something comes after all stores before it. */

static inline void commit(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

static inline void store(double *cell, double value) { __atomic_store(cell, &value, __ATOMIC_RELEASE); }

/* Views: memory that an attribute's memoryview is of ---------------------------------------------------------------

Where it is, is looked up when the attribute is set, since a memoryview is spread over five cache lines; of these only
one is looked at afterwards, whether it was released. `start` is NULL for what is no memoryview of such numbers, as the
fenced words of strict mode are not. (To export the memory instead would do without that look. But the collector
releases the memoryviews of a cycle before what holds their exports, and CPython fails then.)
*/
typedef struct {
    void *start;
    Py_ssize_t count;
    PyObject *object;
} View;

static inline void *memory_of(const View *view) {
    if (view->start == NULL || ((PyMemoryViewObject *) view->object)->flags & _Py_MEMORYVIEW_RELEASED)
        return NULL;
    return view->start;
}

PyObject *view_get(View *view, const char *name);
int view_set(View *view, PyObject *object, char format);

/* Attributes of type View: `static` functions NAME_get and NAME_set, for a getset table. */
#define VIEW(NAME, TYPE, FIELD, FORMAT)                                                                                \
    static PyObject *NAME##_get(PyObject *self, void *name) { return view_get(&((TYPE *) self)->FIELD, name); }        \
    static int NAME##_set(PyObject *self, PyObject *object, void *name) {                                              \
        (void) name;                                                                                                   \
        return view_set(&((TYPE *) self)->FIELD, object, FORMAT);                                                      \
    }

/* What a type's objects hold ----------------------------------------------------------------------------------------

Plain references come first in each struct, then views; so that one piece of code looks after all types.
*/
int visit_held(PyObject *self, int objects, View *views, int count, visitproc visit, void *arg);
void let_go(PyObject *self, int objects, View *views, int count);

#define HOLDING(NAME, OBJECTS, FIRST_VIEW, VIEWS)                                                                      \
    static int NAME##_traverse(PyObject *self, visitproc visit, void *arg) {                                           \
        return visit_held(self, OBJECTS, FIRST_VIEW, VIEWS, visit, arg);                                               \
    }                                                                                                                  \
    static int NAME##_clear(PyObject *self) {                                                                          \
        let_go(self, OBJECTS, FIRST_VIEW, VIEWS);                                                                      \
        return 0;                                                                                                      \
    }

#define LIFETIME(NAME, OBJECTS, FIRST_VIEW, VIEWS)                                                                     \
    HOLDING(NAME, OBJECTS, FIRST_VIEW, VIEWS)                                                                          \
    static void NAME##_dealloc(PyObject *self) {                                                                       \
        PyTypeObject *type = Py_TYPE(self);                                                                            \
        PyObject_GC_UnTrack(self);                                                                                     \
        let_go(self, OBJECTS, FIRST_VIEW, VIEWS);                                                                      \
        type->tp_free(self);                                                                                           \
        Py_DECREF(type);                                                                                               \
    }

/* Methods ----------------------------------------------------------------------------------------------------------- */

#define METHOD(NAME, FUNCTION, PARAMETERS, DOC)                                                                        \
    {NAME, (PyCFunction) (void (*)(void)) FUNCTION, METH_FASTCALL | METH_KEYWORDS,                                     \
     NAME "($self, " PARAMETERS ")\n--\n\n" DOC}
#define OBJECT(NAME, TYPE, FIELD) {NAME, T_OBJECT_EX, offsetof(TYPE, FIELD), 0, NULL}

/* As PyObject_TypeCheck. What is used is of a class that is next to C's, or to one that is next to that, which a call and a
look at its bases are saved for. */
static inline int is_of(PyObject *object, PyTypeObject *type) {
    PyTypeObject *base = Py_TYPE(object)->tp_base;
    return base == type || (base != NULL && base->tp_base == type) || PyObject_TypeCheck(object, type);
}

/* What a bound method of C's is bound to, if it is that very function, of an object of that type; NULL otherwise. */
static inline PyObject *bound_to(PyObject *method, PyTypeObject *type, const void *function) {
    if (method == NULL || !PyCFunction_Check(method) || (const void *) PyCFunction_GET_FUNCTION(method) != function)
        return NULL;
    PyObject *self = PyCFunction_GET_SELF(method);
    return self != NULL && is_of(self, type) ? self : NULL;
}

/* The name of an attribute, or of a method of Python's that is called where that in C does nothing. */
typedef struct {
    const char *text;
    PyObject *name; /* made when it is first wanted */
} Name;

/* A new reference, as `getattr` gives it. */
PyObject *attribute(void *self, Name *name);

/* Call the method in Python with the same arguments. */
PyObject *slowly(void *self, Name *method, PyObject *const *args, Py_ssize_t count, PyObject *keywords);

/* The exception that is set, which is not set then: as `except` has it, an object with its traceback. */
void fetch_raised(PyObject **kind, PyObject **error, PyObject **trace);

/* A named tuple, of values that it takes over; NULL where any of them is. */
PyObject *named(PyObject *type, PyObject **values, Py_ssize_t count);

PyTypeObject *add_type(PyObject *module, const char *name, size_t size, PyTypeObject *base, PyType_Slot *slots);

/* Texts ------------------------------------------------------------------------------------------------------------- */

static inline int is_ascii(PyObject *text) { return PyUnicode_CheckExact(text) && PyUnicode_IS_COMPACT_ASCII(text); }

static inline int is_empty(PyObject *text) {
    return text != NULL && PyUnicode_CheckExact(text) && PyUnicode_GET_LENGTH(text) == 0;
}

/* Whether both are the same ASCII text. */
int is_same_text(PyObject *text, PyObject *other);

/* Whether both are the same object, or the same ASCII text. */
static inline int is_same(PyObject *text, PyObject *other) { return text == other || is_same_text(text, other); }

/* Where an interned text is kept, and what it says. */
typedef struct {
    PyObject **kept;
    const char *says;
} Text;

/* Make them, up to one of NULL: 0, or -1 and an exception. */
int intern(const Text *texts);

/* Numbers ----------------------------------------------------------------------------------------------------------- */

/* Whether it is a number, which nothing has to be asked for. */
static inline int as_double(PyObject *object, double *number) {
    if (PyFloat_Check(object)) {
        *number = PyFloat_AS_DOUBLE(object);
        return 1;
    }
    if (!PyLong_CheckExact(object))
        return 0;
    *number = PyLong_AsDouble(object);
    if (*number == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

/* As numpy's: what is no number stays. */
static inline double lesser(double one, double other) { return one < other || one != one ? one : other; }
static inline double greater(double one, double other) { return one > other || one != one ? one : other; }

/* An index as it is kept, from 0 to `limit` - 1; -1 for anything else. */
static inline Py_ssize_t as_index(PyObject *object, Py_ssize_t limit) {
    if (object == NULL || !PyLong_CheckExact(object))
        return -1;
#if PY_VERSION_HEX < 0x030C0000
    Py_ssize_t index = Py_SIZE(object) == 1 ? (Py_ssize_t) ((PyLongObject *) object)->ob_digit[0] : PyLong_AsSsize_t(object);
#else
    Py_ssize_t index = PyUnstable_Long_IsCompact((PyLongObject *) object)
                           ? PyUnstable_Long_CompactValue((PyLongObject *) object)
                           : PyLong_AsSsize_t(object);
#endif
    if (index < 0 && PyErr_Occurred())
        PyErr_Clear();
    return index < limit ? index : -1;
}

/* What a clock says, before anything is looked at: it may be a function of Python's. 0 where it raised. The monotonic clock
is read without Python, and to the same number. */
int read_clock(PyObject *clock, double *now);

/* layout.RECORD */
typedef struct {
    double time, inference, batch, preprocessing, quantization;
    uint64_t errors, hits, misses;
} Record;
_Static_assert(sizeof(Record) == 64, "a record is one cache line");

/* The parts --------------------------------------------------------------------------------------------------------- */

/* As many places as are ever looked at here, whatever the board has. */
enum { PLACES = 64 };

/* See `tickets.c`. */
typedef struct {
    PyObject_HEAD
    PyObject *others; /* a dict: the places of tickets that are at none of these */
    unsigned long long drawn, at[PLACES]; /* the last ticket that was drawn; the ticket at each place, or 0 */
    Py_ssize_t seated;
} Tickets;

/* A ticket as a request has it: where C gave it, its number and its place, and no object. */
typedef struct {
    PyObject *object;
    unsigned long long number;
    Py_ssize_t place;
} Ticket;

typedef struct {
    PyObject_HEAD
    PyObject *open, *free, *shown, *texts, *crowd, *clock;
    double busy, next_second;
    View starts, labels, words;
} Board;

typedef struct {
    PyObject_HEAD
    PyObject *pending, *clock, *board, *take;
    PyObject *token; /* the list that `take` is the `pop` of */
    unsigned long long advance_at;
    Py_ssize_t mask;
    View words, ring, cells;
} Writer;

typedef struct {
    PyObject_HEAD
    PyObject *writer, *clock, *cells, *bounds;
    PyObject *limits; /* `bounds` as C has numbers, in a bytes object */
    View in_catalog;
    long long serial;
    Py_ssize_t first, count; /* of the cells its own begin at; of limits */
} Instrument;

typedef struct {
    PyObject_HEAD
    PyObject *recorder, *clock, *enter, *complete, *kinds, *request_class;
    PyObject *board, *writer; /* those that `enter` and `complete` are the methods of, where these are C's */
    PyObject *of, *method, *code, *route, *kind; /* what the last request was: see `kind_of` */
} Source;

typedef struct {
    PyObject_HEAD
    PyObject *source, *recorder, *before, *ticket, *method, *code, *route, *first_byte;
    PyObject *said; /* its __dict__, which hardly any request needs */
    double start, elapsed;
    unsigned long long number; /* see `Ticket` */
    Py_ssize_t place;
    char done, is_plain;
} Request;

/* See `bound.c`. */
typedef struct Ahead {
    PyObject_HEAD
    PyObject *function, *source, *fact;
    vectorcallfunc call;
    PyObject *(*whole)(struct Ahead *self, PyObject *middleware, PyObject *const *args); /* what a call of that does */
    Py_ssize_t takes;  /* so many arguments */
    const void *owner; /* the middleware that told it, to be known again; a copy of that is another */
    int skips; /* some requests, maybe */
} Ahead;

/* See `middleware.c`. */
typedef struct {
    PyObject_HEAD
    PyObject *app, *ahead;
    vectorcallfunc call; /* NULL where Python does it */
} Middleware;

typedef struct {
    PyObject_HEAD
    PyObject *function, *request, *channel, *scope, *raises;
    PyObject *weak; /* references to it */
    vectorcallfunc call;
} Bound;

extern PyTypeObject *BoardType, *TicketsType, *WriterType, *InstrumentType, *SourceType, *RequestType;

/* Words of a slot, the busy word of a board, and the bytes of a label: from `layout`, by `use_layout`. */
extern Py_ssize_t HEAD, ERRORS, CACHE_HITS, CACHE_MISSES, BUSY, LABEL_BYTES;

int add_tickets(PyObject *module);
int add_board(PyObject *module);
int add_writer(PyObject *module);
int add_instruments(PyObject *module);
int add_source(PyObject *module);
int add_request(PyObject *module);
int add_bound(PyObject *module);
int add_middleware(PyObject *module);
int add_asgi(void);
int add_served(PyObject *module);
int add_wsgi(void);
int add_fold(PyObject *module);
int add_calls(PyObject *module);
int add_window(PyObject *module);
int add_numbers(PyObject *module);
int add_seconds(PyObject *module);
int add_ranks(PyObject *module);
int add_copies(PyObject *module);
int add_cells(PyObject *module);
int add_merge(PyObject *module);
int add_process(PyObject *module);
int add_walk(PyObject *module);
PyObject *use_asgi(PyObject *module, PyObject *args, PyObject *keywords);
PyObject *use_wsgi(PyObject *module, PyObject *args, PyObject *keywords);
PyObject *begin_asgi(PyObject *module, PyObject *facts);
PyObject *use_served(PyObject *module, PyObject *args, PyObject *keywords);
PyObject *serve_wsgi(PyObject *module, PyObject *facts);
PyObject *use_context(PyObject *module, PyObject *variable);
PyObject *call_directly(PyObject *module, PyObject *type);
PyObject *use_fold(PyObject *module, PyObject *args, PyObject *keywords);
PyObject *add_tails(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *use_calls(PyObject *module, PyObject *args, PyObject *keywords);

/* Folded areas: `layout.FOLDED`, or the same packed: without those buckets of each sketch that are not between the extremes
of its measure, which have never been counted in; and these are behind all else. */
typedef struct {
    Py_ssize_t first, end;
} Span;

typedef struct {
    uint64_t *words;
    Py_ssize_t skipped, size; /* how many words its seconds are before where they are in FOLDED; and how many it has */
    Py_ssize_t start[5];      /* of each measure, where bucket 0 is, or would be */
    Span span[5];             /* and which buckets there are */
} Area;

Area whole_area(uint64_t *words);
Area packed_area(uint64_t *words);

/* What a buffer holds, packed or not, which its size does not tell; whether it does. */
int find_area(const Py_buffer *buffer, int is_packed, Area *area);

/* A bytearray with an area from shared memory in which so many records are folded, and with the rows that are not, packed;
None where that is left to Python: the area cannot be right, or a row is not valid. */
PyObject *pack_area(const uint64_t *words, uint64_t known, const Record *rows, Py_ssize_t count, double now);

/* Add an area to what others came to, which begins as nothing: as `folded.merge`. `is_first`: whether none before had any
valid records. */
void add_area(uint64_t *restrict merged, const Area *area, int *is_first);

/* Which requests are in flight, and at which places. Only a ticket at its place is taken from it. */
int has_seat(Tickets *tickets, unsigned long long number, Py_ssize_t place);
int seat(Tickets *tickets, unsigned long long number, Py_ssize_t place);
void unseat(Tickets *tickets, Py_ssize_t place);
Py_ssize_t in_flight(Tickets *tickets);
/* Where that ticket is; -1 if at none of the places here. */
Py_ssize_t place_of(Tickets *tickets, PyObject *ticket);

/* Show a request as ``METHOD PATH``: whether it did. */
int enter_request(Board *board, PyObject *method, PyObject *path, double now, Ticket *ticket);

/* Take a request off the board; whether it did. */
int leave(Board *board, const Ticket *ticket, double now);

/* A ticket as Python has it: a new reference. NULL with an exception, if only for want of memory. */
PyObject *ticket_object(const Ticket *ticket);
extern Name leave_slowly;

/* The functions behind two methods, by which these are known again. */
PyObject *board_enter(Board *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords);
PyObject *writer_complete(Writer *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords);

/* A request's end, but for what others queued meanwhile: 1, or 0 where it is left to Python, or -1: it raised. */
int complete(Writer *writer, const Ticket *ticket, double now, const double measures[4], PyObject *durations,
             double duration);

/* What requests of this one's kind have in common; NULL, with or without an exception, where it is not known yet. */
PyObject *kind_of(Source *source, Request *request);

/* Whether it is of the very class that `native.in_front` made, so that no method of C's has another before it. */
static inline int is_plain_source(PyObject *source) { return source != NULL && Py_TYPE(source)->tp_base == SourceType; }

/* Whether a call that has all arguments is of the middleware that told its facts, and of a plain dict. */
static inline int is_for_c(Ahead *ahead, PyObject *const *args, int has_all) {
    return has_all && !ahead->skips && args[0] == ahead->owner && is_plain_source(ahead->source) &&
           PyDict_CheckExact(args[1]);
}

/* Whether a request is of the very class that `native.in_front` made, and has no attribute of its own either. */
static inline int is_plain_request(PyObject *request) {
    return Py_TYPE(request)->tp_base == RequestType && ((Request *) request)->said == NULL;
}

/* A request begins, as its `begin` has it: whether it did. */
int begin_request(PyObject *request);

/* A request's route is this attribute, where that is a text, and there is none where it is not. Whether that is known: 0
where it raised, and for a text of its own class, which is left to Python. */
int name_route(Request *request, PyObject *of, Name *name);

/* What `request.c` and `source.c` have for middlewares. */
PyObject *source_request(Source *source, PyObject *const *args, Py_ssize_t count, PyObject *keywords);
PyObject *new_request(PyTypeObject *type, Source *source, PyObject *method, PyObject *path);
PyObject *finish(Request *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords);

/* Whether no write of this process is under way: see `exclusion`. */
static inline int has_token(Writer *writer) { return writer->token != NULL && PyList_GET_SIZE(writer->token) == 1; }

/* After a write: perform what others queued meanwhile. */
PyObject *end_write(Writer *writer);

/* An instrument's writer, if no write is under way; NULL otherwise. */
static inline Writer *free_writer(Instrument *instrument) {
    Writer *writer = (Writer *) instrument->writer;
    return writer != NULL && is_of(instrument->writer, WriterType) && has_token(writer) ? writer : NULL;
}

/* A series' own cells, `least` of them, if all is where it was; NULL otherwise. */
double *own_cells(Instrument *instrument, Writer *writer, Py_ssize_t least);

/* The cell of a histogram that counts a value: as ``2 + bisect_left(bounds, value)`` has it; 0 where there are none. */
Py_ssize_t bucket_cell(Instrument *instrument, double value);

/* What `call` looks at each request in, with these facts: a function of Python's, the middleware, its source, and whether
it skips some requests. `whole` does what a call of the middleware does, with so many arguments. */
PyObject *ahead(vectorcallfunc call, PyObject *(*whole)(Ahead *, PyObject *, PyObject *const *), Py_ssize_t takes,
                PyObject *facts);
int is_ahead(PyObject *object);
int is_middleware(PyObject *object);

/* The application of a middleware, as a new reference; NULL with an exception where somebody took it away. */
PyObject *app_of(PyObject *middleware);
PyObject *fact(Ahead *self, PyObject *middleware, PyObject *name, PyObject *one, PyObject *other);

/* What an application is given: `function` with what follows, up to the first that is NULL, before the arguments of a call,
which `call` looks at. */
PyObject *bound(vectorcallfunc call, PyObject *function, PyObject *request, PyObject *channel, PyObject *scope,
               PyObject *raises);

/* What a request of an ASGI application begins with: itself, and what its application receives and sends by. */
typedef struct {
    PyObject *request, *receive, *send;
} Begun;

static inline void forget(Begun *begun) {
    Py_CLEAR(begun->request);
    Py_CLEAR(begun->receive);
    Py_CLEAR(begun->send);
}

/* Of a middleware, a scope, and what its server gave, a request begins: 1, with new references; or 0, it is not to be
measured; or -1, it raised. */
int begin_measured(Ahead *ahead, PyObject *const *args, Begun *begun);

/* What is awaited while a connection is served: see `served.c`. */
PyObject *serve(Ahead *ahead, PyObject *middleware, PyObject *const *args);

/* Leave a call to the function. */
PyObject *call_bound(Bound *bound, PyObject *const *args, size_t count, PyObject *keywords);

/* Call what may call what called this, and so on. */
PyObject *call_within(PyObject *function, PyObject *const *args, size_t count, PyObject *keywords);

/* Objects of a type that nobody needs, with nothing in them: the next are made of these. */
enum { MOST_SPARE = 16 };
typedef struct {
    int count;
    PyObject *objects[MOST_SPARE];
} Spares;

/* A new object, with nothing in it. */
PyObject *make(PyTypeObject *type, Spares *spares);

/* It is not needed any more: it is not tracked, and what it held is let go of. */
void give_back(PyObject *object, Spares *spares);

static inline void add_two(double *cells, double amount, Py_ssize_t cell, double other_amount) {
    store(&cells[1], cells[1] + amount);
    store(&cells[cell], cells[cell] + other_amount);
}

#endif
