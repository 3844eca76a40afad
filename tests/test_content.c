#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "content.h"
#include "dice.h"
#include "inode.h"
#include "io.h"
#include "view_fixture.h"

enum { MAX = 420000 };

/* What a file should hold. */
struct model {
    struct view_fixture *fixture;
    struct dice dice;
    const char *path;
    uint64_t ino, size;
    uint8_t bytes[MAX];
};

static uint8_t buffer[MAX];

/* ---- the model test ---- */

/* Where something begins or ends for the code below is where mistakes are. */
static uint64_t pick_offset(struct model *m)
{
    static const uint64_t edges[] = {0, CONTENT_PAGE, 2 * CONTENT_PAGE, CONTENT_ROW_MAX, 16385, 65536, 131072, 300000};
    uint64_t at = dice_below(&m->dice, 340000);

    switch (dice_below(&m->dice, 8)) {
    case 0: at = edges[dice_below(&m->dice, sizeof(edges) / sizeof(*edges))]; break;
    case 1: at = m->size; break;
    case 2: at = dice_below(&m->dice, 80) * CONTENT_PAGE; break;
    case 3: at = dice_below(&m->dice, CONTENT_ROW_MAX + 2); break;
    case 4:
    case 5:
    case 6: at = dice_below(&m->dice, m->size + 1); break;
    }
    if (dice_once_in(&m->dice, 3) && at > 2) at += dice_below(&m->dice, 3) - 1;
    return at < 340000 ? at : 340000;
}

static uint64_t pick_length(struct model *m)
{
    switch (dice_below(&m->dice, 4)) {
    case 0: return 1;
    case 1: return 1 + dice_below(&m->dice, 200);
    case 2: return CONTENT_PAGE * (1 + dice_below(&m->dice, 3)) - dice_below(&m->dice, 2);
    default: return 1 + dice_below(&m->dice, 50000);
    }
}

static void do_write(struct model *m)
{
    uint64_t offset = pick_offset(m), length = pick_length(m);

    view_fixture_fill(dice_roll(&m->dice) & 0xffff, offset, m->bytes + offset, length);
    assert_int_equal(content_write(m->fixture->view, m->ino, m->bytes + offset, length, offset), 0);
    if (offset + length > m->size) m->size = offset + length;
}

static void model_resize(struct model *m, uint64_t size)
{
    if (size < m->size) memset(m->bytes + size, 0, m->size - size);
    m->size = size;
}

static void do_truncate(struct model *m)
{
    uint64_t size = dice_once_in(&m->dice, 8) ? 0 : pick_offset(m);

    assert_int_equal(content_truncate(m->fixture->view, m->ino, size, NULL), 0);
    model_resize(m, size);
}

static void do_allocate(struct model *m)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    int mode = modes[dice_below(&m->dice, 5)];
    uint64_t offset = pick_offset(m), end = offset + pick_length(m);

    assert_int_equal(content_allocate(m->fixture->view, m->ino, mode, offset, end - offset), 0);
    if (!(mode & FALLOC_FL_KEEP_SIZE) && end > m->size) m->size = end;
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && offset < m->size)
        memset(m->bytes + offset, 0, (end < m->size ? end : m->size) - offset);
}

static void check_read(struct model *m, uint64_t offset, uint64_t length)
{
    uint64_t left = offset < m->size ? m->size - offset : 0;
    ssize_t expected = length < left ? length : left;

    memset(buffer, 0xee, expected);
    assert_int_equal(content_read(m->fixture->view, m->ino, buffer, length, offset), expected);
    for (ssize_t i = 0; i < expected; i++)
        if (buffer[i] != m->bytes[offset + i])
            fail_msg("%s: byte %llu is %u, not %u", m->path, (unsigned long long)(offset + i), buffer[i],
                     m->bytes[offset + i]);
}

static void assert_zeros(struct model *m, uint64_t start, uint64_t end, const char *what)
{
    for (uint64_t i = start; i < end; i++)
        if (m->bytes[i]) fail_msg("%s: %s, but byte %llu is data", m->path, what, (unsigned long long)i);
}

