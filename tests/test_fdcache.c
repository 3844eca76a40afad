#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "dice.h"
#include "fdcache.h"
#include "io.h"

static const char owner_a, owner_b;
static atomic_int opened[4096];

/* Counts what was opened. */
static int open_numbered(void *data, uint64_t id)
{
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    (void)data;
    atomic_fetch_add(&opened[id], 1);
    return fd;
}

static int open_failing(void *data, uint64_t id)
{
    (void)id;
    return *(int *)data;
}

static int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = -3; /* ".", "..", and the directory itself */

    assert_non_null(dir);
    while (readdir(dir)) count++;
    closedir(dir);
    return count;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int touch(struct fdcache *cache, const void *owner, uint64_t id)
{
    struct fdcache_entry *entry;
    int fd = fdcache_get(cache, owner, id, open_numbered, NULL, &entry);

    assert_true(fd >= 0);
    assert_true(is_open(fd));
    fdcache_put(cache, entry);
    return fd;
}

static int before; /* descriptors open when the test began */

static int begin(void **state)
{
    (void)state;
    memset(opened, 0, sizeof(opened));
    before = count_fds();
    return 0;
}

static int end(void **state)
{
    (void)state;
    return count_fds() == before ? 0 : -1;
}

static void test_hit_opens_once(void **state)
{
    struct fdcache *cache = fdcache_new(64);
    int fd = touch(cache, &owner_a, 1);

    (void)state;
    for (int i = 0; i < 10; i++) assert_int_equal(touch(cache, &owner_a, 1), fd);
    assert_int_equal(opened[1], 1);
    assert_int_not_equal(touch(cache, &owner_b, 1), fd);
    assert_int_equal(opened[1], 2);
    fdcache_free(cache);
    assert_false(is_open(fd));
}

static void test_failure_is_passed_on_and_not_kept(void **state)
{
    struct fdcache *cache = fdcache_new(64);
    struct fdcache_entry *entry;
    int error = -ESTALE;

    (void)state;
    assert_int_equal(fdcache_get(cache, &owner_a, 1, open_failing, &error, &entry), -ESTALE);
    touch(cache, &owner_a, 1);
    assert_int_equal(opened[1], 1);
    fdcache_free(cache);
}

/* With room for one in each shard, asking for another file of the same shard closes this one's descriptor. */
static bool share_a_shard(uint64_t one, uint64_t other)
{
    struct fdcache *cache = fdcache_new(0);
    int first = touch(cache, &owner_a, one);
    bool closed;

    touch(cache, &owner_a, other);
    closed = !is_open(first);
    fdcache_free(cache);
    return closed;
}

static void test_least_recently_used_goes_first(void **state)
{
    enum { ROOM = 4 };
    struct fdcache *cache = fdcache_new((ROOM - 1) * 16);
    uint64_t ids[ROOM + 2] = {1}, candidate = 2;
    int fds[ROOM + 2];

    (void)state;
    for (size_t i = 1; i < ROOM + 2; candidate++)
        if (share_a_shard(1, candidate)) ids[i++] = candidate;
    for (size_t i = 0; i < ROOM; i++) fds[i] = touch(cache, &owner_a, ids[i]);
    for (size_t i = 0; i < ROOM; i++) assert_true(is_open(fds[i]));
    touch(cache, &owner_a, ids[0]);
    memset(opened, 0, sizeof(opened));
    fds[4] = touch(cache, &owner_a, ids[4]); /* in place of the second; its number may be the second's */
    touch(cache, &owner_a, ids[0]);
    touch(cache, &owner_a, ids[2]);
    touch(cache, &owner_a, ids[3]);
    assert_int_equal(opened[ids[0]] + opened[ids[2]] + opened[ids[3]], 0);
    assert_int_equal(count_fds(), before + ROOM);
    touch(cache, &owner_a, ids[5]); /* in place of the fifth, by now the oldest */
    assert_int_equal(count_fds(), before + ROOM);
    touch(cache, &owner_a, ids[1]);
    assert_int_equal(opened[ids[1]], 1);
    touch(cache, &owner_a, ids[2]);
    assert_int_equal(opened[ids[0]] + opened[ids[2]] + opened[ids[3]], 0);
    touch(cache, &owner_a, ids[0]); /* went for the second */
    assert_int_equal(opened[ids[0]], 1);
    fdcache_free(cache);
}

static void test_number_of_descriptors_is_bounded(void **state)
{
    enum { CAPACITY = 160 };
    struct fdcache *cache = fdcache_new(CAPACITY);
    struct dice dice = dice_new();

    (void)state;
    for (int i = 0; i < 20000; i++) touch(cache, i % 3 ? &owner_a : &owner_b, dice_below(&dice, 4000));
    assert_in_range(count_fds() - before, CAPACITY / 2, CAPACITY + 16);
    fdcache_free(cache);
}

