#include "control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "io.h"
#include "log.h"

#define NAME "control"
#define TICK_MS 250
#define LINE_MAX_SIZE 4096
#define PATIENCE 5 /* seconds for a request to come whole */

struct control {
    struct control_server server;
    int store_fd, listener;
    pthread_t answering, sweeping;
    bool has_answering, has_sweeping;
    sem_t work; /* for the sweeper */
    atomic_bool ending;
};

/* A path through the descriptor: the store's own may be too long for an address. */
static struct sockaddr_un address(int store_fd)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" NAME, store_fd);
    return a;
}

static int read_line(int fd, char **ret_line)
{
    size_t size = 0;
    _cleanup_free_ char *line = malloc(LINE_MAX_SIZE);

    if (!line) return -ENOMEM;
    while (size < LINE_MAX_SIZE) {
        ssize_t n = read(fd, line + size, 1);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (n == 0) return -ECONNRESET;
        if (line[size] == '\n') {
            line[size] = '\0';
            *ret_line = io_take(line);
            return 0;
        }
        size++;
    }
    return -EMSGSIZE;
}

/* A line end in a text would end the line. */
static int write_line(int fd, const char *text)
{
    _cleanup_free_ char *line = io_format("%s\n", text);
    size_t length = line ? strlen(line) : 0, sent = 0;

    if (!line) return -ENOMEM;
    for (size_t i = 0; i + 1 < length; i++)
        if (line[i] == '\n') line[i] = ' ';
    while (sent < length) {
        ssize_t n = send(fd, line + sent, length - sent, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR) return -errno;
        if (n > 0) sent += n;
    }
    return 0;
}

static void serve_one(struct control *c)
{
    static const struct timeval patience = {.tv_sec = PATIENCE};
    _cleanup_close_ int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
    _cleanup_free_ char *request = NULL, *reply = NULL;

    if (fd < 0) return;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (read_line(fd, &request) < 0) return;
    reply = c->server.answer(c->server.data, request);
    if (reply) write_line(fd, reply);
}

static void *answer(void *data)
{
    struct control *c = data;
    struct pollfd wait = {.fd = c->listener, .events = POLLIN};

    c->server.tick(c->server.data);
    while (!atomic_load(&c->ending)) {
        if (poll(&wait, 1, TICK_MS) > 0) serve_one(c);
        else c->server.tick(c->server.data);
        sem_post(&c->work);
    }
    return NULL;
}

static void *sweep(void *data)
{
    struct control *c = data;

    while (!atomic_load(&c->ending)) {
        while (sem_wait(&c->work) < 0 && errno == EINTR) continue;
        while (sem_trywait(&c->work) == 0) continue; /* one round is enough for all of them */
        if (!atomic_load(&c->ending)) c->server.sweep(c->server.data);
    }
    return NULL;
}

static int listen_at(int store_fd)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un a = address(store_fd);

    if (fd < 0) return -errno;
    /* The store is claimed: a socket that is there is a dead daemon's. Its directory is closed to others (0700) in any case. */
    if (unlinkat(store_fd, NAME, 0) < 0 && errno != ENOENT) return -errno;
    if (fchmod(fd, 0600) < 0) return -errno;
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 16) < 0) return -errno;
    if (fchmodat(store_fd, NAME, 0600, 0) < 0) return -errno;
    return io_take_fd(fd);
}

int control_start(struct control **ret_control, int store_fd, const struct control_server *server)
{
    struct control *c = calloc(1, sizeof(*c));
    int r;

    if (!c) return -ENOMEM;
    c->server = *server;
    c->store_fd = store_fd;
    sem_init(&c->work, 0, 1);
    r = c->listener = listen_at(store_fd);
    if (r >= 0) r = -pthread_create(&c->answering, NULL, answer, c);
    c->has_answering = r == 0;
    if (r == 0) r = -pthread_create(&c->sweeping, NULL, sweep, c);
    c->has_sweeping = r == 0;
    if (r < 0) {
        log_error("the store's control socket cannot be made: %s", log_reason(r));
        control_stop(c);
        return r;
    }
    *ret_control = c;
    return 0;
}

void control_stop(struct control *c)
{
    if (!c) return;
    atomic_store(&c->ending, true);
    sem_post(&c->work);
    if (c->has_answering) pthread_join(c->answering, NULL);
    if (c->has_sweeping) pthread_join(c->sweeping, NULL);
    if (c->listener >= 0) {
        close(c->listener);
        unlinkat(c->store_fd, NAME, 0);
    }
    sem_destroy(&c->work);
    free(c);
}

int control_call(int store_fd, const char *request, char **ret_reply)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un a = address(store_fd);
    int r;

    if (fd < 0) return -errno;
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) return -errno;
    r = write_line(fd, request);
    if (r < 0) return r == -EPIPE ? -ECONNRESET : r;
    return read_line(fd, ret_reply);
}