static void check_seek(struct model *m, uint64_t offset)
{
    off_t data = content_seek(m->fixture->view, m->ino, offset, SEEK_DATA), hole;

    if (offset >= m->size) {
        assert_int_equal(data, -ENXIO);
        assert_int_equal(content_seek(m->fixture->view, m->ino, offset, SEEK_HOLE), -ENXIO);
        return;
    }
    if (data == -ENXIO) assert_zeros(m, offset, m->size, "SEEK_DATA found none");
    else {
        assert_true(data >= (off_t)offset && data < (off_t)m->size);
        assert_zeros(m, offset, data, "SEEK_DATA passed over");
    }
    hole = content_seek(m->fixture->view, m->ino, offset, SEEK_HOLE);
    assert_true(hole >= (off_t)offset && hole <= (off_t)m->size);
    if (hole < (off_t)m->size) assert_zeros(m, hole, hole + 1, "SEEK_HOLE");
    if (data == (off_t)offset) assert_true(hole > data);
}

static void check_all(struct model *m)
{
    struct stat st = view_fixture_stat(m->fixture->view, m->ino);

    assert_int_equal(st.st_size, m->size);
    check_read(m, 0, MAX);
    assert_true(st.st_blocks * 512 <= 2 * MAX);
    for (uint64_t at = 0; at < m->size;) {
        off_t next = content_seek(m->fixture->view, m->ino, at, SEEK_DATA);

        check_seek(m, at);
        if (next < 0) break;
        at = content_seek(m->fixture->view, m->ino, next, SEEK_HOLE);
    }
}

static void do_one(struct model *m)
{
    switch (dice_below(&m->dice, 16)) {
    case 0:
    case 1: do_truncate(m); break;
    case 2:
    case 3:
    case 4: do_allocate(m); break;
    case 5: assert_int_equal(content_sync(m->fixture->view, m->ino, dice_once_in(&m->dice, 2)), 0); break;
    case 6: view_fixture_change(m->fixture->view, m->ino, &(struct stat){.st_mode = 0640}, INODE_MODE); break;
    default: do_write(m);
    }
}

static void reopen(struct model *m)
{
    m->fixture->shared.sync = dice_once_in(&m->dice, 10);
    view_fixture_reopen(m->fixture);
    check_all(m);
}

static void load(struct model *m)
{
    ssize_t size = content_read(m->fixture->view, m->ino, m->bytes, MAX, 0);

    assert_true(size >= 0);
    m->size = size;
}

static void run_model(struct model *m, int operations)
{
    for (int i = 0; i < operations; i++) {
        do_one(m);
        check_read(m, pick_offset(m), pick_length(m));
        check_seek(m, pick_offset(m));
        if (i % 8 == 0) check_all(m);
        if (dice_once_in(&m->dice, 150)) reopen(m);
    }
    reopen(m);
    m->fixture->shared.sync = false;
}

static void test_model_of_image_files(void **state)
{
    static const char *const paths[] = {"sizes/0", "sizes/1", "sizes/4095", "sizes/4096", "sizes/4097", "sizes/16384",
                                        "sizes/16385", "sizes/300000", "sparse", "links/a"};
    static struct model m;

    m = (struct model){.fixture = *state, .dice = dice_new()};
    view_fixture_open(*state, "model-image");
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        m.path = paths[i];
        m.ino = view_fixture_find(m.fixture->view, paths[i]);
        memset(m.bytes, 0, sizeof(m.bytes));
        load(&m);
        check_all(&m);
        run_model(&m, 1500);
    }
    view_fixture_check(m.fixture->view);
    view_fixture_close(m.fixture);
}

/* Few operations each, so that the first steps away from the image are walked often. */
static void test_model_of_first_changes(void **state)
{
    static const char *const paths[] = {"sizes/4097", "links/a", "sizes/16384", "sizes/16385", "sizes/300000",
                                        "sparse"};
    static struct model m;

    m = (struct model){.fixture = *state, .dice = dice_new()};
    for (int round = 0; round < 100; round++) {
        char serial[32];

        snprintf(serial, sizeof(serial), "first-%d", round);
        view_fixture_open(*state, serial);
        for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
            m.path = paths[i];
            m.ino = view_fixture_find(m.fixture->view, paths[i]);
            memset(m.bytes, 0, sizeof(m.bytes));
            load(&m);
            for (int n = 0; n < 4; n++) {
                (n == 0 && dice_once_in(&m.dice, 2) ? do_allocate : do_one)(&m);
                check_all(&m);
            }
        }
        view_fixture_close(m.fixture);
    }
}

static void test_model_of_new_files(void **state)
{
    static struct model m;

    m = (struct model){.fixture = *state, .dice = dice_new()};
    view_fixture_open(*state, "model-new");
    for (int i = 0; i < 4; i++) {
        char name[16];

        snprintf(name, sizeof(name), "new-%d", i);
        m.path = name;
        m.size = 0;
        memset(m.bytes, 0, sizeof(m.bytes));
        assert_int_equal(names_make(m.fixture->view, &view_fixture_caller, DELTA_ROOT, name, S_IFREG | 0600, 0,
                                    &m.ino), 0);
        run_model(&m, 1000);
    }
    view_fixture_close(m.fixture);
}

