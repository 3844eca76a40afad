/* Random input and output at random offsets of one file, against a model of it in memory.
 *
 * Half of the files come from the image. COPPICE_RANDOM_SECONDS, COPPICE_RANDOM_SEED: see mount_random.c. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "harness.h"
#include "made_tree.h"
#include "random_ops.h"

enum { IMAGE_FILES = 60, LARGEST = 4 << 20, PIECE = 200000, OPERATIONS = 250, NOTES = 30, OTHER_SIZE = 1 << 20 };

static struct {
    uint64_t state;
    char path[1600];
    unsigned char *model; /* of LARGEST bytes, zeros behind `size` */
    size_t size;
    int fd;
    int other; /* a file of the image to copy from, of seed OTHER_SIZE */
    long count;
    char notes[NOTES][120];
} io;

static uint64_t below(uint64_t limit)
{
    return random_below(&io.state, limit);
}

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
    char *to = io.notes[io.count++ % NOTES];
    int length = snprintf(to, 120, "%ld: ", io.count);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(to + length, 120 - (size_t)length, format, arguments);
    va_end(arguments);
}

static void fail_with_notes(const char *what, size_t at)
{
    print_error("%s: %s at %zu; size %zu; seed above; last operations:\n", io.path, what, at, io.size);
    long first = io.count < NOTES ? 0 : io.count - NOTES;
    for (long i = first; i < io.count; i++) print_error("  %s\n", io.notes[i % NOTES]);
    fail();
}

/* Mostly inside of the file, often on a border of pages or chunks, sometimes behind the end. */
static size_t some_offset(size_t room)
{
    static const size_t borders[] = {4096, 16384, 65536, 131072};
    size_t reach = below(4) ? io.size + 1 : LARGEST;
    size_t offset = below(reach < room ? reach : room);
    if (below(3) == 0) {
        size_t border = borders[below(4)];
        offset = offset / border * border + below(3);
        offset -= offset > 0 && below(2) ? 1 : 0;
    }
    return offset < room ? offset : room - 1;
}

static size_t some_length(size_t offset)
{
    size_t length = 1 + (below(3) ? below(9000) : below(PIECE));
    return offset + length > LARGEST ? LARGEST - offset : length;
}

static void grow(size_t end)
{
    if (end > io.size) io.size = end;
}

static void check_size(void)
{
    struct stat st;
    must(fstat(io.fd, &st));
    if ((size_t)st.st_size != io.size) fail_with_notes("another size", (size_t)st.st_size);
}

static void check_range(const unsigned char *found, size_t offset, size_t length)
{
    if (memcmp(found, io.model + offset, length) == 0) return;
    size_t at = 0;
    while (found[at] == io.model[offset + at]) at++;
    fail_with_notes("another byte", offset + at);
}

static void check_whole_file(const char *path)
{
    static unsigned char buffer[1 << 18];
    int fd = must(open(path, O_RDONLY | O_CLOEXEC));
    size_t offset = 0;
    for (ssize_t length; (length = must(read(fd, buffer, sizeof(buffer)))) > 0; offset += (size_t)length) {
        if (offset + (size_t)length > io.size) fail_with_notes("too many bytes", offset);
        check_range(buffer, offset, (size_t)length);
    }
    must(close(fd));
    if (offset != io.size) fail_with_notes("another end", offset);
}

/* ---- the operations ---- */

static void op_read(void)
{
    static unsigned char buffer[PIECE + 1];
    size_t offset = some_offset(LARGEST), length = some_length(offset);
    size_t expected = offset >= io.size ? 0 : io.size - offset < length ? io.size - offset : length;
    note("read %zu+%zu", offset, length);
    if (must(pread(io.fd, buffer, length, (off_t)offset)) != (ssize_t)expected)
        fail_with_notes("another length read", offset);
    check_range(buffer, offset, expected);
}

static void op_write(void)
{
    size_t offset = some_offset(LARGEST), length = some_length(offset);
    note("write %zu+%zu", offset, length);
    made_fill(below(1000), offset, io.model + offset, length);
    if (must(pwrite(io.fd, io.model + offset, length, (off_t)offset)) != (ssize_t)length)
        fail_with_notes("short write", offset);
    grow(offset + length);
}

static void op_append(void)
{
    size_t length = some_length(io.size);
    if (length == 0) return;
    note("append %zu", length);
    int fd = must(open(io.path, O_WRONLY | O_APPEND | O_CLOEXEC));
    made_fill(below(1000), 5, io.model + io.size, length);
    if (must(write(fd, io.model + io.size, length)) != (ssize_t)length) fail_with_notes("short write", io.size);
    must(close(fd));
    grow(io.size + length);
}

