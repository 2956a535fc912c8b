/* `workers.asgi`, in C: a request of an ASGI application begins, and what it sends is looked at. */

#include "writes.h"

static PyObject *receive_slowly, *send_slowly; /* functions of Python's, by `use_asgi` */
static PyObject *type, *http, *method, *path, *status, *more_body, *route, *template, *start, *body, *raises_name; /* texts */
static PyObject *fastapi, *context, *app_root_path, *root_path; /* texts */
static Name path_format = {"path_format", NULL};
static PyObject *key; /* of a request, in its scope */

/* What a dict has of this name: a new reference, since what is looked up next may take it away; NULL, and maybe raised. */
static PyObject *said_of(PyObject *dict, PyObject *name) { return Py_XNewRef(PyDict_GetItemWithError(dict, name)); }

/* Whether a request is where its framework began: in no application that is mounted in another. 0 too where it raised. */
static int is_unmounted(PyObject *scope) {
    PyObject *outside = said_of(scope, app_root_path);
    PyObject *inside = outside == NULL ? NULL : said_of(scope, root_path);
    int is_unmounted = outside == NULL ? !PyErr_Occurred() : inside != NULL && is_same(inside, outside);
    Py_XDECREF(outside);
    Py_XDECREF(inside);
    return is_unmounted;
}

/* As `workers.routes.route_of_scope` of a request that no router has, or one that is unmounted: whether it was found. */
static int find_route(Request *request, PyObject *scope) {
    PyObject *router = said_of(scope, route), *of_fastapi, *whole;
    if (router == NULL)
        return !PyErr_Occurred() && PyDict_Contains(scope, template) == 0;
    int is_found = 0;
    if ((of_fastapi = said_of(scope, fastapi)) != NULL && PyDict_CheckExact(of_fastapi)) {
        if ((whole = said_of(of_fastapi, context)) != NULL)
            Py_SETREF(router, whole);
    }
    if ((of_fastapi == NULL || PyDict_CheckExact(of_fastapi)) && !PyErr_Occurred() && is_unmounted(scope))
        is_found = name_route(request, router, &path_format);
    Py_XDECREF(of_fastapi);
    Py_DECREF(router);
    return is_found;
}

/* Whether a response begins in an ordinary way, which the request knows then: 0 where that is left to Python, or raised. */
static int begins(Bound *self, Request *request, PyObject *message) {
    PyObject *code = PyDict_GetItemWithError(message, status);
    if (code == NULL || !PyDict_CheckExact(self->scope) || !is_empty(request->code) || !is_empty(request->route))
        return 0;
    Py_XSETREF(request->code, Py_NewRef(code));
    return find_route(request, self->scope);
}

/* Whether it ends in an ordinary way. */
static int ends(Request *request, PyObject *message) {
    PyObject *more = PyDict_GetItemWithError(message, more_body);
    return (more == NULL || more == Py_False) && !PyErr_Occurred() &&
           (request->first_byte == NULL || request->first_byte == Py_None);
}

/* Whether it is this text. The object that said it last is kept in its place: most applications say it with the same again. */
static int is_known(PyObject **text, PyObject *said) {
    if (said == *text)
        return 1;
    if (!is_same_text(said, *text))
        return 0;
    Py_SETREF(*text, Py_NewRef(said));
    return 1;
}

/* 1: the message can go to the server; 0: that is left to Python; -1: it raised. */
static int look_at(Bound *self, PyObject *message) {
    Request *request = (Request *) self->request;
    if (!PyDict_CheckExact(message) || self->raises != Py_False || !is_plain_request(self->request))
        return 0;
    PyObject *kind = PyDict_GetItemWithError(message, type);
    int is_plain = 0;
    if (kind != NULL && is_known(&start, kind))
        is_plain = begins(self, request, message);
    else if (kind != NULL && is_known(&body, kind) && ends(request, message)) {
        PyObject *finished = finish(request, NULL, 0, NULL);
        is_plain = finished != NULL;
        Py_XDECREF(finished);
    }
    return PyErr_Occurred() ? -1 : is_plain;
}

/* As `workers.asgi.send_measured`. */
static PyObject *send(PyObject *self, PyObject *const *args, size_t count, PyObject *keywords) {
    int is_plain = PyVectorcall_NARGS(count) == 1 && keywords == NULL ? look_at((Bound *) self, args[0]) : 0;
    if (is_plain < 0)
        return NULL;
    return is_plain ? call_within(((Bound *) self)->channel, args, count, NULL)
                    : call_bound((Bound *) self, args, count, keywords);
}