/* ---- single properties ---- */

static uint64_t bytes_on_disk(struct view_fixture *f, const char *name)
{
    char output[256];

    if (scratch_run(output, sizeof(output), "du -sB1 %s", view_fixture_path(f, name)) != 0) return 0;
    return strtoull(output, NULL, 10);
}

static int count_objects(struct view_fixture *f)
{
    DIR *dir = opendir(view_fixture_path(f, "objects"));
    struct dirent *e;
    int count = 0;

    assert_non_null(dir);
    while ((e = readdir(dir))) count += *e->d_name != '.';
    closedir(dir);
    return count;
}

static void assert_contents(struct view *v, uint64_t ino, uint64_t seed, uint64_t offset, size_t size)
{
    static uint8_t expected[MAX];

    view_fixture_fill(seed, offset, expected, size);
    assert_int_equal(content_read(v, ino, buffer, size, offset), size);
    assert_memory_equal(buffer, expected, size);
}

static void test_append_to_a_large_image_file_copies_little(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "append");
    uint64_t ino = view_fixture_find(v, "sizes/300000"), before, after;

    assert_int_equal(view_fixture_change(v, DELTA_ROOT, &(struct stat){.st_mode = 0755}, INODE_MODE), 0);
    assert_int_equal(view_sync(v), 0);
    before = bytes_on_disk(f, "");
    assert_int_equal(content_write(v, ino, "!", 1, 300000), 0);
    assert_int_equal(content_sync(v, ino, false), 0);
    after = bytes_on_disk(f, "");
    print_message("one byte costs %llu\n", (unsigned long long)(after - before));
    assert_in_range(after - before, 1, 65536);
    assert_int_equal(count_objects(f), 1);
    assert_contents(v, ino, 300000, 0, 300000);
    assert_int_equal(content_read(v, ino, buffer, 10, 299999), 2);
    assert_int_equal(buffer[1], '!');
    view_fixture_close(f);
}

static void test_attributes_copy_no_contents(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "attributes");
    struct stat st = {.st_mode = 0600, .st_uid = 12};
    uint64_t ino = view_fixture_find(v, "sizes/300000");
    blkcnt_t blocks = view_fixture_stat(v, ino).st_blocks;

    assert_true(blocks >= 300000 / 512);
    assert_int_equal(view_fixture_change(v, ino, &st, INODE_MODE | INODE_UID), 0);
    assert_int_equal(names_link(v, ino, DELTA_ROOT, "again"), 0);
    assert_int_equal(names_rename(v, &view_fixture_caller, DELTA_ROOT, "again", DELTA_ROOT, "later", 0), 0);
    assert_in_range(view_fixture_stat(v, ino).st_blocks, blocks - 8, blocks + 8);
    assert_int_equal(count_objects(f), 0);
    assert_contents(v, ino, 300000, 0, 300000);
    view_fixture_close(f);
}

static void test_blocks(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "blocks");
    uint64_t large = view_fixture_find(v, "sizes/300000"), sparse = view_fixture_find(v, "sparse");
    uint64_t zero = view_fixture_find(v, "sizes/0"), fresh;

    assert_int_equal(view_fixture_stat(v, zero).st_blocks, 0);
    assert_in_range(view_fixture_stat(v, sparse).st_blocks, 2, 64);
    assert_int_equal(content_write(v, sparse, "x", 1, 10), 0);
    assert_in_range(view_fixture_stat(v, sparse).st_blocks, 2, 80);
    assert_int_equal(content_write(v, large, "x", 1, 10), 0);
    assert_in_range(view_fixture_stat(v, large).st_blocks, 580, 700);
    assert_int_equal(content_truncate(v, large, 4096, NULL), 0);
    assert_in_range(view_fixture_stat(v, large).st_blocks, 1, 16);
    assert_int_equal(content_truncate(v, large, 0, NULL), 0);
    assert_int_equal(view_fixture_stat(v, large).st_blocks, 0);
    assert_int_equal(names_make(v, &view_fixture_caller, DELTA_ROOT, "holes", S_IFREG | 0600, 0, &fresh), 0);
    assert_int_equal(content_truncate(v, fresh, UINT64_C(1) << 40, NULL), 0);
    assert_in_range(view_fixture_stat(v, fresh).st_blocks, 0, 8);
    assert_int_equal(content_write(v, fresh, "x", 1, UINT64_C(1) << 39), 0);
    assert_in_range(view_fixture_stat(v, fresh).st_blocks, 1, 16);
    assert_int_equal(content_seek(v, fresh, 0, SEEK_DATA), UINT64_C(1) << 39);
    view_fixture_close(f);
}

