/* The catalog as the owner's interface while mounted, and the levels above the nodes' roots. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "compare.h"
#include "harness.h"
#include "made_tree.h"

enum { CROWD = 1000 };

static void sql(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void sql(const char *format, ...)
{
    char *statement = NULL, *output = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&statement, format, arguments);
    va_end(arguments);
    assert_true(length > 0);
    int status = harness_sql(&output, statement);
    must_hold(status == 0, "%s: %s", statement, output);
    free(statement);
    free(output);
}

static bool is_there(const char *path)
{
    struct stat st;
    if (lstat(path, &st) == 0) return true;
    must_hold(errno == ENOENT, "%s: %s", path, strerror(errno));
    return false;
}

static bool lists(const char *path, const char *name)
{
    DIR *directory = opendir(path);
    must_hold(directory, "%s: %s", path, strerror(errno));
    bool found = false;
    for (struct dirent *entry; (entry = readdir(directory));) found = found || strcmp(entry->d_name, name) == 0;
    closedir(directory);
    return found;
}

static int count_of(const char *path)
{
    DIR *directory = opendir(path);
    must_hold(directory, "%s: %s", path, strerror(errno));
    int count = 0;
    while (readdir(directory)) count++;
    closedir(directory);
    return count - 2;
}

static const char *target_of(const char *path)
{
    static char target[4096];
    ssize_t length = readlink(path, target, sizeof(target) - 1);
    must_hold(length >= 0, "%s: %s", path, strerror(errno));
    target[length] = '\0';
    return target;
}

static const char *root_of(const char *serial)
{
    return harness_on_mount("system/%s/rootfs", serial);
}

/* ---- rows come and go ---- */

static void test_an_inserted_node_is_there_at_the_next_look_up(void **state)
{
    (void)state;
    assert_false(is_there(harness_on_mount("system/inserted")));
    assert_false(is_there(harness_on_mount("tftpboot/b8-27-eb-42-32-c8")));
    assert_false(lists(harness_on_mount("system"), "inserted"));
    sql("INSERT INTO node(serial, mac) VALUES('inserted', 'b8:27:eb:42:32:c8')");
    assert_true(is_there(harness_on_mount("tftpboot/b8-27-eb-42-32-c8")));
    assert_true(is_there(root_of("inserted")));
    assert_true(lists(harness_on_mount("system"), "inserted"));
    assert_true(lists(harness_on_mount("tftpboot"), "b8-27-eb-42-32-c8"));
    assert_int_equal(compare_trees(harness_source(), root_of("inserted"), COMPARE_TIMES), 0);
}

static void test_boot_and_tftpboot_lead_to_the_node_s_boot_directory(void **state)
{
    (void)state;
    assert_string_equal(target_of(harness_on_mount("system/inserted/boot")), "rootfs/boot");
    assert_string_equal(target_of(harness_on_mount("tftpboot/b8-27-eb-42-32-c8")), "../system/inserted/boot/");
    made_check_file(harness_on_mount("tftpboot/b8-27-eb-42-32-c8/vmlinuz"), 68, 300000);
    made_file(harness_on_mount("tftpboot/b8-27-eb-42-32-c8/cmdline.txt"), 1, 50, 0644);
    made_check_file(harness_on_mount("system/inserted/rootfs/boot/cmdline.txt"), 1, 50);
}

static void test_a_changed_mac_moves_the_tftpboot_link(void **state)
{
    (void)state;
    assert_true(is_there(harness_on_mount("tftpboot/b8-27-eb-42-32-c8")));
    sql("UPDATE node SET mac = 'b8:27:eb:00:00:01' WHERE serial = 'inserted'");
    assert_true(is_there(harness_on_mount("tftpboot/b8-27-eb-00-00-01")));
    assert_false(is_there(harness_on_mount("tftpboot/b8-27-eb-42-32-c8")));
    assert_false(lists(harness_on_mount("tftpboot"), "b8-27-eb-42-32-c8"));
    assert_string_equal(target_of(harness_on_mount("tftpboot/b8-27-eb-00-00-01")), "../system/inserted/boot/");
    sql("UPDATE node SET mac = NULL WHERE serial = 'inserted'");
    assert_false(is_there(harness_on_mount("tftpboot/b8-27-eb-00-00-01")));
    assert_true(is_there(root_of("inserted")));
}

