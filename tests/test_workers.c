/* Requests are datagrams: a byte that says what is to be done with it, and its number. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "scratch.h"
#include "workers.h"

enum { REQUESTS = 20000, MOST = 12, READY = 2, KEPT = 3 };

enum deed { COUNT, WAIT, FAIL };

struct request {
    enum deed deed;
    unsigned number;
};

struct office {
    int in, out;
    _Atomic bool is_over;
    _Atomic unsigned answered, waiting, most_waiting;
    _Atomic unsigned times[REQUESTS];
    pthread_mutex_t gate; /* held: whoever is to wait waits */
    pthread_t runs;       /* workers_run() */
    int result;
};

static ssize_t take(void *data, void *buffer)
{
    struct office *o = data;
    ssize_t n = recv(o->out, buffer, sizeof(struct request), 0);

    if (n < 0) return -errno;
    return ((struct request *)buffer)->deed == FAIL ? -EPROTO : n;
}

static void answer(void *data, void *buffer, size_t size)
{
    struct office *o = data;
    const struct request *request = buffer;

    assert_int_equal(size, sizeof(*request));
    if (request->deed == WAIT) {
        atomic_fetch_add(&o->waiting, 1);
        pthread_mutex_lock(&o->gate);
        pthread_mutex_unlock(&o->gate);
        atomic_fetch_sub(&o->waiting, 1);
    }
    atomic_fetch_add(&o->times[request->number], 1);
    atomic_fetch_add(&o->answered, 1);
}

static bool is_over(void *data)
{
    return ((struct office *)data)->is_over;
}

static void end_wait(int number)
{
    (void)number;
}

static void *run(void *data)
{
    static const struct workers_limits limits = {.most = MOST, .ready = READY, .kept = KEPT};
    struct office *o = data;
    const struct workers_job job = {
        .take = take, .answer = answer, .is_over = is_over, .buffer_size = sizeof(struct request), .data = o};

    o->result = workers_run(&job, &limits);
    return NULL;
}

static struct office *open_office(void)
{
    const struct sigaction action = {.sa_handler = end_wait};
    struct office *o = test_calloc(1, sizeof(*o));
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
    o->in = fds[0];
    o->out = fds[1];
    pthread_mutex_init(&o->gate, NULL);
    sigaction(SIGTERM, &action, NULL);
    assert_int_equal(pthread_create(&o->runs, NULL, run, o), 0);
    return o;
}

static void ask(struct office *o, enum deed deed, unsigned number)
{
    const struct request request = {deed, number};

    assert_int_equal(send(o->in, &request, sizeof(request), 0), sizeof(request));
}

static bool comes_true(_Atomic unsigned *number, unsigned wanted)
{
    for (int i = 0; i < 2000 && *number != wanted; i++) nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    return *number == wanted;
}

static int close_office(struct office *o, bool by_signal)
{
    int result;

    if (by_signal) {
        o->is_over = true;
        pthread_kill(o->runs, SIGTERM);
    }
    pthread_join(o->runs, NULL);
    result = o->result;
    close(o->in);
    close(o->out);
    test_free(o);
    return result;
}

static void each_request_is_answered_once(void **state)
{
    struct office *o = open_office();

    (void)state;
    for (unsigned i = 0; i < REQUESTS; i++) ask(o, COUNT, i);
    assert_true(comes_true(&o->answered, REQUESTS));
    for (unsigned i = 0; i < REQUESTS; i++) assert_int_equal(o->times[i], 1);
    assert_int_equal(close_office(o, true), 0);
}

/* All but one may wait, and what comes then is still answered; again and again, with threads that were parked, ended, called. */
static void who_waits_keeps_nobody_waiting(void **state)
{
    struct office *o = open_office();
    unsigned number = 0;

    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        pthread_mutex_lock(&o->gate);
        for (unsigned i = 0; i < MOST - 1; i++) ask(o, WAIT, number++);
        assert_true(comes_true(&o->waiting, MOST - 1));
        ask(o, COUNT, number++);
        assert_true(comes_true(&o->answered, number - (MOST - 1)));
        pthread_mutex_unlock(&o->gate);
        assert_true(comes_true(&o->answered, number));
    }
    assert_int_equal(close_office(o, true), 0);
}

static void what_was_taken_is_answered_before_the_end(void **state)
{
    struct office *o = open_office();

    (void)state;
    pthread_mutex_lock(&o->gate);
    for (unsigned i = 0; i < 5; i++) ask(o, WAIT, i);
    assert_true(comes_true(&o->waiting, 5));
    o->is_over = true;
    pthread_kill(o->runs, SIGTERM);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    assert_int_equal(o->answered, 0);
    pthread_mutex_unlock(&o->gate);
    pthread_join(o->runs, NULL);
    assert_int_equal(o->answered, 5);
    assert_int_equal(o->result, 0);
    close(o->in);
    close(o->out);
    test_free(o);
}

static void what_cannot_be_taken_ends_all(void **state)
{
    struct office *o = open_office();

    (void)state;
    ask(o, COUNT, 0);
    assert_true(comes_true(&o->answered, 1));
    ask(o, FAIL, 0);
    assert_int_equal(close_office(o, false), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_is_answered_once),
        cmocka_unit_test(who_waits_keeps_nobody_waiting),
        cmocka_unit_test(what_was_taken_is_answered_before_the_end),
        cmocka_unit_test(what_cannot_be_taken_ends_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