static void test_many_chunks(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "chunks");
    uint64_t ino = view_fixture_find(v, "sizes/300000");

    for (uint64_t at = 0; at < 300000; at += 2 * CONTENT_PAGE)
        assert_int_equal(content_write(v, ino, "#", 1, at), 0);
    v = view_fixture_reopen(f);
    assert_int_equal(content_read(v, ino, buffer, MAX, 0), 300000);
    for (uint64_t at = 0; at < 300000; at++) {
        uint8_t expected = '#';

        if (at % (2 * CONTENT_PAGE)) view_fixture_fill(300000, at, &expected, 1);
        assert_int_equal(buffer[at], expected);
    }
    assert_in_range(view_fixture_stat(v, ino).st_blocks, 580, 620);
    assert_int_equal(content_seek(v, ino, 0, SEEK_HOLE), 300000);
    view_fixture_close(f);
}

/* A truncation that was cut short leaves bytes in the object that are no longer the file's. */
static void test_leftovers_behind_the_end_never_show(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "leftovers");
    uint64_t inos[2];
    char output[64];

    for (int i = 0; i < 2; i++) {
        assert_int_equal(names_make(v, &view_fixture_caller, DELTA_ROOT, i ? "b" : "a", S_IFREG | 0600, 0, &inos[i]),
                         0);
        view_fixture_fill(5, 0, buffer, 20000);
        assert_int_equal(content_write(v, inos[i], buffer, 20000, 0), 0);
    }
    assert_int_equal(scratch_run(output, sizeof(output), "for o in %s/*; do seq 99999 >>$o; done",
                                 view_fixture_path(f, "objects")), 0);
    assert_int_equal(content_write(v, inos[0], "x", 1, 59999), 0);
    assert_int_equal(content_truncate(v, inos[1], 60000, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_contents(v, inos[i], 5, 0, 20000);
        assert_int_equal(content_read(v, inos[i], buffer, 39999, 20000), 39999);
        for (int n = 0; n < 39999; n++) assert_int_equal(buffer[n], 0);
    }
    view_fixture_close(f);
}

/* As a power cut that took the rows of a write and not its bytes leaves the only object. */
static void write_into_object(struct view_fixture *f, uint64_t page, int count)
{
    char output[256];

    assert_int_equal(count_objects(f), 1);
    assert_int_equal(scratch_run(output, sizeof(output),
                                 "yes | dd of=$(echo %s/*) bs=4096 iflag=fullblock conv=notrunc status=none count=%d seek=%llu",
                                 view_fixture_path(f, "objects"), count, (unsigned long long)page), 0);
}

static void assert_zeros_from(struct view *v, uint64_t ino, uint64_t start, uint64_t end)
{
    assert_int_equal(content_read(v, ino, buffer, end - start, start), end - start);
    for (uint64_t i = 0; i < end - start; i++) assert_int_equal(buffer[i], 0);
}

static void test_a_page_is_a_chunks_or_the_objects(void **state)
{
    enum { END = 300000, PAGE = END - END % CONTENT_PAGE, LONGER = PAGE + 3 * CONTENT_PAGE };
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "pages");
    uint64_t ino = view_fixture_find(v, "sizes/300000");

    assert_int_equal(content_write(v, ino, "x", 1, 0), 0);
    assert_int_equal(content_truncate(v, ino, LONGER, NULL), 0);
    write_into_object(f, END / CONTENT_PAGE, 1);
    assert_contents(v, ino, 300000, PAGE, END - PAGE);
    assert_zeros_from(v, ino, END, LONGER);
    assert_int_equal(content_seek(v, ino, END, SEEK_HOLE), END);
    assert_int_equal(content_write(v, ino, "y", 1, END + 100), 0);
    assert_contents(v, ino, 300000, PAGE, END - PAGE);
    assert_zeros_from(v, ino, END, END + 100);
    assert_int_equal(content_read(v, ino, buffer, 10, END + 100), 10);
    assert_int_equal(buffer[0], 'y');
    assert_zeros_from(v, ino, END + 101, LONGER);
    view_fixture_close(f);
}

