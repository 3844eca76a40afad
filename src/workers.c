#include "workers.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define LEAVE SIGURG /* ends a wait for requests; nobody else in the process has a use for it */
/* Nanoseconds: a signal may have come just before the wait that it was to end. */
#define LEAVE_AGAIN 10000000
#define LOOK_AGAIN 999999999

/* For the thread that runs them, whose wait they end. */
static const int ending[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};

struct workers;

struct worker {
    struct workers *all;
    pthread_t thread;
    pthread_cond_t called;    /* is_parked was cleared */
    struct worker *next, **back; /* of all that live */
    struct worker *parked_before;
    bool is_parked, is_taking;
    void *buffer; /* its own */
};

struct workers {
    struct workers_job job;
    struct workers_limits limits;
    sem_t over; /* posted by whoever finds that it is */

    pthread_mutex_t lock; /* guards the rest, and all workers but for buffers */
    pthread_cond_t ended; /* one has */
    pthread_attr_t detached;
    struct worker *living, *parked;
    unsigned count, parked_count;
    unsigned takers; /* wait for requests, or are on their way there */
    _Atomic int error; /* `take` cannot go on. Read without the lock, too */
};

/* ---- one worker ---- */

static void enlist(struct workers *all, struct worker *w)
{
    w->next = all->living;
    w->back = &all->living;
    if (w->next) w->next->back = &w->next;
    all->living = w;
    all->count++;
}

static void strike_off(struct workers *all, struct worker *w)
{
    *w->back = w->next;
    if (w->next) w->next->back = w->back;
    all->count--;
    pthread_cond_signal(&all->ended);
}

static void discharge(struct worker *w)
{
    pthread_cond_destroy(&w->called);
    free(w->buffer);
    free(w);
}

static void *work(void *data);

/* Lock held. Another taker, new. */
static int hire(struct workers *all)
{
    struct worker *w = calloc(1, sizeof(*w));
    int r;

    if (!w) return -ENOMEM;
    w->all = all;
    w->is_taking = true;
    w->buffer = malloc(all->job.buffer_size);
    pthread_cond_init(&w->called, NULL);
    r = w->buffer ? -pthread_create(&w->thread, &all->detached, work, w) : -ENOMEM;
    if (r < 0) {
        discharge(w);
        return r;
    }
    enlist(all, w);
    all->takers++;
    return 0;
}

static void call(struct workers *all)
{
    struct worker *w = all->parked;

    all->parked = w->parked_before;
    all->parked_count--;
    all->takers++;
    w->is_parked = false;
    w->is_taking = true;
    pthread_cond_signal(&w->called);
}

/* Nothing more is to be had, or nothing is wanted. */
static bool is_over(struct workers *all)
{
    return all->error || all->job.is_over(all->job.data);
}

/* `taken`: of this size, or why there is none. Where no other thread can be had, the next request waits for this one. */
static void leave(struct worker *w, ssize_t taken)
{
    struct workers *all = w->all;

    pthread_mutex_lock(&all->lock);
    w->is_taking = false;
    all->takers--;
    if (taken < 0 && taken != -EINTR) all->error = taken;
    if (is_over(all)) sem_post(&all->over);
    else if (all->takers == 0 && all->parked) call(all);
    else if (all->takers == 0 && all->count < all->limits.most) hire(all);
    pthread_mutex_unlock(&all->lock);
}

/* Lock held. */
static void park(struct workers *all, struct worker *w)
{
    w->is_parked = true;
    w->parked_before = all->parked;
    all->parked = w;
    all->parked_count++;
    while (w->is_parked) pthread_cond_wait(&w->called, &all->lock);
}

/* False: it is to end. */
static bool come_back(struct worker *w)
{
    struct workers *all = w->all;

    pthread_mutex_lock(&all->lock);
    if (is_over(all)) w->is_taking = false;
    else if (all->takers < all->limits.ready) {
        all->takers++;
        w->is_taking = true;
    } else if (all->parked_count < all->limits.kept) park(all, w);
    pthread_mutex_unlock(&all->lock);
    return w->is_taking;
}

static ssize_t take(struct worker *w)
{
    const struct workers_job *job = &w->all->job;
    ssize_t n = -EINTR;

    while (n == -EINTR && !is_over(w->all)) n = job->take(job->data, w->buffer);
    return n;
}

static void *work(void *data)
{
    struct worker *w = data;
    struct workers *all = w->all;
    ssize_t n;

    do {
        n = take(w);
        leave(w, n);
        if (n > 0) all->job.answer(all->job.data, w->buffer, n);
    } while (n > 0 && come_back(w));

    pthread_mutex_lock(&all->lock);
    strike_off(all, w);
    pthread_mutex_unlock(&all->lock);
    discharge(w);
    return NULL;
}

/* ---- all of them ---- */

static void do_nothing(int number)
{
    (void)number;
}

/* Without SA_RESTART: the wait ends with EINTR. */
static void catch_leave(struct sigaction *ret_before)
{
    const struct sigaction action = {.sa_handler = do_nothing};

    sigaction(LEAVE, &action, ret_before);
}

static int hire_first(struct workers *all)
{
    sigset_t ours, before;
    int r = 0;

    sigemptyset(&ours);
    for (size_t i = 0; i < sizeof(ending) / sizeof(*ending); i++) sigaddset(&ours, ending[i]);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    pthread_mutex_lock(&all->lock);
    for (unsigned i = 0; r == 0 && i < all->limits.ready; i++) r = hire(all);
    if (all->count) r = 0;
    pthread_mutex_unlock(&all->lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

static struct timespec in(long nanoseconds)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += nanoseconds;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void await_end(struct workers *all)
{
    while (!is_over(all)) {
        struct timespec until = in(LOOK_AGAIN);

        sem_timedwait(&all->over, &until);
    }
}

/* Lock held. */
static void send_home(struct workers *all)
{
    while (all->parked) call(all);
    for (struct worker *w = all->living; w; w = w->next)
        if (w->is_taking) pthread_kill(w->thread, LEAVE);
}

/* Those who wait for a disk come when it has answered. */
static void dismiss(struct workers *all)
{
    pthread_mutex_lock(&all->lock);
    while (all->count) {
        struct timespec until = in(LEAVE_AGAIN);

        send_home(all);
        pthread_cond_timedwait(&all->ended, &all->lock, &until);
    }
    pthread_mutex_unlock(&all->lock);
}

int workers_run(const struct workers_job *job, const struct workers_limits *limits)
{
    struct workers all = {.job = *job, .limits = *limits};
    struct sigaction before;
    int r;

    sem_init(&all.over, 0, 0);
    pthread_mutex_init(&all.lock, NULL);
    pthread_cond_init(&all.ended, NULL);
    pthread_attr_init(&all.detached);
    pthread_attr_setdetachstate(&all.detached, PTHREAD_CREATE_DETACHED);
    catch_leave(&before);
    r = hire_first(&all);
    if (r == 0) await_end(&all);
    dismiss(&all);
    if (r == 0) r = all.error;
    sigaction(LEAVE, &before, NULL);
    pthread_attr_destroy(&all.detached);
    pthread_cond_destroy(&all.ended);
    pthread_mutex_destroy(&all.lock);
    sem_destroy(&all.over);
    return r;
}
