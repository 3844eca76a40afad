#include "fault_load.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "fault_model.h"
#include "made_tree.h"
#include "random_ops.h"

enum { SHOWN = 60 };

struct lane {
    struct fault_load *load;
    int number;
    pthread_t thread;
    uint64_t state; /* of its dice */
    char root[1500];
    struct fault_model *base, *now; /* before the operations below, and after those answered */
    struct fault_op *ops;           /* at most the last without answer */
    int count, room;
    char failure[256];
};

struct fault_load {
    uint64_t (*moment)(void *data);
    void *data;
    struct fault_plan plan;
    atomic_bool is_dying, is_replaced, is_ending;
    atomic_long answered;
    struct lane lanes[FAULT_THREADS];
};

/* ---- the image ---- */

static const uint64_t sizes[] = {0, 700, 4096, 16384, 20000, 65536, 150000};

static void fill_lane(const char *path)
{
    char below[1600];
    must(mkdir(path, 0755));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        snprintf(below, sizeof(below), "%s/f%zu", path, i);
        made_file(below, sizes[i] + 1, sizes[i], 0644);
    }
    snprintf(below, sizeof(below), "%s/d0", path);
    must(mkdir(below, 0755));
    snprintf(below, sizeof(below), "%s/d0/f0", path);
    made_file(below, 77, 50000, 0644);
    snprintf(below, sizeof(below), "%s/d1", path);
    must(mkdir(below, 0755));
}

void fault_load_fill_image(const char *image)
{
    char path[1500];
    snprintf(path, sizeof(path), "%s/load", image);
    must(mkdir(path, 0755));
    for (int i = 0; i < FAULT_THREADS; i++) {
        snprintf(path, sizeof(path), "%s/load/%d", image, i);
        fill_lane(path);
    }
}

/* ---- the threads ---- */

static struct fault_op *next_op(struct lane *lane)
{
    if (lane->count == lane->room) {
        lane->room = lane->room ? lane->room * 2 : 256;
        if (!(lane->ops = realloc(lane->ops, (size_t)lane->room * sizeof(*lane->ops)))) abort();
    }
    return &lane->ops[lane->count++];
}

static void excuse(struct lane *lane, const struct fault_op *op, int error)
{
    char text[160];
    /* EIO: the daemon was killed while it took the request from the kernel. */
    bool is_death = error == -ENOTCONN || error == -ECONNABORTED || error == -EIO;
    if (is_death && atomic_load(&lane->load->is_dying)) return;
    if ((error == -ESTALE || error == -ENOENT) && atomic_load(&lane->load->is_replaced)) return;
    fault_op_print(op, text, sizeof(text));
    snprintf(lane->failure, sizeof(lane->failure), "%s: %s%s", text, strerror(-error),
             atomic_load(&lane->load->is_dying) ? ", the daemon dying" : "");
}

static bool do_one(struct lane *lane)
{
    struct fault_load *load = lane->load;
    struct fault_op *op = next_op(lane);
    fault_model_choose(lane->now, &lane->state, load->plan.writes, op);
    op->begun = load->moment(load->data);
    int r = fault_op_run(op, lane->root);
    if (r < 0) excuse(lane, op, r);
    if (r < 0) return false;
    op->acked = load->moment(load->data);
    fault_model_apply(lane->now, op);
    atomic_fetch_add(&load->answered, 1);
    return true;
}

static void *run_lane(void *data)
{
    struct lane *lane = data;
    unsigned left = lane->load->plan.operations;
    while (do_one(lane) && !atomic_load(&lane->load->is_ending) && (lane->load->plan.operations == 0 || --left > 0)) continue;
    return NULL;
}