static int write_with_limit(struct view *v, uint64_t ino, size_t size, uint64_t offset, uint64_t limit)
{
    struct rlimit before;
    int r;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, before.rlim_max}), 0);
    r = content_write(v, ino, buffer, size, offset);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    return r;
}

/* Recovery would take them for what is written there next; so they are gone also when that fails. */
static void test_leftovers_beneath_chunks_go_before_a_write(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "beneath");
    uint64_t ino = view_fixture_find(v, "sizes/300000"), before;

    assert_int_equal(content_write(v, ino, "x", 1, 0), 0);
    write_into_object(f, 10, 60);
    assert_int_equal(content_sync(v, ino, false), 0);
    before = bytes_on_disk(f, "objects");
    assert_contents(v, ino, 300000, CONTENT_PAGE, 300000 - CONTENT_PAGE);
    assert_true(write_with_limit(v, ino, 8 * CONTENT_PAGE, 60 * CONTENT_PAGE - 1, 50 * CONTENT_PAGE) < 0);
    assert_int_equal(before - bytes_on_disk(f, "objects"), 9 * CONTENT_PAGE);
    assert_contents(v, ino, 300000, CONTENT_PAGE, 300000 - CONTENT_PAGE);
    view_fixture_close(f);
}

static void test_seek_behind_the_object(void **state)
{
    struct view *v = view_fixture_open(*state, "seek");
    uint64_t ino;

    assert_int_equal(names_make(v, &view_fixture_caller, DELTA_ROOT, "file", S_IFREG | 0600, 0, &ino), 0);
    view_fixture_fill(5, 0, buffer, 20000);
    assert_int_equal(content_write(v, ino, buffer, 20000, 0), 0);
    assert_int_equal(content_truncate(v, ino, 200000, NULL), 0);
    assert_int_equal(content_seek(v, ino, 100000, SEEK_HOLE), 100000);
    assert_int_equal(content_seek(v, ino, 100000, SEEK_DATA), -ENXIO);
    assert_in_range(content_seek(v, ino, 0, SEEK_HOLE), 20000, 65536);
    view_fixture_close(*state);
}

static void test_refusals(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "refusals");
    uint64_t file = view_fixture_find(v, "sizes/1"), fifo = view_fixture_find(v, "fifo");

    assert_int_equal(content_read(v, DELTA_ROOT, buffer, 1, 0), -EISDIR);
    assert_int_equal(content_write(v, DELTA_ROOT, "x", 1, 0), -EISDIR);
    assert_int_equal(content_truncate(v, DELTA_ROOT, 0, NULL), -EISDIR);
    assert_int_equal(content_read(v, fifo, buffer, 1, 0), -EINVAL);
    assert_int_equal(content_write(v, file, "x", 1, INT64_MAX), -EFBIG);
    assert_int_equal(content_truncate(v, file, UINT64_C(1) << 63, NULL), -EFBIG);
    assert_int_equal(content_allocate(v, file, 0, INT64_MAX - 5, 6), -EFBIG);
    assert_int_equal(content_allocate(v, file, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
    assert_int_equal(content_seek(v, file, 0, SEEK_SET), -EINVAL);
    assert_int_equal(content_seek(v, file, 1, SEEK_DATA), -ENXIO);
    assert_int_equal(content_write(v, file, "x", 0, 1000000), 0);
    assert_int_equal(view_fixture_stat(v, file).st_size, 1);
    assert_int_equal(content_read(v, 1 << 30, buffer, 1, 0), -ESTALE);
    view_fixture_close(f);
}

static void test_missing_object(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "missing");
    uint64_t ino = view_fixture_find(v, "sizes/300000");
    char output[256];

    assert_int_equal(content_write(v, ino, "x", 1, 0), 0);
    v = view_fixture_reopen(f);
    assert_int_equal(count_objects(f), 1);
    assert_int_equal(scratch_run(output, sizeof(output), "rm %s/*", view_fixture_path(f, "objects")), 0);
    assert_int_equal(content_read(v, ino, buffer, 100, 0), -EIO);
    assert_int_equal(content_write(v, ino, "x", 1, 0), -EIO);
    assert_contents(v, ino, 300000, 8192, 1000); /* what is still the image's */
    assert_int_equal(view_fixture_stat(v, ino).st_size, 300000);
    assert_int_equal(names_unlink(v, view_fixture_find(v, "sizes"), "300000"), 0);
    view_fixture_close(f);
}

