#include "apply.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "catalog.h"
#include "dnsmasq.h"
#include "export.h"
#include "io.h"
#include "log.h"
#include "owner.h"
#include "service.h"

#define TICK_NS 500000000
#define FIRST_RETRY 10 /* seconds after a failure, doubled from then on */
#define LAST_RETRY 640

struct apply {
    struct catalog *catalog;
    char *mountpoint;
    int64_t version; /* of the catalog, that all has been written from */
    bool started;    /* the first pass tells nfsd in any case: it may have started before the mount */
    time_t retry_at; /* 0: the last pass was right */
    time_t retry_after;

    pthread_t thread;
    pthread_mutex_t lock; /* guards ending */
    pthread_cond_t wake;
    bool ending;
};

int apply_exports(struct catalog *catalog, const char *mountpoint, const char *network, int always)
{
    _cleanup_free_ char *text = NULL;
    int lines, r = owner_check(EXPORT_PATH, mountpoint);

    if (r < 0) return r;
    r = export_text(catalog, mountpoint, network, &text, &lines);
    if (r < 0) {
        log_error("%s: %s", EXPORT_PATH, log_reason(r));
        return r;
    }
    r = service_write(EXPORT_PATH, text);
    if (r < 0) return r;
    return r > 0 || always ? service_export() : 0;
}

int apply_unexport(const char *mountpoint)
{
    _cleanup_free_ char *other = NULL;
    bool is_other;
    int r = owner_other(EXPORT_PATH, mountpoint, &is_other, &other);

    if (r < 0 || is_other) return r;
    r = service_remove(EXPORT_PATH);
    if (r > 0) service_export();
    return r;
}

static time_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static void plan_retry(struct apply *a, bool failed)
{
    a->retry_after = !failed ? 0 : a->retry_after ? a->retry_after * 2 : FIRST_RETRY;
    if (a->retry_after > LAST_RETRY) a->retry_after = LAST_RETRY;
    a->retry_at = failed ? now() + a->retry_after : 0;
}

/* Both are tried: a machine may have one of the services only. */
static void write_all(struct apply *a)
{
    const struct dnsmasq_options options = {.mountpoint = a->mountpoint};
    int exports = apply_exports(a->catalog, a->mountpoint, NULL, !a->started || a->retry_at);
    int dnsmasq = dnsmasq_install(a->catalog, &options);

    a->started = true;
    plan_retry(a, exports < 0 || dnsmasq < 0);
}

static void pass(struct apply *a)
{
    int64_t version;
    int r = catalog_version(a->catalog, &version);

    if (r < 0) {
        log_error("catalog: cannot be followed by -o apply: %s", log_reason(r));
        return;
    }
    if (a->started && version == a->version && (!a->retry_at || now() < a->retry_at)) return;
    a->version = version;
    write_all(a);
}

static bool wait_tick(struct apply *a)
{
    struct timespec until;
    bool ending;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TICK_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&a->lock);
    if (!a->ending) pthread_cond_timedwait(&a->wake, &a->lock, &until);
    ending = a->ending;
    pthread_mutex_unlock(&a->lock);
    return !ending;
}

static void *follow(void *data)
{
    struct apply *a = data;

    do pass(a);
    while (wait_tick(a));
    return NULL;
}

static void apply_free(struct apply *a)
{
    catalog_close(a->catalog);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->wake);
    free(a->mountpoint);
    free(a);
}

int apply_start(struct apply **ret_apply, const char *store, const char *mountpoint)
{
    _cleanup_free_ char *path = io_format("%s/catalog.db", store);
    struct apply *a = calloc(1, sizeof(*a));
    pthread_condattr_t monotonic;
    int r = path && a ? 0 : -ENOMEM;

    if (r < 0) {
        free(a);
        return r;
    }
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&a->wake, &monotonic);
    a->mountpoint = io_format("%s", mountpoint);
    r = a->mountpoint ? catalog_open(&a->catalog, path) : -ENOMEM;
    if (r == 0) r = -pthread_create(&a->thread, NULL, follow, a);
    if (r < 0) {
        log_error("%s: exports and dnsmasq cannot follow the catalog: %s", mountpoint, log_reason(r));
        apply_free(a);
        return r;
    }
    *ret_apply = a;
    return 0;
}

void apply_stop(struct apply *a)
{
    if (!a) return;
    pthread_mutex_lock(&a->lock);
    a->ending = true;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    apply_free(a);
}