static void test_a_mac_goes_from_one_node_to_another(void **state)
{
    (void)state;
    sql("UPDATE node SET mac = '02:00:00:00:00:07' WHERE serial = '%s'", harness_serial(0));
    assert_string_equal(target_of(harness_on_mount("tftpboot/02-00-00-00-00-07")), "../system/node-a/boot/");
    sql("BEGIN; UPDATE node SET mac = NULL WHERE serial = 'node-a'; "
        "UPDATE node SET mac = '02:00:00:00:00:07' WHERE serial = 'node-b'; COMMIT");
    assert_string_equal(target_of(harness_on_mount("tftpboot/02-00-00-00-00-07")), "../system/node-b/boot/");
}

/* A Raspberry Pi 4 or 5 asks for the last eight digits of its serial below the TFTP root. */
static void test_a_hexadecimal_serial_has_a_link_by_its_end(void **state)
{
    (void)state;
    sql("INSERT INTO node(serial, mac) VALUES('10000000AB42320D', 'dc:a6:32:00:00:01')");
    assert_string_equal(target_of(harness_on_mount("tftpboot/ab42320d")), "../system/10000000AB42320D/boot/");
    made_check_file(harness_on_mount("tftpboot/ab42320d/vmlinuz"), 68, 300000);
    assert_true(lists(harness_on_mount("tftpboot"), "ab42320d"));
    assert_true(lists(harness_on_mount("tftpboot"), "dc-a6-32-00-00-01"));
    assert_false(is_there(harness_on_mount("tftpboot/AB42320D")));
    assert_false(is_there(harness_on_mount("tftpboot/10000000")));
    assert_false(lists(harness_on_mount("tftpboot"), "inserted"));

    /* Two with one end: the older node keeps the link, and the name is listed once. */
    int count = count_of(harness_on_mount("tftpboot"));
    sql("INSERT INTO node(serial) VALUES('00000000ab42320d')");
    assert_string_equal(target_of(harness_on_mount("tftpboot/ab42320d")), "../system/10000000AB42320D/boot/");
    assert_int_equal(count_of(harness_on_mount("tftpboot")), count);
    sql("DELETE FROM node WHERE serial = '10000000AB42320D'");
    assert_string_equal(target_of(harness_on_mount("tftpboot/ab42320d")), "../system/00000000ab42320d/boot/");
    sql("DELETE FROM node WHERE serial = '00000000ab42320d'");
    assert_false(is_there(harness_on_mount("tftpboot/ab42320d")));
}

/* Up to a second: what the daemon cannot take back at once from the kernel it must take back by then. */
static bool comes_true_within_a_second(bool (*condition)(void *data), void *data)
{
    double start = harness_seconds();
    do {
        if (condition(data)) return true;
        usleep(20000);
    } while (harness_seconds() - start < 1.0);
    return false;
}

struct guest {
    const char *serial;
    int root, directory, file;
};

static bool is_gone(int result)
{
    return result < 0 && (errno == ESTALE || errno == ENOENT);
}

static bool path_is_gone(void *data)
{
    struct stat st;
    struct guest *guest = data;
    return is_gone(stat(harness_on_mount("system/%s/rootfs/etc/hostname", guest->serial), &st)) &&
           is_gone(stat(harness_on_mount("system/%s", guest->serial), &st));
}