static void cut_object(struct view_fixture *f, uint64_t size)
{
    char output[256];

    assert_int_equal(count_objects(f), 1);
    assert_int_equal(scratch_run(output, sizeof(output), "truncate -s %llu %s/*", (unsigned long long)size,
                                 view_fixture_path(f, "objects")), 0);
}

static void test_short_object(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "short");
    uint64_t ino;

    assert_int_equal(names_make(v, &view_fixture_caller, DELTA_ROOT, "file", S_IFREG | 0600, 0, &ino), 0);
    view_fixture_fill(5, 0, buffer, 100000);
    assert_int_equal(content_write(v, ino, buffer, 100000, 0), 0);
    assert_int_equal(content_truncate(v, ino, 200000, NULL), 0);
    assert_int_equal(content_sync(v, ino, true), 0);
    for (int i = 0; i < 2; i++) {
        cut_object(f, 50000);
        assert_contents(v, ino, 5, 0, 50000);
        assert_int_equal(content_read(v, ino, buffer, 1, 50000), -EIO);
        assert_int_equal(content_read(v, ino, buffer, 100, 49950), -EIO);
        assert_int_equal(content_read(v, ino, buffer, 100, 150000), -EIO);
        assert_int_equal(content_write(v, ino, "x", 1, 100), -EIO);
        assert_int_equal(content_write(v, ino, "x", 1, 300000), -EIO);
        assert_int_equal(content_truncate(v, ino, 300000, NULL), -EIO);
        v = view_fixture_reopen(f);
    }
    assert_int_equal(content_truncate(v, ino, 0, NULL), 0);
    assert_int_equal(content_write(v, ino, "again", 5, 0), 0);
    view_fixture_close(f);
}

/* As a power cut leaves it: nobody can tell that it was written, and what was not synced may be zeros. */
static void test_short_object_of_a_file_never_synced(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "unsynced");
    uint64_t ino;

    assert_int_equal(names_make(v, &view_fixture_caller, DELTA_ROOT, "file", S_IFREG | 0600, 0, &ino), 0);
    view_fixture_fill(5, 0, buffer, 100000);
    assert_int_equal(content_write(v, ino, buffer, 60000, 0), 0);
    assert_int_equal(content_sync(v, ino, true), 0);
    assert_int_equal(content_write(v, ino, buffer + 60000, 40000, 60000), 0);
    view_fixture_close(f);
    cut_object(f, 60000);
    v = view_fixture_open(f, "unsynced");
    assert_contents(v, ino, 5, 0, 60000);
    assert_zeros_from(v, ino, 60000, 100000);
    assert_int_equal(content_sync(v, ino, false), 0);
    cut_object(f, 60000);
    v = view_fixture_reopen(f);
    assert_int_equal(content_read(v, ino, buffer, 100, 60000), -EIO);
    view_fixture_close(f);
}

static void test_missing_image_file(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "image-gone");
    uint64_t ino = view_fixture_find(v, "sizes/300000");
    const char *from = scratch_path(&f->scratch, "images/base/rootfs/sizes/300000");
    const char *to = scratch_path(&f->scratch, "away");
    ssize_t read, written;

    fdcache_drop_owner(f->shared.files, f->image);
    assert_int_equal(rename(from, to), 0);
    read = content_read(v, ino, buffer, 100, 0);
    written = content_write(v, ino, "x", 1, 0);
    assert_int_equal(rename(to, from), 0);
    assert_int_equal(read, -EIO);
    assert_int_equal(written, -EIO);
    assert_int_equal(count_objects(f), 0);
    assert_contents(v, ino, 300000, 0, 300000);
    view_fixture_close(f);
}

#define NS INT64_C(1000000000)

static int64_t mtime_of(struct view *v, uint64_t ino)
{
    struct stat st = view_fixture_stat(v, ino);

    return st.st_mtim.tv_sec * NS + st.st_mtim.tv_nsec;
}

