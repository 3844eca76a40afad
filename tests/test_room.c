#include "scratch.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "io.h"
#include "room.h"

enum { DISK_KIB = 4096, RESERVE = DISK_KIB * 1024 / 4 };

static struct room open_room(void **state, const char *name, int *ret_fd)
{
    struct room room;

    *ret_fd = open(scratch_path(state, name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(*ret_fd >= 0);
    assert_int_equal(room_init(&room, *ret_fd), 0);
    return room;
}

static void fill(void **state, size_t bytes)
{
    _cleanup_close_ int fd = open(scratch_path(state, "small/filler"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    static char data[4096];

    for (; bytes > 0; bytes -= sizeof(data)) assert_int_equal(io_write(fd, data, sizeof(data)), 0);
}

/* A disk so small is asked each time. */
static void test_the_reserve_is_kept(void **state)
{
    struct room room;
    int fd;

    scratch_tmpfs(state, "small", DISK_KIB);
    room = open_room(state, "small", &fd);
    assert_int_equal(room.reserve, RESERVE);
    assert_int_equal(room_take(&room, 0), 0);
    assert_int_equal(room_take(&room, 3 * RESERVE - (64 << 10)), 0);
    assert_int_equal(room_take(&room, 3 * RESERVE + (64 << 10)), -ENOSPC);
    assert_int_equal(room_take(&room, UINT64_MAX), -ENOSPC);
    assert_false(room_is_tight(&room));
    fill(state, 2 * RESERVE + (64 << 10));
    assert_int_equal(room_take(&room, RESERVE / 2), 0);
    assert_true(room_is_tight(&room));
    fill(state, RESERVE);
    assert_int_equal(room_take(&room, 0), -ENOSPC);
    assert_in_range(room_for_wal(&room), 1, RESERVE / 4);
    close(fd);
    scratch_unmount(state, "small");
}

/* Plenty of room, which is counted down without asking: an answer made up shows whether it was. */
static void test_the_kernel_is_asked_seldom(void **state)
{
    struct room room;
    int fd;

    scratch_tmpfs(state, "large", 4 << 20);
    room = open_room(state, "large", &fd);
    assert_int_equal(room_take(&room, 1), 0);
    assert_true(room.spare > 1 << 30);
    room.spare = 1 << 20;
    assert_int_equal(room_take(&room, 1 << 19), 0);
    assert_in_range(room.spare, 0, 1 << 19); /* counted, not asked */
    assert_int_equal(room_take(&room, 1 << 20), 0);
    assert_true(room.spare > 1 << 30); /* asked, as it was taken */
    room.spare = 1 << 20;
    usleep(150000);
    assert_int_equal(room_take(&room, 1), 0);
    assert_true(room.spare > 1 << 30); /* asked, as time has passed */
    close(fd);
    scratch_unmount(state, "large");
}

static void test_a_limit_on_files(void **state)
{
    struct rlimit before, low;
    struct room room;
    int fd;

    getrlimit(RLIMIT_FSIZE, &before);
    low = (struct rlimit){.rlim_cur = 1 << 20, .rlim_max = before.rlim_max};
    room = open_room(state, ".", &fd);
    assert_false(room_limits_files(&room));
    assert_int_equal(room_check_file(&room, UINT64_MAX), 0);
    close(fd);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    room = open_room(state, ".", &fd);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_true(room_limits_files(&room));
    assert_int_equal(room_check_file(&room, 900000), 0);
    assert_int_equal(room_check_file(&room, 1000000), -ENOSPC);
    assert_true(room_for_wal(&room) <= 1 << 19);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_reserve_is_kept, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_the_kernel_is_asked_seldom, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_a_limit_on_files, scratch_setup, scratch_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
