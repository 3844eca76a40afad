/* cmd_operate: how a command does something to a node: through the daemon, or by itself where none runs. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#include "cmd.h"
#include "control.h"
#include "handover.h"
#include "io.h"
#include "log.h"
#include "nodeops.h"

#define CONNECT_TRIES 50 /* 100 ms apart: a daemon that is just starting */

/* Fields with tabs between. -EINVAL: one of them could not be told apart. */
static int join(char **ret_request, const char *field, va_list more)
{
    char *request = io_format("%s", field);

    while (request && (field = va_arg(more, const char *))) {
        char *longer = strpbrk(field, "\t\n") ? NULL : io_format("%s\t%s", request, field);

        free(request);
        request = longer;
        if (!longer && strpbrk(field, "\t\n")) return -EINVAL;
    }
    *ret_request = request;
    return request ? 0 : -ENOMEM;
}

/* The store is claimed. */
static char *run_here(struct store *store, char *request)
{
    struct nodeops ops = {0};
    struct handover *handover;
    char *reply;

    if (handover_open(&handover, -1) < 0) return NULL;
    if (tree_open(&ops.tree, store, handover, true) < 0) {
        handover_close(handover);
        return NULL;
    }
    nodeops_start(&ops);
    reply = nodeops_run(&ops, request);
    nodeops_sweep(&ops);
    tree_close(ops.tree);
    handover_close(handover);
    return reply;
}

/* 1: there is a reply; 0: nobody answers there. */
static int ask_daemon(struct store *store, const char *request, char **ret_reply)
{
    int r = control_call(store->fd, request, ret_reply);

    if (r == 0) return 1;
    if (r == -ENOENT || r == -ECONNREFUSED) return 0;
    log_error("the daemon did not answer: %s", r == -ECONNRESET ? "it ended meanwhile; what was begun is undone or done "
              "when it runs again" : log_reason(r));
    return r;
}

static int ask(struct store *store, char *request, char **ret_reply)
{
    struct store_daemon daemon;

    for (int i = 0; i < CONNECT_TRIES; i++) {
        _cleanup_close_ int claim = -1;
        int r = store_running(store, &daemon);

        if (r < 0) return r;
        if (r == 0) {
            if ((r = store_claim(store, &claim)) < 0) return r;
            *ret_reply = run_here(store, request);
            return *ret_reply ? 0 : -EIO;
        }
        r = ask_daemon(store, request, ret_reply);
        if (r != 0) return r < 0 ? r : 0;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    log_error("%s: the daemon (process %d) does not answer", store->path, (int)daemon.pid);
    return -ETIMEDOUT;
}

int cmd_operate(struct store *store, char **ret_text, const char *operation, ...)
{
    _cleanup_free_ char *request = NULL, *reply = NULL;
    va_list more;
    char *text;
    int r;

    va_start(more, operation);
    r = join(&request, operation, more);
    va_end(more);
    if (r < 0) {
        log_error("%s: %s", operation, r == -EINVAL ? "tabs and line ends are not allowed" : log_reason(r));
        return r;
    }
    r = ask(store, request, &reply);
    if (r < 0) return r;
    text = strchr(reply, '\t');
    if (strncmp(reply, "ok", 2) != 0) {
        log_error("%s", text ? text + 1 : reply);
        return -ECANCELED;
    }
    if (ret_text) *ret_text = io_format("%s", text ? text + 1 : "");
    return 0;
}
