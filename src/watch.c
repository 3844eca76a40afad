#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "io.h"
#include "log.h"

#define TICK_MS 250

struct watch {
    struct tree *tree;
    struct tree_changes changes;
    int events_fd; /* -1: this system has no inotify left; the ticks do */
    int end_fd;
    pthread_t thread;
};

/* Whatever was written, the catalog says by itself whether it changed. */
static void read_events(struct watch *w)
{
    char buffer[4096];

    while (read(w->events_fd, buffer, sizeof(buffer)) > 0) continue;
}

static void *follow(void *data)
{
    struct watch *w = data;
    struct pollfd polled[] = {{.fd = w->end_fd, .events = POLLIN}, {.fd = w->events_fd, .events = POLLIN}};

    for (;;) {
        tree_follow(w->tree, &w->changes);
        poll(polled, 2, TICK_MS);
        if (polled[0].revents) return NULL;
        if (polled[1].revents) read_events(w);
    }
}

static int watch_store(const char *path)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

    if (fd >= 0 && inotify_add_watch(fd, path, IN_MODIFY | IN_ONLYDIR) >= 0) return fd;
    log_debug("%s: cannot be watched: %s", path, log_reason(errno));
    if (fd >= 0) close(fd);
    return -1;
}

static void release(struct watch *w)
{
    if (w->events_fd >= 0) close(w->events_fd);
    if (w->end_fd >= 0) close(w->end_fd);
    free(w);
}

int watch_start(struct watch **ret_watch, struct tree *tree, const char *store_path, const struct tree_changes *changes)
{
    struct watch *w = calloc(1, sizeof(*w));
    int r = 0;

    if (!w) return -ENOMEM;
    w->tree = tree;
    w->changes = *changes;
    w->events_fd = watch_store(store_path);
    w->end_fd = eventfd(0, EFD_CLOEXEC);
    if (w->end_fd < 0) r = -errno;
    if (r == 0) r = -pthread_create(&w->thread, NULL, follow, w);
    if (r < 0) release(w);
    else *ret_watch = w;
    return r;
}

void watch_stop(struct watch *w)
{
    uint64_t one = 1;

    if (!w) return;
    if (write(w->end_fd, &one, sizeof(one)) == sizeof(one)) pthread_join(w->thread, NULL);
    release(w);
}
