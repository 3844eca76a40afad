#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "io.h"
#include "store.h"

/* Calls of the store log on standard error: caught in a file and read from there. */
static char logged[4096];
static int saved_stderr = -1;

static void catch_log(void **state)
{
    _cleanup_close_ int fd = open(scratch_path(state, "log"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    dup2(fd, STDERR_FILENO);
}

static void read_log(void **state)
{
    _cleanup_close_ int fd = open(scratch_path(state, "log"), O_RDONLY | O_CLOEXEC);
    ssize_t n;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    n = io_pread(fd, logged, sizeof(logged) - 1, 0);
    assert_true(n >= 0);
    logged[n] = '\0';
    assert_int_equal(unlink(scratch_path(state, "log")), 0);
}

/* One line, which names the store and gives the reason. */
static void assert_logged(void **state, const char *name, const char *reason)
{
    _cleanup_free_ char *line = io_format("coppice: %s%s\n", scratch_path(state, name), reason);

    assert_string_equal(logged, line);
}

static void assert_create(void **state, const char *name, int expected, const char *reason)
{
    int r;

    catch_log(state);
    r = store_create(scratch_path(state, name));
    read_log(state);
    assert_int_equal(r, expected);
    if (reason) assert_logged(state, name, reason);
    else assert_string_equal(logged, "");
}

static void assert_no_open(void **state, const char *name, int expected, const char *reason)
{
    struct store *store = NULL;
    int r;

    catch_log(state);
    r = store_open(&store, scratch_path(state, name));
    read_log(state);
    assert_int_equal(r, expected);
    assert_null(store);
    assert_logged(state, name, reason);
}

static int setup(void **state)
{
    return scratch_setup(state) < 0 ? -1 : store_create(scratch_path(state, "store"));
}

static struct store *store_of(void **state)
{
    struct store *store = NULL;

    assert_int_equal(store_open(&store, scratch_path(state, "store")), 0);
    return store;
}

static void run(void **state, const char *command)
{
    char output[1000];

    if (scratch_run(output, sizeof(output), "cd %s && %s", (char *)*state, command) != 0)
        fail_msg("%s: %s", command, output);
}

static bool exists(void **state, const char *name)
{
    return faccessat(AT_FDCWD, scratch_path(state, name), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_default_path(void **state)
{
    (void)state;
    setenv("COPPICE_STORE", "/srv/store", 1);
    assert_string_equal(store_default_path("/opt/store"), "/opt/store");
    assert_string_equal(store_default_path(NULL), "/srv/store");
    setenv("COPPICE_STORE", "", 1);
    assert_string_equal(store_default_path(NULL), "/var/lib/coppice");
    unsetenv("COPPICE_STORE");
    assert_string_equal(store_default_path(NULL), "/var/lib/coppice");
}

static void test_a_new_store(void **state)
{
    struct stat st;
    struct store *store = store_of(state);

    assert_int_equal(stat(scratch_path(state, "store"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_true(exists(state, "store/images") && exists(state, "store/nodes") && exists(state, "store/catalog.db"));
    assert_false(exists(state, "store/.catalog-new"));
    assert_int_equal(store->path[0], '/');
    assert_int_equal(faccessat(store->fd, "images", F_OK, 0), 0);
    store_close(store);
}

static void test_create_in_an_empty_directory_only(void **state)
{
    run(state, "mkdir empty full disk && chmod 755 empty && mkdir disk/lost+found && touch full/file");
    assert_create(state, "empty", 0, NULL);
    assert_create(state, "disk", 0, NULL);
    assert_create(state, "full", -ENOTEMPTY, ": the directory is not empty");
    assert_create(state, "store", -EEXIST, ": is already a store");
    assert_create(state, "full/file", -ENOTDIR, ": cannot make a store: Not a directory");
    assert_create(state, "none/store", -ENOENT, ": cannot make the directory: No such file or directory");
    assert_false(exists(state, "full/images"));
    run(state, "test $(stat -c %a empty) = 700");
}

static void test_create_goes_on_after_an_interruption(void **state)
{
    run(state, "mkdir -p broken/images broken/nodes broken/.catalog-new && echo x >broken/.catalog-new/catalog.db");
    assert_create(state, "broken", 0, NULL);
    assert_false(exists(state, "broken/.catalog-new"));
    run(state, "mkdir -p other/images/precious other/nodes");
    assert_create(state, "other", -ENOTEMPTY, ": the directory is not empty");
    run(state, "mkdir -p another/nodes/precious");
    assert_create(state, "another", -ENOTEMPTY, ": the directory is not empty");
}

static void test_failed_create_leaves_nothing(void **state)
{
    scratch_tmpfs(state, "small", 24);
    assert_create(state, "small/store", -ENOSPC, ": cannot make a store: No space left on device");
    run(state, "test -z \"$(ls -A small)\"");
    scratch_unmount(state, "small");
}

static void test_what_is_no_store(void **state)
{
    run(state, "mkdir bare && touch file && mkdir text && yes | head -c 10000 >text/catalog.db");
    run(state, "mkdir other && sqlite3 other/catalog.db 'CREATE TABLE node(serial)'");
    assert_no_open(state, "none", -ENOENT, ": there is no store; 'coppice init' makes one");
    assert_no_open(state, "file", -ENOTDIR, ": is not a store: not a directory");
    assert_no_open(state, "bare", -ENOENT, ": is not a store: it has no catalog.db");
    assert_no_open(state, "text", -EIO, ": catalog.db cannot be read, or is no catalog");
    assert_no_open(state, "other", -EINVAL, ": is not a store: catalog.db is no catalog of coppice");
    assert_false(exists(state, "bare/catalog.db"));
}

static void test_newer_version(void **state)
{
    run(state, "sqlite3 store/catalog.db 'PRAGMA user_version = 7'");
    assert_no_open(state, "store", -EPROTO, ": was made by a newer version of coppice");
}

static void test_no_permission(void **state)
{
    int status;
    pid_t child;

    if (geteuid() != 0) skip();
    assert_int_equal(chmod(*state, 0777), 0);
    child = fork();
    if (child == 0) {
        if (setgid(65534) < 0 || setuid(65534) < 0) _exit(1);
        assert_no_open(state, "store", -EACCES, ": cannot open the store: Permission denied");
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_leftovers_are_swept(void **state)
{
    struct store *store;

    run(state,
        "sqlite3 store/catalog.db \"INSERT INTO image(name) VALUES('kept')\" && cd store/images &&"
        " mkdir -p kept/rootfs gone/rootfs/etc .import-abc/rootfs && ln -s ../kept link && touch kept/index.db file");
    store = store_of(state);
    assert_true(exists(state, "store/images/kept/index.db"));
    assert_false(exists(state, "store/images/gone"));
    assert_false(exists(state, "store/images/.import-abc"));
    assert_false(exists(state, "store/images/link"));
    assert_false(exists(state, "store/images/file"));
    store_close(store);
}

static void test_an_image_in_use_is_no_leftover(void **state)
{
    struct store *store;

    run(state, "sqlite3 store/catalog.db \"INSERT INTO image(name) VALUES('used'); INSERT INTO node(serial, image) "
               "VALUES('a', 'used'); DROP TRIGGER image_delete; DELETE FROM image\" && mkdir -p store/images/used/rootfs");
    store = store_of(state);
    assert_true(exists(state, "store/images/used/rootfs"));
    store_close(store);
}

static void test_work_under_way_is_not_swept(void **state)
{
    struct store *importer = store_of(state);
    int lock = store_lock_images(importer), second = store_lock_images(importer);

    assert_true(lock >= 0 && second >= 0);
    run(state, "mkdir -p store/images/.import-abc/rootfs");
    store_close(store_of(state));
    assert_true(exists(state, "store/images/.import-abc/rootfs"));
    close(lock);
    store_close(store_of(state));
    assert_true(exists(state, "store/images/.import-abc/rootfs"));
    close(second);
    store_close(store_of(state));
    assert_false(exists(state, "store/images/.import-abc"));
    store_close(importer);
}

static void test_claim(void **state)
{
    struct store *store = store_of(state);
    struct store_daemon daemon = {.pid = 4711, .mountpoint = "/mnt/a b", .options = "async=5"}, seen;
    int claim, again = -1, r;

    assert_int_equal(store_running(store, &seen), 0);
    assert_int_equal(store_claim(store, &claim), 0);
    assert_int_equal(store_running(store, &seen), 1);
    assert_int_equal(seen.pid, 0);
    assert_int_equal(store_announce(claim, &daemon), 0);
    assert_int_equal(store_running(store, &seen), 1);
    assert_int_equal(seen.pid, 4711);
    assert_string_equal(seen.mountpoint, "/mnt/a b");
    assert_string_equal(seen.options, "async=5");

    catch_log(state);
    r = store_claim(store, &again);
    read_log(state);
    assert_int_equal(r, -EBUSY);
    assert_int_equal(again, -1);
    assert_logged(state, "store", ": is in use by daemon 4711, mounted at /mnt/a b");

    /* Told anew, shorter, and with a name that has a line end; no options. */
    daemon = (struct store_daemon){.pid = 1, .mountpoint = "/m\nn"};
    assert_int_equal(store_announce(claim, &daemon), 0);
    assert_int_equal(store_running(store, &seen), 1);
    assert_int_equal(seen.pid, 1);
    assert_string_equal(seen.mountpoint, "/m\nn");
    assert_string_equal(seen.options, "");

    close(claim);
    assert_int_equal(store_running(store, &seen), 0);
    assert_int_equal(store_claim(store, &claim), 0);
    assert_int_equal(store_running(store, &seen), 1);
    assert_int_equal(seen.pid, 0);
    close(claim);
    store_close(store);
}

static void test_claim_of_a_process_ends_with_it(void **state)
{
    struct store *store = store_of(state);
    struct store_daemon seen;
    int ready[2], claim, r;
    char byte;
    pid_t child;

    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        struct store *own = store_of(state);
        struct store_daemon daemon = {.pid = getpid(), .mountpoint = "/mnt"};

        if (store_claim(own, &claim) < 0 || store_announce(claim, &daemon) < 0) _exit(1);
        if (write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(store_running(store, &seen), 1);
    assert_int_equal(seen.pid, child);
    catch_log(state);
    r = store_claim(store, &claim);
    read_log(state);
    assert_int_equal(r, -EBUSY);

    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(store_running(store, &seen), 0);
    assert_int_equal(store_claim(store, &claim), 0);
    close(claim);
    close(ready[0]);
    close(ready[1]);
    store_close(store);
}

/* Whoever asks whether a daemon runs holds the lock for a moment, which must not look like a daemon. */
static void test_claim_outlasts_a_look(void **state)
{
    struct store *store = store_of(state);
    int claim, status;
    pid_t child;

    assert_int_equal(store_claim(store, &claim), 0);
    close(claim);
    child = fork();
    if (child == 0) {
        int fd = open(scratch_path(state, "store/daemon"), O_RDONLY);

        if (flock(fd, LOCK_SH) < 0) _exit(1);
        usleep(60000);
        _exit(0);
    }
    usleep(20000);
    assert_int_equal(store_claim(store, &claim), 0);
    close(claim);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    store_close(store);
}

#define store_test(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_path),
        store_test(test_a_new_store),
        store_test(test_create_in_an_empty_directory_only),
        store_test(test_create_goes_on_after_an_interruption),
        store_test(test_failed_create_leaves_nothing),
        store_test(test_what_is_no_store),
        store_test(test_newer_version),
        store_test(test_no_permission),
        store_test(test_leftovers_are_swept),
        store_test(test_an_image_in_use_is_no_leftover),
        store_test(test_work_under_way_is_not_swept),
        store_test(test_claim),
        store_test(test_claim_of_a_process_ends_with_it),
        store_test(test_claim_outlasts_a_look),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
