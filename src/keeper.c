#include "keeper.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "log.h"
#include "tree.h"

#define TICK_NS 250000000
#define THREADS 16 /* so many disks may be slow at once */

struct keeper {
    struct tree *tree;
    int64_t commit_age;
    pthread_t ticker, workers[THREADS];

    pthread_mutex_t lock; /* guards all below; but for tree.lock, for a moment, nothing is taken under it */
    pthread_cond_t tick, work;
    uint32_t next, end; /* numbers of nodes that this round has still to look at */
    unsigned count;     /* of workers */
    bool ending;
};

static void *work(void *data)
{
    struct keeper *k = data;

    pthread_mutex_lock(&k->lock);
    while (!k->ending) {
        uint32_t number = k->next;

        if (number >= k->end) {
            pthread_cond_wait(&k->work, &k->lock);
            continue;
        }
        k->next++;
        pthread_mutex_unlock(&k->lock);
        tree_tidy(k->tree, number, k->commit_age);
        pthread_mutex_lock(&k->lock);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

/* Lock held. */
static void add_worker(struct keeper *k)
{
    int error = k->count < THREADS ? pthread_create(&k->workers[k->count], NULL, work, k) : 0;

    if (error) log_warning("the housekeeper cannot begin a thread: %s", log_reason(error));
    else if (k->count < THREADS) k->count++;
}

/* Lock held, given up while it waits. False: the end. */
static bool wait_tick(struct keeper *k)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TICK_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!k->ending && pthread_cond_timedwait(&k->tick, &k->lock, &until) != ETIMEDOUT) continue;
    return !k->ending;
}

static void *tick(void *data)
{
    struct keeper *k = data;

    pthread_mutex_lock(&k->lock);
    while (wait_tick(k)) {
        if (k->next < k->end) {
            add_worker(k);
            continue;
        }
        k->next = 0;
        k->end = tree_room(k->tree);
        if (!k->count) add_worker(k);
        pthread_cond_broadcast(&k->work);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

static struct keeper *keeper_new(struct tree *tree, int64_t commit_age)
{
    struct keeper *k = calloc(1, sizeof(*k));
    pthread_condattr_t monotonic;

    if (!k) return NULL;
    k->tree = tree;
    k->commit_age = commit_age;
    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&k->tick, &monotonic);
    pthread_cond_init(&k->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return k;
}

static void keeper_free(struct keeper *k)
{
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->tick);
    pthread_cond_destroy(&k->work);
    free(k);
}

int keeper_start(struct keeper **ret_keeper, struct tree *tree, int64_t commit_age)
{
    struct keeper *k = keeper_new(tree, commit_age);
    int r;

    if (!k) return -ENOMEM;
    r = -pthread_create(&k->ticker, NULL, tick, k);
    if (r < 0) keeper_free(k);
    else *ret_keeper = k;
    return r;
}

void keeper_stop(struct keeper *k)
{
    if (!k) return;
    pthread_mutex_lock(&k->lock);
    k->ending = true;
    pthread_cond_broadcast(&k->tick);
    pthread_cond_broadcast(&k->work);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->ticker, NULL); /* who begins no more workers then */
    for (unsigned i = 0; i < k->count; i++) pthread_join(k->workers[i], NULL);
    keeper_free(k);
}