static PyObject *receive(PyObject *self, PyObject *const *args, size_t count, PyObject *keywords) {
    return call_bound((Bound *) self, args, count, keywords);
}

/* An ordinary request begins; its places are filled then. 0 where that is left to Python. */
static int begin_plain(Ahead *self, PyObject *const *args, Begun *begun) {
    PyObject *scope = args[1], *raises, *kind, *said[2] = {NULL, NULL}, *request = NULL;
    *begun = (Begun) {NULL, NULL, NULL};
    if (!is_for_c(self, args, 1) || (raises = fact(self, args[0], raises_name, Py_True, Py_False)) == NULL ||
        (kind = PyDict_GetItemWithError(scope, type)) == NULL || !is_same(kind, http) ||
        PyDict_Contains(scope, key) != 0)
        return 0;
    said[0] = Py_XNewRef(PyDict_GetItemWithError(scope, method));
    said[1] = said[0] == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(scope, path));
    int is_plain = said[1] != NULL;
    if (is_plain && (request = source_request((Source *) self->source, said, 2, NULL)) != NULL &&
        PyDict_SetItem(scope, key, request) == 0 &&
        (begun->receive = bound(receive, receive_slowly, request, args[2], NULL, NULL)) != NULL &&
        (begun->send = bound(send, send_slowly, request, args[3], scope, raises)) != NULL && begin_request(request))
        begun->request = Py_NewRef(request);
    Py_XDECREF(said[0]);
    Py_XDECREF(said[1]);
    Py_XDECREF(request);
    return is_plain;
}

int begin_measured(Ahead *self, PyObject *const *args, Begun *begun) {
    if (!begin_plain(self, args, begun)) {
        PyObject *said = PyErr_Occurred() ? NULL : PyObject_Vectorcall(self->function, args, 4, NULL);
        if (said != NULL && PyTuple_CheckExact(said) && PyTuple_GET_SIZE(said) == 3)
            *begun = (Begun) {Py_NewRef(PyTuple_GET_ITEM(said, 0)), Py_NewRef(PyTuple_GET_ITEM(said, 1)),
                              Py_NewRef(PyTuple_GET_ITEM(said, 2))};
        else if (said != NULL && said != Py_None)
            PyErr_SetString(PyExc_TypeError, "wanted what a request has begun with");
        Py_XDECREF(said);
    }
    if (begun->request == NULL)
        forget(begun);
    return begun->request != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}

/* As `workers.asgi.MetricsMiddleware.begin`, with its arguments: of a middleware, a scope, and what its server gave. */
static PyObject *begin(PyObject *object, PyObject *const *args, size_t count, PyObject *keywords) {
    Ahead *self = (Ahead *) object;
    Begun begun;
    if (PyVectorcall_NARGS(count) != 4 || keywords != NULL || !is_middleware(args[0]))
        return PyObject_Vectorcall(self->function, args, count, keywords);
    int is_begun = begin_measured(self, args, &begun);
    if (is_begun <= 0)
        return is_begun < 0 ? NULL : Py_NewRef(Py_None);
    PyObject *result = PyTuple_Pack(3, begun.request, begun.receive, begun.send);
    forget(&begun);
    return result;
}

PyObject *begin_asgi(PyObject *Py_UNUSED(module), PyObject *facts) { return ahead(begin, serve, 3, facts); }

PyObject *use_asgi(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords) {
    static char *names[] = {"receive", "send", "key", NULL};
    PyObject *by[3];
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OOU", names, &by[0], &by[1], &by[2]))
        return NULL;
    Py_XSETREF(receive_slowly, Py_NewRef(by[0]));
    Py_XSETREF(send_slowly, Py_NewRef(by[1]));
    Py_XSETREF(key, Py_NewRef(by[2]));
    Py_RETURN_NONE;
}

int add_asgi(void) {
    const Text texts[] = {{&type, "type"},           {&http, "http"},
                          {&method, "method"},       {&path, "path"},
                          {&status, "status"},       {&more_body, "more_body"},
                          {&route, "route"},         {&template, "path_template"},
                          {&start, "http.response.start"}, {&body, "http.response.body"},
                          {&raises_name, "_raises"}, {&fastapi, "fastapi"},
                         {&context, "effective_route_context"}, {&app_root_path, "app_root_path"},
                         {&root_path, "root_path"}, {NULL, NULL}};
    return intern(texts);
}
