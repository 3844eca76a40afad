/* The daemon killed at random moments under a load that writes down what was answered.
 *
 * COPPICE_KILLS=100 for a long run by hand, COPPICE_RANDOM_SEED=N for the same operations again. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fault_load.h"
#include "fault_store.h"
#include "harness.h"
#include "made_tree.h"
#include "random_ops.h"

#define ASYNC_OPTION "async=1"

static struct {
    uint64_t state;
    struct fault_load *load;
    const char *options;
} kills;

static int kills_wanted(int usual)
{
    const char *asked = getenv("COPPICE_KILLS");
    return asked ? (atoi(asked) * usual + 4) / 5 : usual;
}

static uint64_t milliseconds(void *data)
{
    (void)data;
    return (uint64_t)(harness_seconds() * 1000);
}

static void begin(const char *name, const char *options)
{
    const char *where = fault_store_beside("%s", name);
    must_hold(harness_run(NULL, "mkdir", where, NULL) == 0, "mkdir");
    kills.options = options;
    kills.load = fault_load_new(fault_store_source(), random_next(&kills.state), milliseconds, NULL);
    fault_store_make(where);
    assert_true(fault_store_mount(where, options));
}

static void print_words(void)
{
    char *words = fault_store_words();
    print_error("the daemon said: %s\n", words);
    free(words);
}

/* A random time from `least` to `most` milliseconds, not at the same point of a commit each time. */
static void kill_in(uint64_t least, uint64_t most)
{
    fault_load_start(kills.load, fault_store_at("."), &(struct fault_plan){0});
    usleep((useconds_t)(1000 * least + random_below(&kills.state, 1000 * (most - least))));
    fault_load_expect_death(kills.load);
    fault_store_kill();
    bool is_good = fault_load_join(kills.load);
    fault_store_detach();
    if (!is_good) print_words();
    assert_true(is_good);
}

static void mount_again(const char *name)
{
    const char *where = fault_store_beside("%s", name);
    assert_true(fault_store_is_sound(where));
    assert_true(fault_store_mount(where, kills.options));
}

static void check(bool is_good, int round, const char *where)
{
    if (!is_good) print_words();
    must_hold(is_good, "after kill %d", round + 1);
    must_hold(fault_store_is_clean(where), "after kill %d", round + 1);
}

static void end(const char *name, int rounds)
{
    assert_true(fault_store_umount());
    assert_true(fault_store_is_sound(fault_store_beside("%s", name)));
    print_message("%d kills, %ld operations\n", rounds, fault_load_count(kills.load));
    assert_int_equal(fault_store_strays(fault_store_beside("%s", name)), 0);
}

static void test_async_keeps_bytes_written_where_a_file_was_just_made_longer(void **state)
{
    enum { SHORT = 20000, LONG = 60000, PLACE = 50000, PIECE = 100 };
    const char *where = fault_store_beside("longer");
    unsigned char found[PIECE], bytes[PIECE];
    struct stat st;
    (void)state;
    must(mkdir(where, 0755));
    fault_store_make(where);
    assert_true(fault_store_mount(where, "async=60"));
    made_file(fault_store_at("file"), 1, SHORT, 0644);
    int fd = must(open(fault_store_at("file"), O_RDWR | O_CLOEXEC));
    must(fsync(fd));
    must(ftruncate(fd, LONG));
    made_fill(2, 0, bytes, PIECE);
    assert_int_equal(pwrite(fd, bytes, PIECE, PLACE), PIECE);
    fault_store_kill();
    close(fd);
    fault_store_detach();
    assert_true(fault_store_mount(where, NULL));
    fd = must(open(fault_store_at("file"), O_RDONLY | O_CLOEXEC));
    must(fstat(fd, &st));
    must_hold(st.st_size == LONG, "%ld bytes long", (long)st.st_size);
    assert_int_equal(pread(fd, found, PIECE, PLACE), PIECE);
    assert_memory_equal(found, bytes, PIECE);
    close(fd);
}

/* Also after a failure: the next test has a store and a mount of its own. */
static int stop(void **state)
{
    (void)state;
    fault_store_stop();
    fault_load_free(kills.load);
    kills.load = NULL;
    return 0;
}

static void test_what_was_answered_is_there_after_a_kill(void **state)
{
    (void)state;
    int rounds = kills_wanted(5);
    begin("sync", NULL);
    for (int i = 0; i < rounds; i++) {
        kill_in(50, 2000);
        mount_again("sync");
        check(fault_load_check_all(kills.load, fault_store_at(".")), i, fault_store_beside("sync"));
    }
    end("sync", rounds);
}

static void test_async_loses_nothing_with_its_daemon(void **state)
{
    (void)state;
    int rounds = kills_wanted(3);
    begin("async", ASYNC_OPTION);
    for (int i = 0; i < rounds; i++) {
        kill_in(100, i % 3 == 2 ? 5000 : 1500);
        mount_again("async");
        check(fault_load_check_all(kills.load, fault_store_at(".")), i, fault_store_beside("async"));
    }
    end("async", rounds);
}

static int setup(void **state)
{
    (void)state;
    fault_store_begin(110 + 10 * kills_wanted(8));
    fault_load_fill_image(fault_store_source());
    kills.state = random_seed();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_store_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_what_was_answered_is_there_after_a_kill, stop),
        cmocka_unit_test_teardown(test_async_keeps_bytes_written_where_a_file_was_just_made_longer, stop),
        cmocka_unit_test_teardown(test_async_loses_nothing_with_its_daemon, stop),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
