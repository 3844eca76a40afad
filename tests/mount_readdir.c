/* Directory streams: read in pieces on fresh descriptors, as nfsd does, while names come and go. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "harness.h"
#include "made_tree.h"

enum { STABLE = 50000, MAKERS = 8, PIECE = 4096, VISITORS = 400, PASSES = 4 };

static const char *at(const char *name)
{
    return harness_at(0, "%s", name);
}

struct raw_entry {
    uint64_t d_ino;
    int64_t d_off;
    unsigned short d_reclen;
    unsigned char d_type;
    char d_name[];
};

/* What a pass over a directory has seen, by the number at the end of the name. */
struct pass {
    const char *directory;
    const char *prefix; /* of the entries that are there throughout */
    int count;
    unsigned char *seen;
    int64_t last; /* cookie to go on from */
    int dots, others, pieces;
};

static void see(struct pass *pass, const struct raw_entry *entry)
{
    size_t length = strlen(pass->prefix);
    must_hold(entry->d_off > 0 && entry->d_off < INT64_C(1) << 31 ? true : harness_is_local(), "cookie %ld",
              entry->d_off);
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        pass->dots++;
    else if (strncmp(entry->d_name, pass->prefix, length) != 0)
        pass->others++;
    else {
        int number = atoi(entry->d_name + length);
        must_hold(number >= 0 && number < pass->count, "'%s'", entry->d_name);
        must_hold(pass->seen[number]++ == 0, "%s is listed twice", entry->d_name);
    }
    pass->last = entry->d_off;
}