static bool open_root_is_gone(void *data)
{
    struct stat st;
    struct guest *guest = data;
    return is_gone(fstatat(guest->root, "etc/hostname", &st, 0)) &&
           is_gone(openat(guest->root, "new", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
}

static bool open_directory_is_gone(void *data)
{
    struct stat st;
    struct guest *guest = data;
    return is_gone(fstatat(guest->directory, "hostname", &st, 0)) && is_gone(mkdirat(guest->directory, "new", 0755));
}

static bool open_file_is_gone(void *data)
{
    struct guest *guest = data;
    return is_gone((int)pwrite(guest->file, "x", 1, 0)) && is_gone(ftruncate(guest->file, 1));
}

static void test_a_deleted_node_leaves_the_view_within_a_second(void **state)
{
    (void)state;
    struct guest guest = {.serial = "inserted"};
    made_file(harness_on_mount("system/inserted/rootfs/etc/of_node"), 5, 5000, 0644);
    must(unlink(harness_on_mount("system/inserted/rootfs/boot/config.txt")));
    guest.root = must(open(root_of("inserted"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    guest.directory = must(openat(guest.root, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    guest.file = must(openat(guest.directory, "of_node", O_RDWR | O_CLOEXEC));
    assert_false(path_is_gone(&guest));
    sql("DELETE FROM node WHERE serial = 'inserted'");
    assert_true(comes_true_within_a_second(path_is_gone, &guest));
    assert_true(comes_true_within_a_second(open_root_is_gone, &guest));
    assert_true(comes_true_within_a_second(open_directory_is_gone, &guest));
    assert_true(comes_true_within_a_second(open_file_is_gone, &guest));
    assert_false(lists(harness_on_mount("system"), "inserted"));
    must(close(guest.file));
    must(close(guest.directory));
    must(close(guest.root));
}

static void test_a_node_inserted_again_finds_its_delta(void **state)
{
    (void)state;
    sql("INSERT INTO node(serial, mac) VALUES('inserted', 'b8:27:eb:42:32:c8')");
    made_check_file(harness_on_mount("system/inserted/rootfs/etc/of_node"), 5, 5000);
    made_check_file(harness_on_mount("tftpboot/b8-27-eb-42-32-c8/cmdline.txt"), 1, 50);
    assert_false(is_there(harness_on_mount("system/inserted/rootfs/boot/config.txt")));
    made_file(harness_on_mount("system/inserted/rootfs/etc/again"), 6, 60, 0644);
    harness_remount();
    made_check_file(harness_on_mount("system/inserted/rootfs/etc/of_node"), 5, 5000);
    made_check_file(harness_on_mount("system/inserted/rootfs/etc/again"), 6, 60);
}

static void test_a_node_deleted_while_unmounted_is_gone_and_comes_back(void **state)
{
    (void)state;
    harness_umount();
    sql("DELETE FROM node WHERE serial = 'inserted'");
    harness_mount();
    assert_false(is_there(harness_on_mount("system/inserted")));
    assert_false(is_there(harness_on_mount("tftpboot/b8-27-eb-42-32-c8")));
    sql("INSERT INTO node(serial) VALUES('inserted')");
    made_check_file(harness_on_mount("system/inserted/rootfs/etc/of_node"), 5, 5000);
}

static void test_a_working_directory_in_a_deleted_node_does_not_hang(void **state)
{
    (void)state;
    sql("INSERT INTO node(serial) VALUES('short-lived')");
    pid_t pid = must(fork());
    if (pid == 0) {
        struct stat st;
        alarm(10);
        if (chdir(root_of("short-lived")) < 0 ||
            harness_sql(NULL, "DELETE FROM node WHERE serial = 'short-lived'") != 0)
            _exit(1);
        sleep(1);
        _exit(is_gone(stat("etc/hostname", &st)) && is_gone(mkdir("x", 0755)) ? 0 : 2);
    }
    int status = 0;
    must(waitpid(pid, &status, 0));
    must_hold(status == 0, "status %x", status);
    sql("INSERT INTO node(serial) VALUES('short-lived')");
    assert_true(is_there(harness_on_mount("system/short-lived/rootfs/etc/hostname")));
}

static void test_bad_rows_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"serial) VALUES('.hidden'", "serial"},
        {"serial) VALUES(''", "serial"},
        {"serial) VALUES('a/b'", "serial"},
        {"serial, mac) VALUES('bad-1', 'B8:27:EB:42:32:C8'", "mac"},
        {"serial, mac) VALUES('bad-2', '12'", "mac"},
        {"serial, ip) VALUES('bad-3', '1.2.3.400'", "ip"},
        {"serial, hostname) VALUES('bad-4', '-x'", "hostname"},
        {"serial, image) VALUES('bad-5', 'nowhere'", "image"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char statement[200], *output = NULL;
        snprintf(statement, sizeof(statement), "INSERT INTO node(%s)", rows[i][0]);
        int status = harness_sql(&output, statement);
        must_hold(status != 0, "%s is taken", rows[i][0]);
        must_hold(strstr(output, rows[i][1]), "%s: %s", rows[i][0], output);
        free(output);
    }
    assert_false(is_there(harness_on_mount("system/bad-1")));
}

/* ---- a thousand nodes ---- */

static long of_status(const char *field)
{
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/%d/status", harness_daemon_pid());
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    long value = -1;
    size_t length = strlen(field);
    while (fgets(line, sizeof(line), file))
        if (strncmp(line, field, length) == 0 && line[length] == ':') value = atol(line + length + 1);
    fclose(file);
    return value;
}

static void test_a_thousand_nodes_in_one_transaction_are_all_there(void **state)
{
    (void)state;
    int before = count_of(harness_on_mount("system"));
    long threads = of_status("Threads"), memory = of_status("VmRSS");
    sql("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
        "INSERT INTO node(serial, mac) SELECT printf('crowd-%%03d', i), printf('06:00:00:00:%%02x:%%02x', i / 256, i "
        "%% 256) FROM n",
        CROWD - 1);
    assert_int_equal(count_of(harness_on_mount("system")), before + CROWD);
    struct stat st;
    for (int i = 0; i < CROWD; i++) {
        must(stat(harness_on_mount("system/crowd-%03d/rootfs/etc/hostname", i), &st));
        must(stat(harness_on_mount("tftpboot/06-00-00-00-%02x-%02x/vmlinuz", i / 256, i % 256), &st));
    }
    long more_threads = of_status("Threads") - threads, more_memory = of_status("VmRSS") - memory;
    print_message("1000 nodes looked at: %+ld threads, %+ld KiB\n", more_threads, more_memory);
    /* The pool that answers requests grows with the load of the machine, but not to one for each node. */
    must_hold(more_threads <= CROWD / 20, "%ld threads more", more_threads);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) /* have memory of their own for each piece */
    must_hold(more_memory < 64 << 10, "%ld KiB more", more_memory);
#endif
}

static void test_nodes_that_change_nothing_cost_no_disk(void **state)
{
    (void)state;
    struct stat st;
    bool has_directory = stat(harness_beside("store/nodes/crowd-001"), &st) == 0;
    int64_t bytes = has_directory ? harness_disk_usage(harness_beside("store/nodes/crowd-001")) : 0;
    must_hold(bytes <= 16384, "%ld bytes", bytes);
}

static void test_many_nodes_are_changed_and_deleted_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < CROWD; i += 50) must(mkdir(harness_on_mount("system/crowd-%03d/rootfs/made", i), 0755));
    for (int i = 0; i < CROWD; i += 50) assert_true(is_there(harness_on_mount("system/crowd-%03d/rootfs/made", i)));
    assert_false(is_there(harness_on_mount("system/crowd-001/rootfs/made")));
    int before = count_of(harness_on_mount("system"));
    sql("DELETE FROM node WHERE serial LIKE 'crowd-%%' AND serial NOT IN ('crowd-100', 'crowd-101')");
    assert_int_equal(count_of(harness_on_mount("system")), before - CROWD + 2);
    assert_true(is_there(harness_on_mount("system/crowd-100/rootfs/made")));
    assert_false(is_there(harness_on_mount("system/crowd-101/rootfs/made")));
    sql("INSERT INTO node(serial) VALUES('crowd-150')");
    assert_true(is_there(harness_on_mount("system/crowd-150/rootfs/made")));
}

/* ---- the levels above the roots ---- */

static int refusals;

static void must_be_refused(int result, const char *what, const char *path)
{
    if (result < 0 && (errno == EROFS || errno == EPERM || errno == EACCES)) return;
    refusals++;
    print_error("%s in %s: %s\n", what, path, result < 0 ? strerror(errno) : "done");
}

static void check_read_only(const char *directory, const char *entry, bool entry_is_directory)
{
    char present[4600], missing[4600];
    snprintf(present, sizeof(present), "%s/%s", directory, entry);
    snprintf(missing, sizeof(missing), "%s/missing", directory);
    must_be_refused(open(missing, O_CREAT | O_WRONLY | O_CLOEXEC, 0644), "create", directory);
    must_be_refused(mkdir(missing, 0755), "mkdir", directory);
    must_be_refused(symlink("x", missing), "symlink", directory);
    must_be_refused(mknod(missing, S_IFIFO | 0644, 0), "mknod", directory);
    must_be_refused(entry_is_directory ? rmdir(present) : unlink(present), "delete", directory);
    must_be_refused(rename(present, missing), "rename", directory);
    must_be_refused(renameat2(AT_FDCWD, present, AT_FDCWD, missing, RENAME_NOREPLACE), "renameat2", directory);
    must_be_refused(chmod(directory, 0777), "chmod", directory);
    must_be_refused(lchown(present, 5, 5), "chown", directory);
    must_be_refused(setxattr(directory, "user.x", "1", 1, 0), "setxattr", directory);
    must_be_refused(utimensat(AT_FDCWD, directory, NULL, 0), "utimensat", directory);
    struct stat st;
    must(lstat(present, &st));
    assert_false(is_there(missing));
}

static void test_the_levels_above_the_roots_are_read_only(void **state)
{
    (void)state;
    refusals = 0;
    check_read_only(harness_mountpoint(), "system", true);
    check_read_only(harness_on_mount("system"), harness_serial(0), true);
    check_read_only(harness_on_mount("tftpboot"), "02-00-00-00-00-07", false);
    check_read_only(harness_on_mount("system/%s", harness_serial(0)), "boot", false);
    must_be_refused(rmdir(root_of(harness_serial(0))), "rmdir", "system/node-a/rootfs");
    must_be_refused(rename(root_of("node-a"), harness_on_mount("system/node-a/x")), "rename", "system/node-a/rootfs");
    assert_int_equal(refusals, 0);
}

static int try_as_user(void *data)
{
    (void)data;
    refusals = 0;
    check_read_only(harness_mountpoint(), "system", true);
    check_read_only(harness_on_mount("system/%s", harness_serial(0)), "rootfs", true);
    return refusals;
}

static void test_the_levels_above_the_roots_are_read_only_for_users(void **state)
{
    (void)state;
    assert_int_equal(harness_as(MADE_UID, MADE_GID, try_as_user, NULL), 0);
}

static void test_nothing_moves_out_of_a_root_into_the_levels_above(void **state)
{
    (void)state;
    const char *file = harness_at(0, "etc/hostname"),
               *above = harness_on_mount("system/%s/hostname", harness_serial(0));
    int result = rename(file, above);
    must_hold(result < 0 && (errno == EROFS || errno == EPERM || errno == EACCES || errno == EXDEV), "%s",
              strerror(errno));
    result = link(file, above);
    must_hold(result < 0 && (errno == EROFS || errno == EPERM || errno == EACCES || errno == EXDEV), "%s",
              strerror(errno));
    made_check_file(file, 70, 20);
}

static void test_the_top_shows_system_and_tftpboot_alone(void **state)
{
    (void)state;
    assert_int_equal(count_of(harness_mountpoint()), 2);
    assert_int_equal(count_of(harness_on_mount("system/%s", harness_serial(0))), 2);
    assert_false(is_there(harness_on_mount("system/no-such-node")));
    assert_false(is_there(harness_on_mount("tftpboot/00-00-00-00-00-00")));
    struct stat st;
    must(stat(harness_mountpoint(), &st));
    assert_int_equal(st.st_mode & (S_IFMT | 0555), S_IFDIR | 0555);
    must(stat(harness_on_mount("system"), &st));
    must_hold((int)st.st_nlink == 2 + count_of(harness_on_mount("system")) || st.st_nlink == 1, "nlink %lu",
              st.st_nlink);
}

/* ---- one daemon for a store ---- */

static void test_a_second_daemon_on_the_store_is_refused_with_a_reason(void **state)
{
    (void)state;
    const char *other = harness_beside("other_mount");
    must(mkdir(other, 0755));
    char *output = NULL;
    int status = harness_coppice(&output, "mount", other, NULL);
    assert_int_equal(status, 1);
    char pid[32];
    snprintf(pid, sizeof(pid), "%d", harness_daemon_pid());
    must_hold(strstr(output, pid) || strstr(output, harness_mountpoint()), "it does not say who: %s", output);
    char *end = strchr(output, '\n');
    must_hold(end && end[1] == '\0', "not one line: %s", output);
    free(output);
    assert_true(is_there(root_of(harness_serial(0))));
    assert_int_equal(count_of(other), 0);
    must(rmdir(other));
}

static void test_a_killed_daemon_s_store_is_mounted_again(void **state)
{
    (void)state;
    made_file(harness_at(1, "before_kill"), 8, 70000, 0600);
    harness_kill_daemon();
    harness_mount();
    made_check_file(harness_at(1, "before_kill"), 8, 70000);
    sql("INSERT INTO node(serial) VALUES('after-kill')");
    assert_true(is_there(harness_on_mount("system/after-kill/rootfs/etc")));
}

/* Writes rows, one after the other, by a process of its own. */
static pid_t write_rows(void)
{
    const char *change = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) "
                         "SELECT 'UPDATE node SET hostname = ''h' || i || ''' WHERE serial = ''busy-1'';' FROM n";
    pid_t writer = must(fork());
    if (writer) return writer;
    char *statements = NULL, *output = NULL;
    bool is_good = harness_sql(&statements, change) == 0 && harness_sql(&output, statements) == 0;
    if (!is_good) print_error("%s\n", output);
    _exit(!is_good);
}

static void test_a_first_look_is_answered_while_others_write_to_the_catalog(void **state)
{
    enum { LOOKS = 60 };
    int status;
    (void)state;
    sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
        "INSERT INTO node(serial) SELECT 'busy-' || i FROM n", LOOKS);
    pid_t writer = write_rows();
    usleep(200000);
    for (int i = 1; i <= LOOKS; i++) {
        const char *path = harness_on_mount("system/busy-%d/rootfs/etc", i);
        must_hold(is_there(path), "%s is not there", path);
    }
    must(waitpid(writer, &status, 0));
    assert_int_equal(status, 0);
    sql("DELETE FROM node WHERE serial LIKE 'busy-%%'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_inserted_node_is_there_at_the_next_look_up),
        cmocka_unit_test(test_boot_and_tftpboot_lead_to_the_node_s_boot_directory),
        cmocka_unit_test(test_a_changed_mac_moves_the_tftpboot_link),
        cmocka_unit_test(test_a_hexadecimal_serial_has_a_link_by_its_end),
        cmocka_unit_test(test_a_mac_goes_from_one_node_to_another),
        cmocka_unit_test(test_a_deleted_node_leaves_the_view_within_a_second),
        cmocka_unit_test(test_a_node_inserted_again_finds_its_delta),
        cmocka_unit_test(test_a_node_deleted_while_unmounted_is_gone_and_comes_back),
        cmocka_unit_test(test_a_working_directory_in_a_deleted_node_does_not_hang),
        cmocka_unit_test(test_bad_rows_are_refused_with_a_reason),
        cmocka_unit_test(test_a_thousand_nodes_in_one_transaction_are_all_there),
        cmocka_unit_test(test_nodes_that_change_nothing_cost_no_disk),
        cmocka_unit_test(test_many_nodes_are_changed_and_deleted_at_once),
        cmocka_unit_test(test_a_first_look_is_answered_while_others_write_to_the_catalog),
        cmocka_unit_test(test_the_levels_above_the_roots_are_read_only),
        cmocka_unit_test(test_the_levels_above_the_roots_are_read_only_for_users),
        cmocka_unit_test(test_nothing_moves_out_of_a_root_into_the_levels_above),
        cmocka_unit_test(test_the_top_shows_system_and_tftpboot_alone),
        cmocka_unit_test(test_a_second_daemon_on_the_store_is_refused_with_a_reason),
        cmocka_unit_test(test_a_killed_daemon_s_store_is_mounted_again),
    };
    if (getenv("COPPICE_TEST_ROOT")) return 77; /* all of this is about the mount */
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
