#include "scratch.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "commit.h"
#include "content.h"
#include "thaw.h"
#include "view_fixture.h"

enum { SIZE = 300000 };

static uint8_t buffer[SIZE], expected[SIZE];

static int nothing(void *data)
{
    (void)data;
    return 0;
}

/* As a snapshot does, whose links would be made now. */
static void share_objects(struct view *v)
{
    uint64_t sequence;

    assert_int_equal(view_freeze(v, nothing, NULL, &sequence), 0);
    commit_unpin(delta_commit(atomic_load(&v->delta)));
}

static void assert_file(struct view *v, uint64_t ino)
{
    assert_int_equal(content_read(v, ino, buffer, SIZE, 0), SIZE);
    assert_memory_equal(buffer, expected, SIZE);
}

/* A file of the image with a page of its own, in an object that is shared. */
static uint64_t shared_file(struct view *v)
{
    uint64_t ino = view_fixture_find(v, "sizes/300000");

    view_fixture_fill(SIZE, 0, expected, SIZE);
    memset(expected + 4096, 'a', 4096);
    assert_int_equal(content_write(v, ino, expected + 4096, 4096, 4096), 0);
    assert_int_equal(content_sync(v, ino, false), 0);
    share_objects(v);
    return ino;
}

static void test_a_write_goes_into_an_object_of_its_own(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "thawed");
    uint64_t ino = shared_file(v);

    memset(expected + 5000, 'b', 100);
    assert_int_equal(content_write(v, ino, expected + 5000, 100, 5000), 0);
    assert_file(v, ino);
    v = view_fixture_reopen(f);
    assert_file(v, view_fixture_find(v, "sizes/300000"));
    view_fixture_close(f);
}

/* Another operation of the node, whose batch cannot be written. */
static void fail_a_batch(struct view *v)
{
    struct rlimit before, none = {0};
    uint64_t ino;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    int r = names_make(v, &view_fixture_caller, DELTA_ROOT, "unwritten", S_IFREG | 0600, 0, &ino);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(r, -ENOSPC);
}

static void test_a_batch_that_fails_takes_no_thawed_file_with_it(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "failed");
    struct delta *d;
    struct inode inode;
    uint64_t ino = shared_file(v);

    view_lock_contents(v, ino, true);
    d = view_lock(v);
    assert_int_equal(inode_get(v, d, ino, &inode), 0);
    view_unlock(d);
    assert_int_equal(thaw(v, &inode), 0);
    fail_a_batch(v);
    memset(expected + 20480, 'b', 4096);
    assert_int_equal(content_write_held(v, &inode, expected + 20480, 4096, 20480), 0);
    view_unlock_contents(v, ino);
    assert_file(v, ino);
    view_fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_goes_into_an_object_of_its_own),
        cmocka_unit_test(test_a_batch_that_fails_takes_no_thawed_file_with_it),
    };

    return cmocka_run_group_tests(tests, view_fixture_setup, view_fixture_teardown);
}
