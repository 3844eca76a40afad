#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commit.h"
#include "content.h"
#include "view_fixture.h"

static uint8_t buffer[20000], expected[20000];

static int punch(struct view *v, uint64_t ino, uint64_t offset, uint64_t length)
{
    return content_allocate(v, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

static void assert_bytes(struct view *v, uint64_t ino, uint64_t offset, size_t size, int byte)
{
    assert_int_equal(content_read(v, ino, buffer, size, offset), size);
    for (size_t i = 0; i < size; i++) assert_int_equal(buffer[i], byte);
}

static void assert_filled(struct view *v, uint64_t ino, uint64_t seed, uint64_t offset, size_t size)
{
    view_fixture_fill(seed, offset, expected, size);
    assert_int_equal(content_read(v, ino, buffer, size, offset), size);
    assert_memory_equal(buffer, expected, size);
}

/* A punch across pages of a file of the image that is short enough for a row. */
static void test_punch_in_a_small_image_file(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "punch");
    uint64_t ino = view_fixture_find(v, "sizes/16384");

    assert_int_equal(punch(v, ino, 100, 9000), 0);
    assert_filled(v, ino, 16384, 0, 100);
    assert_bytes(v, ino, 100, 9000, 0);
    assert_filled(v, ino, 16384, 9100, 16384 - 9100);
    view_fixture_close(f);
}

/* A page whose bytes no fsync has confirmed, one of the image, and one that was synced. */
static void test_a_punch_leaves_zeros_of_whatever_was_there(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "zeros");
    uint64_t ino = view_fixture_find(v, "sizes/300000");

    assert_int_equal(content_write(v, ino, "synced", 6, 12288), 0);
    assert_int_equal(content_sync(v, ino, false), 0);
    assert_int_equal(content_write(v, ino, "not synced", 10, 4096), 0);
    assert_int_equal(punch(v, ino, 4096, 12288), 0);
    v = view_fixture_reopen(f);
    ino = view_fixture_find(v, "sizes/300000");
    assert_filled(v, ino, 300000, 0, 4096);
    assert_bytes(v, ino, 4096, 12288, 0);
    assert_filled(v, ino, 300000, 16384, 300);
    view_fixture_close(f);
}

/* A write that no fsync has confirmed, then a hole in its place that the daemon does not get to the end of. */
static void write_and_die_in_a_punch(struct view_fixture *f)
{
    struct view *v = view_fixture_open(f, "killed");
    uint64_t ino = view_fixture_find(v, "sizes/300000");

    memset(buffer, 'w', 4096);
    if (content_write(v, ino, buffer, 4096, 4096) < 0) _exit(1);
    commit_break(delta_commit(atomic_load(&v->delta)));
    if (punch(v, ino, 0, 16384) != -EIO) _exit(2);
    _exit(0);
}

static void test_a_punch_that_was_cut_off_takes_back_no_written_page(void **state)
{
    struct view_fixture *f = *state;
    struct view *v;
    int status;
    pid_t child = fork();

    if (child == 0) write_and_die_in_a_punch(f);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    v = view_fixture_open(f, "killed");
    assert_bytes(v, view_fixture_find(v, "sizes/300000"), 4096, 4096, 'w');
    view_fixture_check(v);
    view_fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_punch_in_a_small_image_file),
        cmocka_unit_test(test_a_punch_leaves_zeros_of_whatever_was_there),
        cmocka_unit_test(test_a_punch_that_was_cut_off_takes_back_no_written_page),
    };

    return cmocka_run_group_tests(tests, view_fixture_setup, view_fixture_teardown);
}
