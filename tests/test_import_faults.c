#include "sample.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "import.h"
#include "io.h"
#include "log.h"
#include "progress.h"

#define KILLS 30

/* --- removal --- */

static void test_removal(void **state)
{
    const struct catalog_node node = {.serial = "node-1"};

    assert_int_equal(sample_call(state, true, "nothing", NULL), -ENOENT);
    assert_string_equal(sample_logged, "coppice: image nothing: there is none of this name\n");
    sample_import_good(state, "used", scratch_path(state, "source"));
    assert_int_equal(catalog_add_node(sample_store->catalog, &node), 0);
    assert_int_equal(sample_call(state, true, "used", NULL), -EBUSY);
    assert_string_equal(sample_logged, "coppice: image used: in use by node node-1\n");
    sample_assert_images("used");
    sample_assert_opens("used");
    assert_int_equal(catalog_remove_node(sample_store->catalog, "node-1"), 0);
    sample_remove(state, "used");
    sample_assert_images("");
    assert_int_equal(sample_call(state, true, "used", NULL), -ENOENT);
}

/* --- the worst moment --- */

static void reopen(void)
{
    _cleanup_free_ char *path = strdup(sample_store->path);

    store_close(sample_store);
    sample_store = NULL;
    assert_int_equal(store_open(&sample_store, path), 0);
}

/* A child does the work and is killed after so many microseconds; 0 when it was done before. */
static void kill_after(void **state, bool is_removal, const char *source, unsigned microseconds)
{
    _cleanup_free_ char *path = strdup(sample_store->path);
    pid_t child;

    store_close(sample_store);
    sample_store = NULL;
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct store *own;

        log_set_level(LOG_LEVEL_ERROR);
        if (store_open(&own, path) < 0) _exit(1);
        if (is_removal) import_remove(own, "killed");
        else import_image(own, "killed", source, NULL);
        _exit(0);
    }
    usleep(microseconds);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(store_open(&sample_store, path), 0);
    (void)state;
}

static unsigned microseconds_of_import(void **state, const char *source)
{
    double began = scratch_seconds();

    sample_import_good(state, "timed", source);
    began = scratch_seconds() - began;
    sample_remove(state, "timed");
    return began * 1e6;
}

static void check_after_kill(void **state, int *whole)
{
    if (!sample_has_row("killed")) {
        sample_assert_images("");
        return;
    }
    (*whole)++;
    sample_assert_images("killed");
    sample_assert_opens("killed");
    sample_remove(state, "killed");
}

static void test_killed_imports(void **state)
{
    _cleanup_free_ char *source = strdup(scratch_path(state, "source")),
                        *archive = strdup(sample_tar(state, "kill.tar", SAMPLE_PAX));
    unsigned duration = microseconds_of_import(state, source);
    int whole = 0;

    for (int i = 0; i < KILLS; i++) {
        kill_after(state, false, i % 2 ? archive : source, (uint64_t)duration * 5 / 4 * i / KILLS);
        check_after_kill(state, &whole);
    }
    print_message("%d of %d killed imports were done before\n", whole, KILLS);
    assert_true(whole < KILLS);
}

static void test_killed_removals(void **state)
{
    int kept = 0;

    for (int i = 0; i < KILLS / 2; i++) {
        sample_import_good(state, "killed", scratch_path(state, "source"));
        kill_after(state, true, NULL, i * 400);
        check_after_kill(state, &kept);
        sample_assert_images("");
    }
    print_message("%d of %d killed removals had not begun\n", kept, KILLS / 2);
}

/* Another import under way is not taken for a leftover. */
static void test_import_beside_another(void **state)
{
    _cleanup_free_ char *other = io_format("%s/images/.import-of-another", sample_store->path);
    int lock = store_lock_images(sample_store);

    assert_true(lock >= 0);
    assert_int_equal(mkdir(other, 0700), 0);
    sample_import_good(state, "beside", scratch_path(state, "source"));
    reopen();
    sample_assert_images(".import-of-another beside");
    close(lock);
    reopen();
    sample_assert_images("beside");
    sample_remove(state, "beside");
}

static pid_t import_in_child(const char *source)
{
    _cleanup_free_ char *path = strdup(sample_store->path);
    struct store *own;
    pid_t child;

    store_close(sample_store);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(store_open(&own, path) < 0 || import_image(own, "piped", source, NULL) < 0);
    assert_int_equal(store_open(&sample_store, path), 0);
    return child;
}

static void wait_for_entries(void)
{
    char output[64] = "0";

    for (int i = 0; i < 1000 && atoi(output) == 0; i++) {
        scratch_run(output, sizeof(output), "ls -A '%s/images'/.import-*/rootfs 2>/dev/null | wc -l", sample_store->path);
        usleep(5000);
    }
    assert_true(atoi(output) > 0);
}

/* Half of an archive is unpacked when another command opens the store, and sweeps it. */
static void test_import_is_not_swept(void **state)
{
    enum { HALF = 200000 };
    _cleanup_free_ char *path = strdup(sample_tar(state, "half.tar", SAMPLE_PAX)), *pipe = strdup(scratch_path(state, "pipe"));
    _cleanup_close_ int from = open(path, O_RDONLY | O_CLOEXEC), to = -1;
    int status;
    struct stat st;
    pid_t child;

    assert_int_equal(fstat(from, &st), 0);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    child = import_in_child(pipe);
    to = open(pipe, O_WRONLY | O_CLOEXEC);
    assert_true(to >= 0);
    for (off_t offset = 0; offset < st.st_size; offset += HALF) {
        static char piece[HALF];
        ssize_t n = io_pread(from, piece, HALF, offset);

        assert_true(n > 0 && io_write(to, piece, n) == 0);
        if (offset > 0) continue;
        wait_for_entries();
        reopen();
    }
    close(io_take_fd(to));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    sample_assert_images("piped");
    sample_assert_same(state, "piped", "-AX --exclude=/run-socket");
}