/* A write in place takes the clock's tick, but never leaves a time that somebody set, or an older one. */
static void test_time_of_writes_in_place(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "ticks");
    uint64_t ino;

    assert_int_equal(names_make(v, &view_fixture_caller, DELTA_ROOT, "file", S_IFREG | 0600, 0, &ino), 0);
    assert_int_equal(content_write(v, ino, buffer, 40000, 0), 0);
    for (int i = 0; i < 200; i++) {
        int64_t before = io_now(), mtime;

        assert_int_equal(content_write(v, ino, "x", 1, i), 0);
        mtime = mtime_of(v, ino);
        assert_in_range(mtime, before - 4000000, io_now());
        if (i % 20 == 0) usleep(5000);
        if (i % 50 != 1) continue;
        assert_int_equal(view_fixture_change(v, ino, &(struct stat){.st_mtim = {.tv_sec = i}}, INODE_MTIME), 0);
        assert_int_equal(content_write(v, ino, "y", 1, 30000), 0);
        assert_true(mtime_of(v, ino) >= mtime);
        assert_int_equal(view_fixture_change(v, ino, &(struct stat){.st_mtim = {.tv_sec = 1u << 31}}, INODE_MTIME), 0);
        assert_int_equal(content_write(v, ino, "y", 1, 30000), 0);
        assert_in_range(mtime_of(v, ino), mtime, io_now());
        mtime = io_now();
        assert_int_equal(view_fixture_change(v, ino, &(struct stat){.st_mtim = {(mtime - 1000000) / NS, (mtime - 1000000) % NS}}, INODE_MTIME), 0);
        assert_int_equal(content_write(v, ino, "y", 1, 30000), 0);
        assert_true(mtime_of(v, ino) >= mtime);
    }
    view_fixture_close(f);
}

/* What was in the row is in the object then; the row stays until that is on the disk. */
static void test_a_file_that_outgrows_its_row(void **state)
{
    enum { SMALL = CONTENT_ROW_MAX - 100 };
    static const uint64_t offsets[] = {SMALL, 0, 5000, CONTENT_ROW_MAX - CONTENT_PAGE, 100000};
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "outgrown");

    for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
        struct delta_inode row;
        char name[32], byte;
        size_t length;
        uint64_t ino;

        snprintf(name, sizeof(name), "file%zu", i);
        assert_int_equal(names_make(v, &view_fixture_caller, DELTA_ROOT, name, S_IFREG | 0644, 0, &ino), 0);
        view_fixture_fill(ino, 0, buffer, SMALL);
        assert_int_equal(content_write(v, ino, buffer, SMALL, 0), 0);
        view_fixture_fill(ino, offsets[i], buffer, CONTENT_ROW_MAX + 1);
        assert_int_equal(content_write(v, ino, buffer, CONTENT_ROW_MAX + 1, offsets[i]), 0);
        assert_contents(v, ino, ino, 0, offsets[i] < SMALL ? offsets[i] + CONTENT_ROW_MAX + 1 : SMALL);
        assert_contents(v, ino, ino, offsets[i], CONTENT_ROW_MAX + 1);

        struct delta *d = view_lock(v);
        assert_int_equal(delta_get_inode(d, ino, &row), 1);
        assert_true(row.object > 0 && !row.chunked);
        assert_int_equal(delta_get_content(d, ino, &byte, 1, &length), 1);
        view_unlock(d);
        assert_int_equal(content_sync(v, ino, true), 0);
        d = view_lock(v);
        assert_int_equal(delta_get_content(d, ino, &byte, 1, &length), 0);
        view_unlock(d);
    }
    view_fixture_close(f);
}

static void test_objects_end_with_their_files(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "ends");
    uint64_t large = view_fixture_find(v, "sizes/300000"), other = view_fixture_find(v, "sizes/16385");

    assert_int_equal(content_write(v, large, "x", 1, 0), 0);
    assert_int_equal(content_write(v, other, "x", 1, 0), 0);
    assert_int_equal(count_objects(f), 2);
    assert_int_equal(names_unlink(v, view_fixture_find(v, "sizes"), "300000"), 0);
    assert_int_equal(content_truncate(v, other, 0, NULL), 0);
    assert_int_equal(count_objects(f), 2);
    assert_int_equal(view_sync(v), 0);
    assert_int_equal(count_objects(f), 0);
    assert_int_equal(content_write(v, other, buffer, 20000, 0), 0);
    assert_int_equal(count_objects(f), 1);
    view_fixture_close(f);
}

/* What a write or a flush has promised is there after the daemon was killed. */
static void write_and_die(struct view_fixture *f)
{
    struct view *v = view_fixture_open(f, "killed");
    uint64_t fresh;

    if (names_make(v, &view_fixture_caller, DELTA_ROOT, "fresh", S_IFREG | 0600, 0, &fresh) < 0) _exit(1);
    if (content_write(v, fresh, "small", 5, 0) < 0) _exit(2);
    if (content_write(v, view_fixture_find(v, "sizes/1"), "small", 5, 1) < 0) _exit(3);
    if (content_write(v, view_fixture_find(v, "sizes/300000"), "large", 5, 300000) < 0) _exit(4);
    if (content_write(v, view_fixture_find(v, "sizes/16384"), "grown", 5, 16384) < 0) _exit(5);
    _exit(0);
}

