/* `resources`, in C: what the kernel says of a process, without a Python object for each word of it. */

#include "writes.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH = 64, MOST_READ = 4096 };

/* Fields of a `stat` (proc(5)), counted from the third on, which is a letter. */
enum { USER = 11, SYSTEM = 12, THREADS = 17, START = 19, VIRTUAL = 20, RESIDENT = 21, FIELDS = 22 };

/* Read a file in /proc, at once, as such files are; the number of bytes, or -1. Without the GIL. */
static ssize_t read_file(const char *path, char *text, size_t most) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    ssize_t length = pread(descriptor, text, most, 0); /* a child forked in between shares the file's position */
    close(descriptor);
    return length;
}

/* `process_stat(pid)`: letter of its state, ticks, threads, start, bytes of address space, resident pages; or None. */
static PyObject *process_stat(PyObject *Py_UNUSED(module), PyObject *pid) {
    char path[PATH], text[MOST_READ + 1];
    unsigned long long number = PyLong_AsUnsignedLongLong(pid), fields[FIELDS] = {0};
    if (number == (unsigned long long) -1 && PyErr_Occurred())
        return NULL;
    snprintf(path, sizeof path, "/proc/%llu/stat", number);
    ssize_t length;
    Py_BEGIN_ALLOW_THREADS
    length = read_file(path, text, MOST_READ);
    Py_END_ALLOW_THREADS
    if (length <= 0)
        Py_RETURN_NONE;
    text[length] = '\0';
    /* The second field, the command in parentheses, may itself hold spaces and parentheses. */
    char *at = memrchr(text, ')', (size_t) length);
    if (at == NULL || at[1] != ' ' || at[2] == '\0')
        Py_RETURN_NONE;
    char state = at[2];
    at += 3;
    for (int field = 1; field < FIELDS; field++) {
        char *begin = at;
        fields[field] = strtoull(begin, &at, 10); /* some are negative, but none of ours */
        if (at == begin)
            Py_RETURN_NONE;
    }
    return Py_BuildValue("CKKKKK", state, fields[USER] + fields[SYSTEM], fields[THREADS], fields[START], fields[VIRTUAL],
                         fields[RESIDENT]);
}

static PyMethodDef functions[] = {
    {"process_stat", process_stat, METH_O, "What `stat` in /proc says of a process, or None. See `resources`."},
    {0},
};

int add_process(PyObject *module) { return PyModule_AddFunctions(module, functions); }