static void op_truncate(void)
{
    size_t size = below(6) ? some_offset(LARGEST) : 0;
    if (below(2) && size > io.size + 100000) size = io.size;
    note("truncate %zu", size);
    must(ftruncate(io.fd, (off_t)size));
    if (size < io.size) memset(io.model + size, 0, io.size - size);
    io.size = size;
}

static void op_map_read(void)
{
    if (io.size == 0) return;
    size_t offset = below(io.size), length = io.size - offset < PIECE ? io.size - offset : PIECE;
    note("map and read %zu+%zu", offset, length);
    unsigned char *map = mmap(NULL, io.size, PROT_READ, below(2) ? MAP_SHARED : MAP_PRIVATE, io.fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    check_range(map + offset, offset, length);
    must(munmap(map, io.size));
}

static void op_map_write(void)
{
    if (io.size == 0) return;
    size_t offset = below(io.size), length = io.size - offset < 50000 ? io.size - offset : 50000;
    note("map and write %zu+%zu", offset, length);
    unsigned char *map = mmap(NULL, io.size, PROT_READ | PROT_WRITE, MAP_SHARED, io.fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    made_fill(below(1000), offset, map + offset, length);
    memcpy(io.model + offset, map + offset, length);
    if (below(2)) must(msync(map, io.size, MS_SYNC));
    must(munmap(map, io.size));
}

static void op_punch(void)
{
    size_t offset = some_offset(LARGEST), length = some_length(offset);
    note("punch %zu+%zu", offset, length);
    must(fallocate(io.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length));
    memset(io.model + offset, 0, length);
}

static void op_zero(void)
{
    size_t offset = some_offset(LARGEST), length = some_length(offset);
    bool is_kept = below(2);
    note("zero %zu+%zu%s", offset, length, is_kept ? ", size kept" : "");
    must(fallocate(io.fd, FALLOC_FL_ZERO_RANGE | (is_kept ? FALLOC_FL_KEEP_SIZE : 0), (off_t)offset, (off_t)length));
    memset(io.model + offset, 0, length);
    if (!is_kept) grow(offset + length);
}

static void op_allocate(void)
{
    size_t offset = some_offset(LARGEST), length = some_length(offset);
    bool is_kept = below(2);
    note("allocate %zu+%zu%s", offset, length, is_kept ? ", size kept" : "");
    must(fallocate(io.fd, is_kept ? FALLOC_FL_KEEP_SIZE : 0, (off_t)offset, (off_t)length));
    if (!is_kept) grow(offset + length);
}

static void copy_all(int from, loff_t in, loff_t out, size_t length)
{
    while (length > 0) {
        ssize_t copied = must(copy_file_range(from, &in, io.fd, &out, length, 0));
        if (copied == 0) fail_with_notes("copy ends early", (size_t)out);
        length -= (size_t)copied;
    }
}

static void op_copy_within(void)
{
    if (io.size < 2) return;
    size_t half = io.size / 2, in = below(half), length = 1 + below(half - in < PIECE ? half - in : PIECE);
    size_t out = half + below(io.size - half);
    if (out + length > LARGEST) return;
    if (below(2)) {
        size_t swapped = in; /* towards the start */
        if (out + length > io.size) return;
        in = out, out = swapped;
        if (out + length > in) return;
    }
    note("copy within %zu+%zu to %zu", in, length, out);
    copy_all(io.fd, (loff_t)in, (loff_t)out, length);
    memmove(io.model + out, io.model + in, length);
    grow(out + length);
}

static void op_copy_from_image(void)
{
    size_t in = below(OTHER_SIZE - PIECE), out = some_offset(LARGEST), length = some_length(out);
    if (length == 0) return;
    note("copy from image %zu+%zu to %zu", in, length, out);
    copy_all(io.other, (loff_t)in, (loff_t)out, length);
    made_fill(OTHER_SIZE, in, io.model + out, length);
    grow(out + length);
}

/* Whatever is said to be a hole holds zeros. */
static void op_seek(void)
{
    if (io.size == 0) return;
    size_t offset = below(io.size);
    note("seek data from %zu", offset);
    off_t data = lseek(io.fd, (off_t)offset, SEEK_DATA);
    if (data < 0 && errno != ENXIO) fail_with_notes("SEEK_DATA", offset);
    size_t end = data < 0 ? io.size : (size_t)data;
    for (size_t at = offset; at < end; at++)
        if (io.model[at]) fail_with_notes("a hole where data is", at);
    off_t hole = must(lseek(io.fd, (off_t)offset, SEEK_HOLE));
    if (hole < (off_t)offset || (size_t)hole > io.size) fail_with_notes("SEEK_HOLE", (size_t)hole);
}

static void op_reopen(void)
{
    note("reopen");
    if (below(2)) must(fsync(io.fd));
    int fd = must(open(io.path, O_RDWR | O_CLOEXEC));
    must(close(io.fd));
    io.fd = fd;
}

static void op_rename(void)
{
    note("rename and back");
    char away[1700];
    snprintf(away, sizeof(away), "%s.away", io.path);
    must(rename(io.path, away));
    must(rename(away, io.path));
}

static const struct {
    void (*run)(void);
    unsigned weight;
} operations[] = {
    {op_read, 14},           {op_write, 16}, {op_append, 4}, {op_truncate, 5}, {op_map_read, 4},
    {op_map_write, 6},       {op_punch, 5},  {op_zero, 4},   {op_allocate, 3}, {op_copy_within, 4},
    {op_copy_from_image, 4}, {op_seek, 5},   {op_reopen, 3}, {op_rename, 1},
};

static void do_one(void)
{
    unsigned total = 0, chosen = 0;
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) total += operations[i].weight;
    uint64_t place = below(total);
    while (place >= operations[chosen].weight) place -= operations[chosen++].weight;
    operations[chosen].run();
    check_size();
}

/* ---- files ---- */

static uint64_t size_of_image_file(int number)
{
    static const uint64_t sizes[] = {0, 1, 700, 4096, 16384, 20000, 65536, 131072, 400001, 1 << 20, 3000000};
    return sizes[number % 11] + (uint64_t)(number / 11);
}

static void open_files(void)
{
    io.fd = must(open(io.path, O_RDWR | O_CLOEXEC));
    io.other = must(open(harness_at(0, "io/other"), O_RDONLY | O_CLOEXEC));
}

static void close_files(void)
{
    must(close(io.fd));
    must(close(io.other));
}

static void begin_file(int number)
{
    bool is_of_image = number % 2 == 0 && number / 2 < IMAGE_FILES;
    const char *path = is_of_image ? harness_at(0, "io/%d", number / 2) : harness_at(0, "new_%d", number);
    snprintf(io.path, sizeof(io.path), "%s", path);
    memset(io.model, 0, LARGEST);
    io.size = is_of_image ? size_of_image_file(number / 2) : 0;
    if (is_of_image)
        made_fill((uint64_t)number / 2, 0, io.model, io.size);
    else
        made_file(io.path, 0, 0, 0644);
    open_files();
}

static void come_back(int number)
{
    switch (number % 4) {
    case 0:
        harness_drop_caches();
        break;
    case 1:
        close_files(), harness_remount(), open_files();
        break;
    case 2:
        break;
    default:
        close_files(), harness_kill_daemon(), harness_mount(), open_files();
    }
    note("came back");
}

static void test_random_input_and_output_agrees_with_a_model_in_memory(void **state)
{
    (void)state;
    double end = harness_seconds() + random_seconds(20);
    int number = 0;
    do {
        begin_file(number);
        for (int part = 0; part < 2; part++) {
            for (int i = 0; i < OPERATIONS; i++) do_one();
            check_whole_file(io.path);
            if (part == 0) come_back(number);
            check_whole_file(io.path);
        }
        close_files();
        if (number % 2) must(unlink(io.path));
        number++;
    } while (harness_seconds() < end);
    print_message("%ld operations on %d files\n", io.count, number);
}

static void test_the_other_node_s_files_are_the_image_s(void **state)
{
    (void)state;
    for (int i = 0; i < IMAGE_FILES; i++)
        made_check_file(harness_at(1, "io/%d", i), (uint64_t)i, size_of_image_file(i));
}

static void add_files(const char *image)
{
    char path[1400];
    snprintf(path, sizeof(path), "%s/io", image);
    must(mkdir(path, 0755));
    snprintf(path, sizeof(path), "%s/io/other", image);
    made_file(path, OTHER_SIZE, OTHER_SIZE, 0644);
    for (int i = 0; i < IMAGE_FILES; i++) {
        snprintf(path, sizeof(path), "%s/io/%d", image, i);
        made_file(path, (uint64_t)i, size_of_image_file(i), 0644);
    }
}

static int setup(void **state)
{
    (void)state;
    harness_start(&(struct harness_options){.extra = add_files});
    io.state = random_seed();
    io.model = malloc(LARGEST);
    assert_non_null(io.model);
    return 0;
}

static int teardown(void **state)
{
    free(io.model);
    return harness_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_input_and_output_agrees_with_a_model_in_memory),
        cmocka_unit_test(test_the_other_node_s_files_are_the_image_s),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