/* Opens, seeks, reads one buffer, closes. False at the end. */
static bool read_piece(struct pass *pass)
{
    char buffer[PIECE];
    int fd = must(open(at(pass->directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (pass->last) must(lseek(fd, pass->last, SEEK_SET));
    long length = must(syscall(SYS_getdents64, fd, buffer, sizeof(buffer)));
    must(close(fd));
    for (long i = 0; i < length;) {
        struct raw_entry *entry = (struct raw_entry *)(buffer + i);
        see(pass, entry);
        i += entry->d_reclen;
    }
    pass->pieces++;
    return length > 0;
}

/* `missing`: these numbers are not stable. */
static void read_all(struct pass *pass, bool (*is_missing)(int number))
{
    pass->seen = calloc(1, (size_t)pass->count);
    while (read_piece(pass)) {}
    int lost = 0, ghosts = 0;
    for (int i = 0; i < pass->count; i++) {
        bool missing = is_missing && is_missing(i);
        lost += !missing && !pass->seen[i];
        ghosts += missing && pass->seen[i];
    }
    free(pass->seen);
    must_hold(lost == 0, "%d of %d entries were not listed in %d pieces", lost, pass->count, pass->pieces);
    must_hold(ghosts == 0, "%d deleted entries were listed", ghosts);
    assert_int_equal(pass->dots, 2);
}

/* ---- others who create and delete meanwhile ---- */

struct visitor {
    pthread_t thread;
    const char *directory;
    int number; /* so that none meets the names that an earlier one left */
    atomic_bool is_over;
    int rounds, error;
};

static const char *visit(const struct visitor *visitor, int i)
{
    return harness_at(0, "%s/visitor_%d_%d_%d", visitor->directory, visitor->number, visitor->rounds, i);
}

static void *come_and_go(void *data)
{
    struct visitor *visitor = data;
    while (!visitor->is_over && !visitor->error) {
        for (int i = 0; i < VISITORS && !visitor->is_over; i++) {
            if (mknod(visit(visitor, i), S_IFREG | 0600, 0) < 0) visitor->error = errno;
            if (i >= 50 && unlink(visit(visitor, i - 50)) < 0) visitor->error = errno;
        }
        visitor->rounds++;
    }
    return NULL;
}

static void read_with_visitors(const char *directory, const char *prefix, int count, bool (*is_missing)(int number))
{
    static int visitors;
    struct visitor visitor = {.directory = directory, .number = visitors++};
    assert_int_equal(pthread_create(&visitor.thread, NULL, come_and_go, &visitor), 0);
    for (int i = 0; i < PASSES; i++) {
        struct pass pass = {.directory = directory, .prefix = prefix, .count = count};
        read_all(&pass, is_missing);
    }
    visitor.is_over = true;
    pthread_join(visitor.thread, NULL);
    must_hold(visitor.error == 0, "%s", strerror(visitor.error));
}

/* ---- 50,000 new entries ---- */

struct maker {
    pthread_t thread;
    int number, error;
};

static void *make_entries(void *data)
{
    struct maker *maker = data;
    for (int i = maker->number; i < STABLE; i += MAKERS)
        if (mknod(harness_at(0, "large/stable_%d", i), S_IFREG | 0644, 0) < 0) maker->error = errno;
    return NULL;
}

static void test_a_large_directory_is_made_by_many_threads(void **state)
{
    (void)state;
    struct maker makers[MAKERS];
    double start = harness_seconds();
    must(mkdir(at("large"), 0755));
    for (int i = 0; i < MAKERS; i++) {
        makers[i] = (struct maker){.number = i};
        assert_int_equal(pthread_create(&makers[i].thread, NULL, make_entries, &makers[i]), 0);
    }
    for (int i = 0; i < MAKERS; i++) pthread_join(makers[i].thread, NULL);
    for (int i = 0; i < MAKERS; i++) must_hold(makers[i].error == 0, "%s", strerror(makers[i].error));
    print_message("%d files made in %.1f s\n", STABLE, harness_seconds() - start);
}

static void test_a_large_directory_read_in_pieces_shows_each_stable_entry_once(void **state)
{
    (void)state;
    read_with_visitors("large", "stable_", STABLE, NULL);
    harness_drop_caches();
    read_with_visitors("large", "stable_", STABLE, NULL);
}

static void test_a_cookie_taken_before_a_remount_goes_on_after_it(void **state)
{
    (void)state;
    struct pass pass = {.directory = "large", .prefix = "stable_", .count = STABLE};
    pass.seen = calloc(1, STABLE);
    for (int i = 0; i < 100; i++) assert_true(read_piece(&pass));
    harness_remount();
    while (read_piece(&pass)) {}
    for (int i = 0; i < STABLE; i++) must_hold(pass.seen[i] == 1, "stable_%d is listed %d times", i, pass.seen[i]);
    free(pass.seen);
}

static void test_deleting_while_reading_passes_over_nothing(void **state)
{
    (void)state;
    must(mkdir(at("shrinking"), 0755));
    for (int i = 0; i < 3000; i++) must(mknod(harness_at(0, "shrinking/%d", i), S_IFREG | 0600, 0));
    DIR *directory = opendir(at("shrinking"));
    assert_non_null(directory);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.') continue;
        count++;
        must(unlinkat(dirfd(directory), entry->d_name, 0));
    }
    must(closedir(directory));
    assert_int_equal(count, 3000);
    must(rmdir(at("shrinking")));
}

/* ---- a directory of the image ---- */

static bool is_deleted(int number)
{
    return number % 3 == 1;
}

static void test_a_directory_of_the_image_read_in_pieces_shows_each_stable_entry_once(void **state)
{
    (void)state;
    read_with_visitors("many", "entry_", MADE_MANY, NULL);
}

static void test_a_directory_of_the_image_with_deletions_shows_the_rest_once(void **state)
{
    (void)state;
    for (int i = 0; i < MADE_MANY; i++) {
        if (!is_deleted(i)) continue;
        must(i % 10 == 7 ? rmdir(harness_at(0, "many/entry_%04d", i)) : unlink(harness_at(0, "many/entry_%04d", i)));
    }
    read_with_visitors("many", "entry_", MADE_MANY, is_deleted);
    harness_remount();
    read_with_visitors("many", "entry_", MADE_MANY, is_deleted);
}

static bool is_none(int number)
{
    (void)number;
    return false;
}

static void test_entries_made_again_in_a_directory_of_the_image_are_shown_once(void **state)
{
    (void)state;
    for (int i = 0; i < MADE_MANY; i++)
        if (is_deleted(i)) must(mknod(harness_at(0, "many/entry_%04d", i), S_IFIFO | 0600, 0));
    must(rename(at("many/entry_0000"), at("many/moved_away")));
    must(rename(at("many/moved_away"), at("many/entry_0000")));
    read_with_visitors("many", "entry_", MADE_MANY, is_none);
}

static void test_seekdir_goes_back_to_where_telldir_was(void **state)
{
    (void)state;
    DIR *directory = opendir(at("many"));
    assert_non_null(directory);
    for (int i = 0; i < 500; i++) assert_non_null(readdir(directory));
    long place = telldir(directory);
    char name[256];
    struct dirent *entry = readdir(directory);
    assert_non_null(entry);
    strcpy(name, entry->d_name);
    for (int i = 0; i < 700; i++) assert_non_null(readdir(directory));
    seekdir(directory, place);
    assert_string_equal(readdir(directory)->d_name, name);
    rewinddir(directory);
    int count = 0;
    while (readdir(directory)) count++;
    must_hold(count >= MADE_MANY, "%d entries after rewinddir", count);
    must(closedir(directory));
}

static void test_rewinddir_shows_what_was_made_since(void **state)
{
    (void)state;
    must(mkdir(at("rewound"), 0755));
    DIR *directory = opendir(at("rewound"));
    assert_non_null(directory);
    while (readdir(directory)) {}
    must(mkdir(at("rewound/since"), 0755));
    rewinddir(directory);
    int count = 0;
    while (readdir(directory)) count++;
    must(closedir(directory));
    assert_int_equal(count, 3);
}

/* ---- numbers and types ---- */

static void check_entries(const char *path)
{
    DIR *directory = opendir(path);
    must_hold(directory, "%s: %s", path, strerror(errno));
    struct stat st;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (strcmp(path, harness_mountpoint()) == 0 && strcmp(entry->d_name, "..") == 0)
            continue; /* is below the mount */
        must_hold(fstatat(dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0, "%s/%s: %s", path,
                  entry->d_name, strerror(errno));
        must_hold(entry->d_ino == st.st_ino, "%s/%s: d_ino %lu, st_ino %lu", path, entry->d_name, entry->d_ino,
                  st.st_ino);
        must_hold(entry->d_type == IFTODT(st.st_mode), "%s/%s: d_type %d", path, entry->d_name, entry->d_type);
    }
    must(closedir(directory));
}

static void test_d_ino_and_d_type_are_those_of_stat(void **state)
{
    (void)state;
    static const char *const directories[] = {".",         "many",   "special", "symlinks", "links",
                                              "links/sub", "deep/d", "xattrs",  "mixed",    "mixed/a"};
    must(mkdir(at("mixed"), 0755));
    must(mkdir(at("mixed/a"), 0755));
    must(symlink("x", at("mixed/symlink")));
    must(mkfifo(at("mixed/fifo"), 0600));
    must(mknod(at("mixed/device"), S_IFBLK | 0600, 0x701));
    must(rename(at("victims"), at("mixed/of_image")));
    must(link(at("links/a"), at("mixed/link")));
    must(truncate(at("links/b"), 5));
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++) check_entries(at(directories[i]));
        round == 0 ? harness_drop_caches() : harness_remount();
    }
    if (harness_is_local()) return;
    check_entries(harness_mountpoint());
    check_entries(harness_on_mount("system"));
    check_entries(harness_on_mount("system/%s", harness_serial(0)));
    check_entries(harness_on_mount("tftpboot"));
}

/* What the disk has at which moment is not the subject, and 50,000 files are made faster without it. */
static int setup(void **state)
{
    (void)state;
    harness_start(&(struct harness_options){.mount_options = "async"});
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_directory_of_the_image_read_in_pieces_shows_each_stable_entry_once),
        cmocka_unit_test(test_seekdir_goes_back_to_where_telldir_was),
        cmocka_unit_test(test_a_directory_of_the_image_with_deletions_shows_the_rest_once),
        cmocka_unit_test(test_entries_made_again_in_a_directory_of_the_image_are_shown_once),
        cmocka_unit_test(test_rewinddir_shows_what_was_made_since),
        cmocka_unit_test(test_d_ino_and_d_type_are_those_of_stat),
        cmocka_unit_test(test_deleting_while_reading_passes_over_nothing),
        cmocka_unit_test(test_a_large_directory_is_made_by_many_threads),
        cmocka_unit_test(test_a_large_directory_read_in_pieces_shows_each_stable_entry_once),
        cmocka_unit_test(test_a_cookie_taken_before_a_remount_goes_on_after_it),
    };
    return cmocka_run_group_tests(tests, setup, harness_teardown);
}