static void test_writes_outlive_the_daemon(void **state)
{
    struct view_fixture *f = *state;
    struct view *v;
    int status;
    pid_t child = fork();

    if (child == 0) write_and_die(f);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    v = view_fixture_open(f, "killed");
    assert_int_equal(content_read(v, view_fixture_find(v, "fresh"), buffer, 10, 0), 5);
    assert_memory_equal(buffer, "small", 5);
    assert_int_equal(content_read(v, view_fixture_find(v, "sizes/1"), buffer, 10, 0), 6);
    assert_memory_equal(buffer + 1, "small", 5);
    assert_contents(v, view_fixture_find(v, "sizes/300000"), 300000, 0, 300000);
    assert_int_equal(content_read(v, view_fixture_find(v, "sizes/300000"), buffer, 10, 300000), 5);
    assert_memory_equal(buffer, "large", 5);
    assert_contents(v, view_fixture_find(v, "sizes/16384"), 16384, 0, 16384);
    assert_int_equal(content_read(v, view_fixture_find(v, "sizes/16384"), buffer, 10, 16384), 5);
    assert_memory_equal(buffer, "grown", 5);
    view_fixture_check(v);
    view_fixture_close(f);
}

/* ---- threads ---- */

enum { THREADS = 8, SHARE = 37500 }; /* bytes of the file that are one thread's, not on a page's border */

struct writer {
    struct view *view;
    pthread_t thread;
    uint64_t ino, first, seed;
    int failures;
    uint8_t expected[SHARE];
};

static void *write_share(void *data)
{
    struct writer *w = data;
    struct dice dice = {w->seed};
    uint8_t seen[SHARE];

    for (int i = 0; i < 150; i++) {
        uint64_t at = dice_below(&dice, SHARE), size = 1 + dice_below(&dice, SHARE - at);

        view_fixture_fill(dice_roll(&dice) & 0xffff, 0, w->expected + at, size);
        w->failures += content_write(w->view, w->ino, w->expected + at, size, w->first + at) != 0;
        w->failures += content_read(w->view, w->ino, seen, SHARE, w->first) != SHARE;
        w->failures += memcmp(seen, w->expected, SHARE) != 0;
        if (i % 10 == 0)
            w->failures += view_fixture_change(w->view, w->ino, &(struct stat){.st_uid = i}, INODE_UID) != 0;
        if (i % 50 == 0) w->failures += content_sync(w->view, w->ino, true) != 0;
    }
    return NULL;
}

static void test_threads_write_one_file(void **state)
{
    static struct writer writers[THREADS];
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "threads");
    uint64_t ino = view_fixture_find(v, "sizes/300000"), seed = dice_new().state;

    for (uint64_t i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){.view = v, .ino = ino, .first = i * SHARE, .seed = seed + i};
        view_fixture_fill(300000, i * SHARE, writers[i].expected, SHARE);
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_share, &writers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(writers[i].thread, NULL);
    v = view_fixture_reopen(f);
    assert_int_equal(content_read(v, ino, buffer, MAX, 0), 300000);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(writers[i].failures, 0);
        assert_memory_equal(buffer + i * SHARE, writers[i].expected, SHARE);
    }
    view_fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_to_a_large_image_file_copies_little),
        cmocka_unit_test(test_attributes_copy_no_contents),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_many_chunks),
        cmocka_unit_test(test_leftovers_behind_the_end_never_show),
        cmocka_unit_test(test_a_page_is_a_chunks_or_the_objects),
        cmocka_unit_test(test_leftovers_beneath_chunks_go_before_a_write),
        cmocka_unit_test(test_seek_behind_the_object),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_missing_object),
        cmocka_unit_test(test_short_object),
        cmocka_unit_test(test_short_object_of_a_file_never_synced),
        cmocka_unit_test(test_missing_image_file),
        cmocka_unit_test(test_time_of_writes_in_place),
        cmocka_unit_test(test_a_file_that_outgrows_its_row),
        cmocka_unit_test(test_objects_end_with_their_files),
        cmocka_unit_test(test_writes_outlive_the_daemon),
        cmocka_unit_test(test_threads_write_one_file),
        cmocka_unit_test(test_model_of_first_changes),
        cmocka_unit_test(test_model_of_new_files),
        cmocka_unit_test(test_model_of_image_files),
    };

    return cmocka_run_group_tests(tests, view_fixture_setup, view_fixture_teardown);
}
