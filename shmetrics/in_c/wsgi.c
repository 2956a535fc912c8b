/* `workers.wsgi`, in C: a request of a WSGI application is served. */

#include "writes.h"

static PyObject *start_slowly, *hand_over, *raised; /* functions of Python's, by `use_wsgi` */
static PyObject *nothing, *method, *script, *path, *werkzeug, *first, *finish_name; /* texts */
static Name url_rule = {"url_rule", NULL}, rule_name = {"rule", NULL};
static PyObject *key; /* of a request, in its environ */
enum { DIGITS = 3 };

/* The status of a line, "200 OK"; the very object that the request before had, where it is the same. */
static PyObject *code_of(Request *request, PyObject *line) {
    PyObject *before = is_plain_source(request->source) ? ((Source *) request->source)->code : NULL;
    if (before != NULL && is_ascii(before) && PyUnicode_GET_LENGTH(before) == DIGITS &&
        memcmp(PyUnicode_DATA(before), PyUnicode_DATA(line), DIGITS) == 0)
        return Py_NewRef(before);
    return PyUnicode_Substring(line, 0, DIGITS);
}

/* As `workers.routes.route_of_environ`: whether it was found, or there is none. */
static int find_route(Request *request, PyObject *environ) {
    PyObject *of_flask = PyDict_GetItemWithError(environ, werkzeug), *rule = NULL;
    if (of_flask == NULL)
        return !PyErr_Occurred();
    Py_INCREF(of_flask);
    if ((rule = attribute(of_flask, &url_rule)) == NULL && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Clear();
    int is_found = rule == NULL ? !PyErr_Occurred() : name_route(request, rule, &rule_name);
    Py_DECREF(of_flask);
    Py_XDECREF(rule);
    return is_found;
}

/* 1: the server can be told; 0: that is left to Python; -1: it raised. */
static int look_at(Bound *self, PyObject *line) {
    Request *request = (Request *) self->request;
    if (!is_ascii(line) || PyUnicode_GET_LENGTH(line) < DIGITS || !is_plain_request(self->request) ||
        !is_empty(request->route) || !PyDict_CheckExact(self->scope))
        return 0;
    PyObject *code = code_of(request, line);
    if (code == NULL)
        return -1;
    Py_XSETREF(request->code, code);
    int is_told = find_route(request, self->scope);
    return PyErr_Occurred() ? -1 : is_told;
}

/* As `workers.wsgi.start_measured`. */
static PyObject *start(PyObject *self, PyObject *const *args, size_t count, PyObject *keywords) {
    Py_ssize_t given = PyVectorcall_NARGS(count);
    int is_plain = (given == 2 || given == 3) && keywords == NULL ? look_at((Bound *) self, args[0]) : 0;
    if (is_plain < 0)
        return NULL;
    return is_plain ? call_within(((Bound *) self)->channel, args, given == 3 && args[2] == Py_None ? 2 : given, NULL)
                    : call_bound((Bound *) self, args, count, keywords);
}

/* A part of an ordinary path, which may be missing, as a new reference; NULL, with or without an exception, of others. */
static PyObject *part_of(PyObject *environ, PyObject *name) {
    PyObject *part = PyDict_GetItemWithError(environ, name);
    if (part == NULL)
        return PyErr_Occurred() ? NULL : Py_NewRef(nothing);
    return is_ascii(part) ? Py_NewRef(part) : NULL;
}

/* As `workers.wsgi.path_of` of an ordinary path; NULL, with or without an exception, where that is left to Python. */
static PyObject *path_of(PyObject *environ) {
    PyObject *mount = part_of(environ, script), *rest = mount == NULL ? NULL : part_of(environ, path);
    PyObject *whole = rest == NULL ? NULL : PyUnicode_Concat(mount, rest);
    Py_XDECREF(mount);
    Py_XDECREF(rest);
    return whole;
}

/* The application has raised, which goes on by way of Python, unless there is another error on the way. */
static void raise_on(PyObject *request) {
    PyObject *kind, *error, *trace;
    fetch_raised(&kind, &error, &trace);
    PyObject *args[] = {request, error};
    Py_XDECREF(PyObject_Vectorcall(raised, args, 2, NULL));
    Py_XDECREF(kind);
    Py_XDECREF(error);
    Py_XDECREF(trace);
}

/* The application has given a body, which is returned; or it has raised. */
static PyObject *end(PyObject *request, PyObject *environ, PyObject *body) {
    PyObject *result = NULL;
    if (body != NULL && (PyList_CheckExact(body) || PyTuple_CheckExact(body))) {
        PyObject *finished = is_plain_request(request) ? finish((Request *) request, NULL, 0, NULL)
                                                       : PyObject_CallMethodNoArgs(request, finish_name);
        result = finished == NULL ? NULL : Py_NewRef(body);
        Py_XDECREF(finished);
    } else if (body != NULL) {
        PyObject *args[] = {request, environ, body};
        result = PyObject_Vectorcall(hand_over, args, 3, NULL);
    }
    if (result == NULL)
        raise_on(request);
    return result;
}

/* As `workers.wsgi.MetricsMiddleware.serve`, with its arguments: of a middleware, an environ, and what its server gave. */
static PyObject *serve_request(PyObject *object, PyObject *const *args, size_t count, PyObject *keywords) {
    Ahead *self = (Ahead *) object;
    PyObject *said[2] = {NULL, NULL}, *request = NULL, *by = NULL, *body = NULL, *result = NULL;
    if (!is_for_c(self, args, PyVectorcall_NARGS(count) == 3 && keywords == NULL && is_middleware(args[0])) ||
        fact(self, args[0], first, Py_False, Py_False) == NULL ||
        PyDict_Contains(args[1], key) != 0)
        goto slowly;
    PyObject *environ = args[1];
    said[0] = Py_XNewRef(PyDict_GetItemWithError(environ, method));
    said[1] = said[0] == NULL ? NULL : path_of(environ);
    if (said[1] == NULL)
        goto slowly;
    if ((request = source_request((Source *) self->source, said, 2, NULL)) != NULL &&
        PyDict_SetItem(environ, key, request) == 0 &&
        (by = bound(start, start_slowly, request, args[2], environ, NULL)) != NULL && begin_request(request)) {
        PyObject *given[] = {NULL, environ, by}, *app = app_of(args[0]);
        body = app == NULL ? NULL : call_within(app, given + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_XDECREF(app);
        result = end(request, environ, body);
    }
    goto end;
slowly:
    if (!PyErr_Occurred())
        result = PyObject_Vectorcall(self->function, args, count, keywords);
end:
    Py_XDECREF(said[0]);
    Py_XDECREF(said[1]);
    Py_XDECREF(request);
    Py_XDECREF(by);
    Py_XDECREF(body);
    return result;
}

static PyObject *serve_whole(Ahead *self, PyObject *middleware, PyObject *const *args) {
    PyObject *all[] = {middleware, args[0], args[1]};
    return serve_request((PyObject *) self, all, 3, NULL);
}

PyObject *serve_wsgi(PyObject *Py_UNUSED(module), PyObject *facts) { return ahead(serve_request, serve_whole, 2, facts); }

PyObject *use_wsgi(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords) {
    static char *names[] = {"start", "hand_over", "raised", "key", NULL};
    PyObject *by[4];
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OOOU", names, &by[0], &by[1], &by[2], &by[3]))
        return NULL;
    Py_XSETREF(start_slowly, Py_NewRef(by[0]));
    Py_XSETREF(hand_over, Py_NewRef(by[1]));
    Py_XSETREF(raised, Py_NewRef(by[2]));
    Py_XSETREF(key, Py_NewRef(by[3]));
    Py_RETURN_NONE;
}

int add_wsgi(void) {
    const Text texts[] = {{&nothing, ""}, {&method, "REQUEST_METHOD"}, {&script, "SCRIPT_NAME"}, {&path, "PATH_INFO"},
                          {&werkzeug, "werkzeug.request"}, {&first, "_first"}, {&finish_name, "finish"}, {NULL, NULL}};
    return intern(texts);
}