static void test_eviction_waits_for_the_user(void **state)
{
    struct fdcache *cache = fdcache_new(0);
    struct fdcache_entry *entry, *again;
    int fd = fdcache_get(cache, &owner_a, 1, open_numbered, NULL, &entry);

    (void)state;
    for (uint64_t id = 2; id < 500; id++) touch(cache, &owner_a, id);
    assert_true(is_open(fd));
    assert_int_not_equal(fdcache_get(cache, &owner_a, 1, open_numbered, NULL, &again), fd);
    fdcache_put(cache, again);
    assert_true(is_open(fd));
    fdcache_put(cache, entry);
    assert_false(is_open(fd));
    fdcache_free(cache);
}

static void test_drop_in_use(void **state)
{
    struct fdcache *cache = fdcache_new(64);
    struct fdcache_entry *one, *two, *other;
    int fd = fdcache_get(cache, &owner_a, 1, open_numbered, NULL, &one);

    (void)state;
    assert_int_equal(fdcache_get(cache, &owner_a, 1, open_numbered, NULL, &two), fd);
    fdcache_drop(cache, &owner_a, 1);
    fdcache_drop(cache, &owner_a, 1);
    assert_true(is_open(fd));
    assert_int_not_equal(fdcache_get(cache, &owner_a, 1, open_numbered, NULL, &other), fd);
    assert_int_equal(opened[1], 2);
    fdcache_put(cache, one);
    assert_true(is_open(fd));
    fdcache_put(cache, two);
    assert_false(is_open(fd));
    fdcache_put(cache, other);
    fdcache_drop(cache, &owner_a, 1);
    assert_int_equal(count_fds(), before);
    fdcache_drop(cache, &owner_a, 99);
    fdcache_free(cache);
}

static void test_drop_owner(void **state)
{
    struct fdcache *cache = fdcache_new(4000);
    struct fdcache_entry *entry;
    int fd, kept = 0;

    (void)state;
    for (uint64_t id = 0; id < 200; id++) {
        touch(cache, &owner_a, id);
        kept = touch(cache, &owner_b, id);
    }
    fd = fdcache_get(cache, &owner_a, 7, open_numbered, NULL, &entry);
    fdcache_drop_owner(cache, &owner_a);
    assert_true(is_open(fd));
    assert_int_equal(count_fds(), before + 201);
    assert_int_equal(touch(cache, &owner_b, 199), kept);
    fdcache_put(cache, entry);
    assert_int_equal(count_fds(), before + 200);
    fdcache_free(cache);
}

struct crowd {
    struct fdcache *cache;
    const char *directory;
    atomic_int wrong;
    uint64_t seed;
};

static int open_file(void *data, uint64_t id)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%llu", (const char *)data, (unsigned long long)id);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static void *get_and_check(void *data)
{
    struct crowd *crowd = data;
    struct dice dice = {__atomic_add_fetch(&crowd->seed, 1, __ATOMIC_RELAXED)};

    for (int i = 0; i < 4000; i++) {
        uint64_t id = dice_below(&dice, 100), seen;
        struct fdcache_entry *entry;
        int fd = fdcache_get(crowd->cache, &owner_a, id, open_file, (void *)crowd->directory, &entry);

        if (fd < 0 || pread(fd, &seen, sizeof(seen), 0) != sizeof(seen) || seen != id)
            atomic_fetch_add(&crowd->wrong, 1);
        if (dice_once_in(&dice, 10)) fdcache_drop(crowd->cache, &owner_a, id);
        if (dice_once_in(&dice, 500)) fdcache_drop_owner(crowd->cache, &owner_a);
        if (fd < 0) continue;
        if (pread(fd, &seen, sizeof(seen), 0) != sizeof(seen) || seen != id) atomic_fetch_add(&crowd->wrong, 1);
        fdcache_put(crowd->cache, entry);
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    struct crowd crowd = {.cache = fdcache_new(32), .directory = *state, .seed = dice_new().state};
    pthread_t threads[8];

    for (uint64_t id = 0; id < 100; id++) {
        char name[24];

        snprintf(name, sizeof(name), "%llu", (unsigned long long)id);
        _cleanup_close_ int fd = open(scratch_path(state, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(io_write(fd, &id, sizeof(id)), 0);
    }
    for (int i = 0; i < 8; i++) assert_int_equal(pthread_create(&threads[i], NULL, get_and_check, &crowd), 0);
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    assert_int_equal(crowd.wrong, 0);
    assert_in_range(count_fds() - before, 0, 48);
    fdcache_free(crowd.cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hit_opens_once, begin, end),
        cmocka_unit_test_setup_teardown(test_failure_is_passed_on_and_not_kept, begin, end),
        cmocka_unit_test_setup_teardown(test_least_recently_used_goes_first, begin, end),
        cmocka_unit_test_setup_teardown(test_number_of_descriptors_is_bounded, begin, end),
        cmocka_unit_test_setup_teardown(test_eviction_waits_for_the_user, begin, end),
        cmocka_unit_test_setup_teardown(test_drop_in_use, begin, end),
        cmocka_unit_test_setup_teardown(test_drop_owner, begin, end),
        cmocka_unit_test_setup_teardown(test_many_threads, begin, end),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