void fault_load_start(struct fault_load *load, const char *root, const struct fault_plan *plan)
{
    load->plan = *plan;
    atomic_store(&load->is_dying, false);
    atomic_store(&load->is_replaced, false);
    atomic_store(&load->is_ending, false);
    for (int i = 0; i < FAULT_THREADS; i++) {
        struct lane *lane = &load->lanes[i];
        snprintf(lane->root, sizeof(lane->root), "%s/load/%d", root, i);
        must_hold(pthread_create(&lane->thread, NULL, run_lane, lane) == 0, "no thread");
    }
}

void fault_load_stop(struct fault_load *load)
{
    atomic_store(&load->is_ending, true);
}

void fault_load_expect_death(struct fault_load *load)
{
    atomic_store(&load->is_dying, true);
}

void fault_load_expect_replacement(struct fault_load *load)
{
    atomic_store(&load->is_replaced, true);
}

bool fault_load_join(struct fault_load *load)
{
    bool is_good = true;
    for (int i = 0; i < FAULT_THREADS; i++) {
        struct lane *lane = &load->lanes[i];
        pthread_join(lane->thread, NULL);
        if (lane->failure[0]) print_error("thread %d: %s\n", i, lane->failure);
        is_good = is_good && !lane->failure[0];
    }
    return is_good;
}

long fault_load_count(const struct fault_load *load)
{
    return atomic_load(&load->answered);
}

struct fault_load *fault_load_new(const char *source, uint64_t seed, uint64_t (*moment)(void *data), void *data)
{
    char path[1500], why[512];
    struct fault_load *load = calloc(1, sizeof(*load));
    if (!load) abort();
    load->moment = moment;
    load->data = data;
    for (int i = 0; i < FAULT_THREADS; i++) {
        struct lane *lane = &load->lanes[i];
        lane->load = load;
        lane->number = i;
        lane->state = seed * 0x9e3779b97f4a7c15u + (uint64_t)i + 1;
        snprintf(path, sizeof(path), "%s/load/%d", source, i);
        lane->base = fault_model_read(path, why, sizeof(why));
        must_hold(lane->base, "%s", why);
        lane->now = fault_model_clone(lane->base);
    }
    return load;
}

void fault_load_free(struct fault_load *load)
{
    if (!load) return;
    for (int i = 0; i < FAULT_THREADS; i++) {
        fault_model_free(load->lanes[i].base);
        fault_model_free(load->lanes[i].now);
        free(load->lanes[i].ops);
    }
    free(load);
}

/* ---- checking ---- */

static int answered(const struct lane *lane)
{
    return lane->count > 0 && !lane->ops[lane->count - 1].acked ? lane->count - 1 : lane->count;
}

static void print_lane(const struct lane *lane, int upto, const char *why)
{
    print_error("thread %d, after %d operations: %s\n", lane->number, upto, why);
    for (int i = upto > SHOWN ? upto - SHOWN : 0; i <= upto && i < lane->count; i++) {
        char text[160];
        fault_op_print(&lane->ops[i], text, sizeof(text));
        print_error("  %5d %s%s\n", i, text, i < upto ? "" : "   <- no answer");
    }
}

static struct fault_model *read_lane(const struct lane *lane, const char *root)
{
    char path[1500], why[512];
    snprintf(path, sizeof(path), "%s/load/%d", root, lane->number);
    struct fault_model *found = fault_model_read(path, why, sizeof(why));
    if (!found) print_lane(lane, answered(lane), why);
    return found;
}

/* The state before and the operation may agree with the tree: if not, the state after it; `parts`: or anything
 * between. */
static struct fault_model *agreeing(const struct fault_model *before, const struct fault_op *op, unsigned parts,
                                    const struct fault_model *found, char *why, size_t room)
{
    char second[512];
    struct fault_model *m = fault_model_clone(before);
    if (fault_model_agrees(m, found, true, why, room)) return m;
    if (op) {
        struct fault_op unanswered = *op;
        unanswered.is_synced = false;
        unanswered.acked = 0;
        if (parts) fault_model_keep_old(m, parts);
        fault_model_apply(m, &unanswered);
        if (fault_model_agrees(m, found, true, second, sizeof(second))) return m;
        size_t used = strlen(why);
        snprintf(why + used, room - used, "; with the last: %s", second);
    }
    fault_model_free(m);
    return NULL;
}