enum { DONE, NO_SPACE, NO_SPACE_FOR_INDEX };

static int import_into(void **state, unsigned kilobytes, const char *source, const char *small)
{
    struct store *kept = sample_store;
    bool is_refused, is_index;

    scratch_tmpfs(state, "full", kilobytes);
    assert_int_equal(store_create(scratch_path(state, "full/store")), 0);
    assert_int_equal(store_open(&sample_store, scratch_path(state, "full/store")), 0);
    is_refused = sample_import(state, "bad", source) < 0;
    if (is_refused && !strstr(sample_logged, "No space left on device")) fail_msg("%u KiB: %s", kilobytes, sample_logged);
    is_index = strstr(sample_logged, "index of the image");
    sample_assert_images(is_refused ? "" : "bad");
    assert_int_equal(sample_has_row("bad"), !is_refused);
    if (is_refused) sample_import_good(state, "small", small);
    store_close(sample_store);
    sample_store = kept;
    scratch_unmount(state, "full");
    assert_int_equal(rmdir(scratch_path(state, "full")), 0);
    return !is_refused ? DONE : is_index ? NO_SPACE_FOR_INDEX : NO_SPACE;
}

/* Whatever it was that did not fit: contents, the index, the catalog's row. */
static void test_full_disk(void **state)
{
    _cleanup_free_ char *small = strdup(sample_archive(state, SAMPLE_MEMBERS({AE_IFREG, "bin/sh", NULL, "x"})));
    _cleanup_free_ char *source = strdup(scratch_path(state, "large")),
                        *archive = strdup(scratch_path(state, "large.tar"));
    unsigned kilobytes = 4040, seen[3] = {0};

    sample_run("mkdir '%s' && cd '%s' && for i in $(seq 1 40); do head -c 100K /dev/urandom > $i; done && tar -cf '%s' .",
        source, source, archive);
    assert_int_equal(import_into(state, 1000, source, small), NO_SPACE);
    assert_int_equal(import_into(state, 1000, archive, small), NO_SPACE);
    do {
        seen[import_into(state, kilobytes, kilobytes % 8 ? source : archive, small)]++;
        kilobytes += 4;
        assert_true(kilobytes < 6000);
    } while (!seen[DONE]);
    assert_true(seen[NO_SPACE] > 0);
    assert_true(seen[NO_SPACE_FOR_INDEX] > 0);
}

/* --- progress --- */

static void test_progress_line(void **state)
{
    struct progress progress = {.what = "importing x", .files = 1234, .bytes = 3 << 20, .began = 1000};
    char line[256];

    (void)state;
    progress_format(&progress, 3000, line, sizeof(line));
    assert_string_equal(line, "importing x: 1234 files, 3.0 MiB, 1.5 MiB/s");
    progress_at(&progress, 25, 100);
    progress_format(&progress, 1500, line, sizeof(line));
    assert_string_equal(line, "importing x: 1234 files, 3.0 MiB, 6.0 MiB/s");
    progress_format(&progress, 61000, line, sizeof(line));
    assert_string_equal(line, "importing x: 1234 files, 3.0 MiB, 51.2 KiB/s, 25 %, 3:00 left");
    progress_at(&progress, 1, 1000);
    progress_format(&progress, 61000, line, sizeof(line));
    assert_string_equal(line, "importing x: 1234 files, 3.0 MiB, 51.2 KiB/s, 0 %, 16:39:00 left");
    progress_begin(NULL, "x");
    progress_add(NULL, 1, 1);
    progress_erase(NULL);
}


/* What goes to the terminal while the image is imported; the same image as without one. */
static void import_on_terminal(void **state, const char *source, const char *rsync_options)
{
    static const char erased[] = "\r\033[K";
    _cleanup_close_ int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave = -1, saved = -1;
    char shown[65536];
    ssize_t n = 0, more;
    int r;

    assert_true(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    slave = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
    saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    dup2(slave, STDERR_FILENO);
    r = import_image(sample_store, "shown", source, NULL);
    dup2(saved, STDERR_FILENO);
    assert_int_equal(r, 0);
    close(io_take_fd(slave));
    while ((more = read(terminal, shown + n, sizeof(shown) - 1 - n)) > 0) n += more;
    assert_in_range(n, sizeof(erased), sizeof(shown));
    shown[n] = '\0';
    assert_memory_equal(shown, "\rimporting shown: ", 18);
    assert_non_null(strstr(shown, "indexing shown: "));
    assert_string_equal(shown + n - strlen(erased), erased);
    sample_assert_same(state, "shown", rsync_options);
    sample_remove(state, "shown");
}

static void test_progress_on_terminal(void **state)
{
    import_on_terminal(state, scratch_path(state, "source"), "-AX");
    import_on_terminal(state, sample_tar(state, "shown.tar", SAMPLE_PAX), "-AX --exclude=/run-socket");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SAMPLE_TEST(test_removal),
        SAMPLE_TEST(test_killed_imports),
        SAMPLE_TEST(test_killed_removals),
        SAMPLE_TEST(test_import_beside_another),
        SAMPLE_TEST(test_import_is_not_swept),
        SAMPLE_TEST(test_full_disk),
        SAMPLE_TEST(test_progress_line),
        SAMPLE_TEST(test_progress_on_terminal),
    };

    return cmocka_run_group_tests(tests, sample_setup, sample_teardown);
}