static unsigned parts_of(const struct fault_model *m, const struct fault_op *op)
{
    return op && fault_model_writes_in_parts(m, op) ? FAULT_PAGE : 0;
}

/* The tree that was found is what the next operations begin with. */
static void go_on_from(struct lane *lane, struct fault_model *agreed, const struct fault_model *found)
{
    fault_model_adopt(agreed, found);
    fault_model_free(lane->base);
    fault_model_free(lane->now);
    lane->base = agreed;
    lane->now = fault_model_clone(agreed);
    lane->count = 0;
}

static bool check_lane(struct lane *lane, const char *root)
{
    char why[1200];
    int upto = answered(lane);
    struct fault_op *op = upto < lane->count ? &lane->ops[upto] : NULL;
    struct fault_model *found = read_lane(lane, root), *agreed;
    if (!found) return false;
    agreed = agreeing(lane->now, op, parts_of(lane->now, op), found, why, sizeof(why));
    if (agreed) go_on_from(lane, agreed, found);
    else print_lane(lane, upto, why);
    fault_model_free(found);
    return agreed != NULL;
}

bool fault_load_check_all(struct fault_load *load, const char *root)
{
    bool is_good = true;
    for (int i = 0; i < FAULT_THREADS; i++) is_good = check_lane(&load->lanes[i], root) && is_good;
    return is_good;
}

static bool is_sync(const struct fault_op *op)
{
    return op->kind == FAULT_FSYNC || op->is_synced;
}

static bool check_cut_lane(struct lane *lane, const char *root, uint64_t moment, unsigned unit, bool goes_on)
{
    char why[1200];
    struct fault_model *found = read_lane(lane, root), *m, *agreed;
    if (!found) return false;
    int upto = 0;
    m = fault_model_clone(lane->base);
    fault_model_keep_old(m, unit);
    for (; upto < answered(lane) && lane->ops[upto].acked <= moment; upto++) fault_model_apply(m, &lane->ops[upto]);
    bool is_begun = upto < lane->count && lane->ops[upto].begun <= moment;
    agreed = agreeing(m, is_begun ? &lane->ops[upto] : NULL, unit, found, why, sizeof(why));
    bool is_good = agreed != NULL;
    if (!is_good) print_lane(lane, upto, why);
    else if (goes_on) go_on_from(lane, agreed, found);
    else fault_model_free(agreed);
    fault_model_free(m);
    fault_model_free(found);
    return is_good;
}

/* Since when what was answered before is on the disk, of whatever thread: the last sync that was answered before the moment. */
static uint64_t last_sync(const struct fault_load *load, uint64_t moment)
{
    uint64_t last = 0;
    for (int n = 0; n < FAULT_THREADS; n++) {
        const struct lane *lane = &load->lanes[n];
        for (int i = 0; i < answered(lane) && lane->ops[i].acked <= moment; i++)
            if (is_sync(&lane->ops[i]) && lane->ops[i].begun > last) last = lane->ops[i].begun;
    }
    return last;
}

static int first_unsynced(const struct lane *lane, uint64_t synced, uint64_t moment)
{
    int first = 0;
    for (int i = 0; i < answered(lane) && lane->ops[i].acked <= moment; i++)
        if (lane->ops[i].acked < synced || is_sync(&lane->ops[i])) first = i + 1;
    return first;
}

static void apply_unsynced(struct fault_model *m, const struct fault_op *op)
{
    struct fault_op unsynced = *op;
    unsynced.is_synced = false;
    unsynced.acked = 0;
    if (op->kind != FAULT_FSYNC) fault_model_apply(m, &unsynced);
}

/* The operations from `upto` to `end` may have written their bytes, and no more. */
static bool agrees_with_late(const struct lane *lane, const struct fault_model *m, int upto, int end,
                             const struct fault_model *found, char *why, size_t room)
{
    struct fault_model *late = fault_model_clone(m);
    for (int i = upto; i < end; i++) fault_model_apply_late_write(late, &lane->ops[i]);
    bool is_good = fault_model_agrees(late, found, true, why, room);
    fault_model_free(late);
    return is_good;
}

/* The first part of the operation at `upto` may be the last that is there. */
static bool agrees_with_part(const struct lane *lane, const struct fault_model *m, int upto, int end,
                             const struct fault_model *found)
{
    char why[1200];
    struct fault_op part;
    if (upto == end || !fault_op_first_part(&lane->ops[upto], &part)) return false;
    struct fault_model *more = fault_model_clone(m);
    apply_unsynced(more, &part);
    bool is_good = agrees_with_late(lane, more, upto, end, found, why, sizeof(why));
    fault_model_free(more);
    return is_good;
}

static bool check_async_cut_lane(struct lane *lane, const char *root, uint64_t moment, unsigned unit)
{
    char why[1200] = "";
    struct fault_model *found = read_lane(lane, root), *m;
    if (!found) return false;
    bool is_good = false;
    int first = first_unsynced(lane, last_sync(lane->load, moment), moment), end = first;
    while (end < lane->count && lane->ops[end].begun <= moment) end++;
    m = fault_model_clone(lane->base);
    fault_model_keep_old(m, unit);
    fault_model_know_sizes(m);
    for (int i = 0; i < first; i++) fault_model_apply(m, &lane->ops[i]);
    for (int upto = first; !is_good && upto <= end; upto++) {
        if (upto > first) apply_unsynced(m, &lane->ops[upto - 1]);
        is_good = agrees_with_late(lane, m, upto, end, found, why, sizeof(why)) ||
                  agrees_with_part(lane, m, upto, end, found);
    }
    if (!is_good) print_error("thread %d: no state after operation %d … %d agrees\n", lane->number, first, end);
    if (!is_good) print_lane(lane, end, why);
    fault_model_free(m);
    fault_model_free(found);
    return is_good;
}

bool fault_load_check_async_cut(struct fault_load *load, const char *root, uint64_t moment, unsigned unit)
{
    bool is_good = true;
    for (int i = 0; i < FAULT_THREADS; i++)
        is_good = check_async_cut_lane(&load->lanes[i], root, moment, unit) && is_good;
    return is_good;
}

static bool check_copy(struct lane *lane, const char *root, uint64_t moment)
{
    char why[1200] = "";
    struct fault_model *found = read_lane(lane, root), *m, *agreed = NULL;
    if (!found) return false;
    m = fault_model_clone(lane->base);
    for (int upto = 0; !agreed && upto <= answered(lane); upto++) {
        const struct fault_op *next = upto < lane->count ? &lane->ops[upto] : NULL;
        bool is_possible = upto == answered(lane) || next->acked > moment;
        if (is_possible) agreed = agreeing(m, next, parts_of(m, next), found, why, sizeof(why));
        if (upto < answered(lane)) fault_model_apply(m, next);
    }
    if (!agreed) print_lane(lane, answered(lane), why);
    bool is_good = agreed != NULL;
    fault_model_free(agreed);
    fault_model_free(m);
    fault_model_free(found);
    return is_good;
}

bool fault_load_check_copy(struct fault_load *load, const char *root, uint64_t moment)
{
    bool is_good = true;
    for (int i = 0; i < FAULT_THREADS; i++) is_good = check_copy(&load->lanes[i], root, moment) && is_good;
    return is_good;
}

bool fault_load_check_cut(struct fault_load *load, const char *root, uint64_t moment, unsigned unit, bool goes_on)
{
    bool is_good = true;
    for (int i = 0; i < FAULT_THREADS; i++)
        is_good = check_cut_lane(&load->lanes[i], root, moment, unit, goes_on) && is_good;
    return is_good;
}
