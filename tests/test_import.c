#include "scratch.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "image.h"
#include "import.h"
#include "io.h"
#include "listing.h"
#include "log.h"
#include "made_acl.h"
#include "progress.h"
#include "store.h"

#define KILLS 30

static struct store *store;
static char logged[8192];

/* --- around a call of the import --- */

static void run(const char *format, ...)
{
    _cleanup_free_ char *command = NULL;
    va_list arguments;

    va_start(arguments, format);
    assert_true(vasprintf(&command, format, arguments) >= 0);
    va_end(arguments);
    if (system(command) != 0) fail_msg("%s", command);
}

/* Runs import_image() or import_remove() with its messages in `logged`. */
static int catch_log(void **state, bool is_removal, const char *name, const char *source)
{
    _cleanup_close_ int fd = open(scratch_path(state, "log"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    _cleanup_close_ int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    ssize_t n;
    int r;

    assert_true(fd >= 0);
    dup2(fd, STDERR_FILENO);
    r = is_removal ? import_remove(store, name) : import_image(store, name, source, NULL);
    dup2(saved, STDERR_FILENO);
    n = io_pread(fd, logged, sizeof(logged) - 1, 0);
    assert_true(n >= 0);
    logged[n] = '\0';
    return r;
}

static int import(void **state, const char *name, const char *source)
{
    return catch_log(state, false, name, source);
}

/* A good import warns of small test images, and of nothing else. */
static void import_good(void **state, const char *name, const char *source)
{
    int r = import(state, name, source);

    if (r != 0) fail_msg("%s: %d, %s", source, r, logged);
    if (*logged && !strstr(logged, "looks incomplete")) fail_msg("%s: %s", source, logged);
}

static void remove_image(void **state, const char *name)
{
    assert_int_equal(catch_log(state, true, name, NULL), 0);
    assert_string_equal(logged, "");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct listing_item *)a)->name, ((const struct listing_item *)b)->name);
}

/* images/ holds these, separated by blanks, and nothing else. */
static void assert_images(const char *expected)
{
    _cleanup_listing_ struct listing listing = {0};
    _cleanup_close_ int fd = io_open_beneath(store->fd, "images", O_RDONLY | O_DIRECTORY, 0);
    char found[4096] = "";

    assert_int_equal(listing_read(&listing, fd), 0);
    if (listing.count) qsort(listing.items, listing.count, sizeof(*listing.items), by_name);
    for (size_t i = 0; i < listing.count; i++)
        snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s%s", i ? " " : "", listing.items[i].name);
    assert_string_equal(found, expected);
}

static bool has_row(const char *name)
{
    struct catalog_image image;

    if (catalog_image(store->catalog, name, &image) < 0) return false;
    catalog_image_free(&image);
    return true;
}

/* Fails with one line that holds `reason`, and leaves nothing. */
static void assert_refused(void **state, const char *source, const char *reason)
{
    int r = import(state, "bad", source);
    const char *end = strchr(logged, '\n');

    if (r >= 0 || !strstr(logged, reason) || !end || end[1])
        fail_msg("%s: %d, '%s', not '%s'", source, r, logged, reason);
    assert_memory_equal(logged, "coppice: ", 9);
    assert_images("");
    assert_false(has_row("bad"));
}

/* --- a source with one of everything --- */

static void set_attributes(const char *path)
{
    static const char capability[20] = {1, 0, 0, 2, 0, 32};
    _cleanup_free_ char *file = io_format("%s/usr/bin/tool", path), *link = io_format("%s/bin", path);
    _cleanup_free_ char *directory = io_format("%s/var/shared", path), *text = io_format("%s/etc/passwd", path);
    struct made_acl acl;
    size_t size = made_acl_for_user(&acl, 4321, 7, 5, 6, 4);

    assert_int_equal(setxattr(file, "security.capability", capability, sizeof(capability), 0), 0);
    assert_int_equal(setxattr(file, "user.note", "\0binary", 7, 0), 0);
    assert_int_equal(setxattr(file, "trusted.note", "", 0, 0), 0);
    assert_int_equal(lsetxattr(link, "trusted.link", "of a link", 9, 0), 0);
    assert_int_equal(setxattr(text, ACL_ACCESS_NAME, &acl, size, 0), 0);
    assert_int_equal(setxattr(directory, ACL_DEFAULT_NAME, &acl, size, 0), 0);
    assert_int_equal(setxattr(directory, ACL_ACCESS_NAME, &acl, size, 0), 0);
}

static void make_source(const char *path)
{
    _cleanup_free_ char *socket = io_format("%s/run-socket", path);

    run("mkdir -p '%s' && cd '%s' && mkdir -p etc usr/bin usr/sbin var/shared dev tmp boot names"
        " && echo root:x > etc/passwd && head -c 300000 /dev/urandom > usr/bin/tool && ln -s usr/bin bin && ln -s "
        "usr/sbin sbin"
        " && echo init > usr/sbin/init && ln usr/bin/tool usr/bin/same && ln usr/bin/tool var/shared/third"
        " && ln -s /absolute/target dangling && ln -s ../../../../outside etc/up && ln etc/up var/hard-symlink"
        " && mknod dev/null c 1 3 && mknod dev/disk b 259 70000 && mkfifo dev/pipe"
        " && : > empty && touch var/shared/inherits && truncate -s 64M sparse"
        " && printf head | dd of=sparse conv=notrunc status=none && printf middle | dd of=sparse bs=1M seek=20 "
        "conv=notrunc"
        " status=none && chmod 1777 tmp && chmod 0 empty",
        path, path);
    run("cd '%s/names' && touch -- \"$(printf 'e\\314\\201')\" \"$(printf '\\303\\251')\" \"$(printf 'bad\\377\\376')\""
        " \"$(printf 'new\\nline')\" ' blank ' '-rf' '*' 'back\\slash' \"$(printf '%%0255d' 0)\""
        " && ln -s \"$(printf 'to\\377')\" \"$(printf 'e\\314\\201-link')\"",
        path);
    assert_int_equal(mknod(socket, S_IFSOCK | 0700, 0), 0);
    run("cd '%s' && chown -h 12345:54321 dangling run-socket dev/pipe usr/bin/tool && chown -R 7:8 var/shared"
        " && chmod 6755 usr/bin/tool && chmod 2770 var/shared",
        path);
    set_attributes(path);
    run("cd '%s' && find . -depth -exec touch -h -d '1999-01-02 03:04:05.987654321 UTC' {} + && touch -d '2030-06-07"
        " 08:09:10.000000001' etc && touch -h -d '1960-01-01 UTC' dangling && touch -d '2005-05-05 05:05:05.5' .",
        path);
}

static int setup(void **state)
{
    if (scratch_setup(state) < 0) return -1;
    make_source(scratch_path(state, "source"));
    return 0;
}

/* Each test has a store of its own. */
static int setup_store(void **state)
{
    store_close(store);
    store = NULL;
    if (io_remove_tree(AT_FDCWD, scratch_path(state, "store")) < 0) return -1;
    if (store_create(scratch_path(state, "store")) < 0) return -1;
    return store_open(&store, scratch_path(state, "store"));
}

static int teardown(void **state)
{
    store_close(store);
    return scratch_teardown(state);
}

/* --- two trees side by side --- */

#define LIST_TREE                                                                                                    \
    "(cd '%s' && find . ! -type s -print0 | sort -z | xargs -0 stat --printf='%%n|%%f|%%u|%%g|%%h|%%.9Y|%%t:%%T\\n'" \
    " && find . ! -type d ! -type s -print0 | sort -z | xargs -0 stat --printf='%%N|%%s\\n')"

/* Everything that rsync carries: contents, links, owners, modes, ACLs, extended attributes. */
static void assert_same(void **state, const char *image, const char *rsync_options)
{
    _cleanup_free_ char *source = strdup(scratch_path(state, "source"));
    _cleanup_free_ char *found = io_format("%s/images/%s/rootfs", store->path, image);
    char output[4096];

    if (scratch_run(output, sizeof(output), "rsync -aHcn %s --itemize-changes --delete '%s/' '%s/'", rsync_options,
                    source, found) != 0 ||
        *output)
        fail_msg("%s: %s", image, output);
}

static void assert_same_stat(void **state, const char *image)
{
    _cleanup_free_ char *source = strdup(scratch_path(state, "source"));
    _cleanup_free_ char *found = io_format("%s/images/%s/rootfs", store->path, image);
    char output[4096];

    run(LIST_TREE " > '%s'", source, scratch_path(state, "source.list"));
    run(LIST_TREE " > '%s'", found, scratch_path(state, "found.list"));
    if (scratch_run(output, sizeof(output), "diff '%s' '%s'", scratch_path(state, "source.list"),
                    scratch_path(state, "found.list")) != 0)
        fail_msg("%s: %s", image, output);
}

static void assert_sparse(const char *image)
{
    _cleanup_free_ char *path = io_format("%s/images/%s/rootfs/sparse", store->path, image);
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 64 << 20);
    assert_true(st.st_blocks * 512 < 1 << 20);
}

static void assert_opens(const char *name)
{
    _cleanup_close_ int fd = io_open_beneath(store->fd, "images", O_RDONLY | O_DIRECTORY, 0);
    _cleanup_free_ char *path = io_format("%s/images", store->path);
    struct catalog_image row;
    struct image *image;

    assert_int_equal(catalog_image(store->catalog, name, &row), 0);
    assert_int_equal(image_open(&image, fd, path, name), 0);
    assert_int_equal(row.files, image_count(image));
    assert_true(row.bytes > 64 << 20);
    catalog_image_free(&row);
    image_unref(image);
}

static void test_directory(void **state)
{
    struct catalog_image row;

    /* Which tar cannot tell. */
    assert_int_equal(link(scratch_path(state, "source/dev/pipe"), scratch_path(state, "source/dev/same-pipe")), 0);
    import_good(state, "copy", scratch_path(state, "source"));
    assert_string_equal(logged, "");
    assert_images("copy");
    assert_same(state, "copy", "-AX");
    assert_same_stat(state, "copy");
    assert_sparse("copy");
    assert_opens("copy");
    assert_int_equal(catalog_image(store->catalog, "copy", &row), 0);
    assert_string_equal(row.source, scratch_path(state, "source"));
    assert_string_equal(row.boot, "boot");
    assert_true(row.is_default);
    catalog_image_free(&row);
    remove_image(state, "copy");
    assert_images("");
    unlink(scratch_path(state, "source/dev/same-pipe"));
}

static const char *make_tar(void **state, const char *name, const char *options)
{
    const char *path = scratch_path(state, name);

    run("tar -C '%s' --sparse --exclude=./run-socket %s -cf '%s' .", scratch_path(state, "source"), options, path);
    return path;
}

/* ACLs as such, not a second time as attributes. */
#define PAX                                                                                 \
    "--format=posix --acls --xattrs --xattrs-include='user.*' --xattrs-include='trusted.*'" \
    " --xattrs-include='security.*'"

static void check_archive(void **state, const char *name, const char *options, const char *rsync_options)
{
    import_good(state, "tar", make_tar(state, name, options));
    assert_string_equal(logged, "");
    assert_same(state, "tar", rsync_options);
    assert_sparse("tar");
    assert_opens("tar");
    unlink(scratch_path(state, name));
}

static void test_archives(void **state)
{
    static const char *const programs[] = {"gzip", "bzip2", "xz", "zstd"};

    check_archive(state, "plain.tar", PAX, "-AX --exclude=/run-socket");
    assert_same_stat(state, "tar");
    remove_image(state, "tar");
    check_archive(state, "gnu.tar", "--format=gnu", "--exclude=/run-socket");
    remove_image(state, "tar");
    for (size_t i = 0; i < sizeof(programs) / sizeof(*programs); i++) {
        _cleanup_free_ char *options = io_format(PAX " --use-compress-program=%s", programs[i]);
        char output[256];

        if (scratch_run(output, sizeof(output), "command -v %s", programs[i]) != 0) continue;
        check_archive(state, "packed.tar", options, "-AX --exclude=/run-socket");
        remove_image(state, "tar");
    }
    assert_images("");
}

static void test_standard_input(void **state)
{
    const char *path = make_tar(state, "input.tar", PAX " --gzip");
    _cleanup_close_ int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10), fd = open(path, O_RDONLY | O_CLOEXEC);
    struct catalog_image row;

    dup2(fd, STDIN_FILENO);
    import_good(state, "piped", "-");
    dup2(saved, STDIN_FILENO);
    assert_same(state, "piped", "-AX --exclude=/run-socket");
    assert_int_equal(catalog_image(store->catalog, "piped", &row), 0);
    assert_string_equal(row.source, "standard input");
    catalog_image_free(&row);
    remove_image(state, "piped");
    unlink(path);
}

/* --- archives made member by member --- */

struct made_member {
    int type; /* AE_IFREG …; 0 ends the list */
    const char *path;
    const char *link; /* a symlink's target; with AE_IFREG a hard link's */
    const char *contents;
};

static void add_member(struct archive *archive, const struct made_member *member)
{
    struct archive_entry *entry = archive_entry_new();
    size_t size = member->contents ? strlen(member->contents) : 0;

    archive_entry_set_pathname(entry, member->path);
    archive_entry_set_filetype(entry, member->type);
    archive_entry_set_perm(entry, 0755);
    archive_entry_set_size(entry, size);
    if (member->link && member->type == AE_IFLNK) archive_entry_set_symlink(entry, member->link);
    else if (member->link) archive_entry_set_hardlink(entry, member->link);
    assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
    if (size) assert_int_equal(archive_write_data(archive, member->contents, size), size);
    archive_entry_free(entry);
}

static const char *make_archive(void **state, const struct made_member *members)
{
    const char *path = scratch_path(state, "made.tar");
    struct archive *archive = archive_write_new();

    archive_write_set_format_pax_restricted(archive);
    assert_int_equal(archive_write_open_filename(archive, path), ARCHIVE_OK);
    for (const struct made_member *member = members; member->type; member++) add_member(archive, member);
    assert_int_equal(archive_write_free(archive), ARCHIVE_OK);
    return path;
}

#define MEMBERS(...) ((const struct made_member[]){__VA_ARGS__, {0}})

static void refuse_members(void **state, const struct made_member *members, const char *reason)
{
    assert_refused(state, make_archive(state, members), reason);
    assert_int_equal(access(scratch_path(state, "escaped"), F_OK), -1);
}

static void test_members_that_escape(void **state)
{
    _cleanup_free_ char *outside = strdup(scratch_path(state, "outside")), *escape = NULL;

    run("mkdir -p '%s'", outside);
    escape = io_format("%s/escaped", outside);
    refuse_members(state, MEMBERS({AE_IFREG, "../escaped", NULL, "x"}), "member '../escaped': '..' in its name");
    refuse_members(state, MEMBERS({AE_IFREG, "a/../../escaped", NULL, "x"}), "member 'a/../../escaped': '..'");
    refuse_members(state, MEMBERS({AE_IFDIR, "a/..", NULL, NULL}), "member 'a/../': '..'");
    refuse_members(state, MEMBERS({AE_IFREG, escape, NULL, "x"}), "an absolute name");
    refuse_members(state, MEMBERS({AE_IFLNK, "out", outside, NULL}, {AE_IFREG, "out/escaped", NULL, "x"}),
                   "member 'out/escaped': is reached through a symbolic link");
    refuse_members(state, MEMBERS({AE_IFLNK, "out", "..", NULL}, {AE_IFDIR, "out/escaped/x", NULL, NULL}),
                   "member 'out/escaped/x/': is reached through a symbolic link");
    refuse_members(state, MEMBERS({AE_IFREG, "in", NULL, "x"}, {AE_IFREG, "hard", "/etc/passwd", NULL}),
                   "member 'hard': hard link to '/etc/passwd': an absolute name");
    refuse_members(state, MEMBERS({AE_IFREG, "hard", "../../../catalog.db", NULL}),
                   "hard link to '../../../catalog.db': '..'");
    refuse_members(state, MEMBERS({AE_IFLNK, "out", outside, NULL}, {AE_IFREG, "hard", "out/file", NULL}),
                   "hard link to 'out/file', which is reached through a symbolic link");
    refuse_members(state, MEMBERS({AE_IFREG, "hard", "missing", NULL}),
                   "hard link to 'missing', which the archive does not");
    refuse_members(state, MEMBERS({AE_IFREG, "file", NULL, "x"}, {AE_IFREG, "file/below", NULL, "x"}),
                   "member 'file/below': lies below what is no directory");
    refuse_members(state, MEMBERS({AE_IFREG, "dir/file", NULL, "x"}, {AE_IFREG, "dir", NULL, "x"}),
                   "member 'dir': the archive has a directory of this name");
    assert_int_equal(access(escape, F_OK), -1);
}

/* A symlink made by one member is not followed by a later one of the same name, and what it points to stays. */
static void test_members_that_replace(void **state)
{
    _cleanup_free_ char *victim = strdup(scratch_path(state, "victim")), *rootfs = NULL;
    char output[256];

    scratch_write(victim, "untouched");
    import_good(state, "twice",
                make_archive(state, MEMBERS({AE_IFREG, "file", NULL, "first"}, {AE_IFREG, "other", "file", NULL},
                                            {AE_IFLNK, "link", victim, NULL}, {AE_IFREG, "./file", NULL, "second"},
                                            {AE_IFREG, "link", NULL, "mine"}, {AE_IFLNK, "dir", "..", NULL},
                                            {AE_IFDIR, "dir", NULL, NULL}, {AE_IFREG, "dir//./file", NULL, "inside"},
                                            {AE_IFDIR, "gone", NULL, NULL}, {AE_IFLNK, "gone", "/", NULL},
                                            {AE_IFREG, "other", "other", NULL})));
    rootfs = io_format("%s/images/twice/rootfs", store->path);
    scratch_run(output, sizeof(output), "cd '%s' && cat file other link dir/file '%s'; stat -c %%F dir gone", rootfs,
                victim);
    assert_string_equal(output, "secondfirstmineinsideuntoucheddirectory\nsymbolic link");
    remove_image(state, "twice");
}

static void test_directories_that_are_implied(void **state)
{
    _cleanup_free_ char *rootfs = NULL;
    char output[256];

    import_good(state, "implied",
                make_archive(state, MEMBERS({AE_IFREG, "a/b/c/file", NULL, "x"}, {AE_IFREG, "a/b/d", NULL, ""})));
    rootfs = io_format("%s/images/implied/rootfs", store->path);
    scratch_run(output, sizeof(output), "cd '%s' && stat -c %%a:%%u . a a/b a/b/c | tr '\\n' ' '", rootfs);
    assert_string_equal(output, "755:0 755:0 755:0 755:0 ");
    remove_image(state, "implied");
}

/* --- sources that are none --- */

static void test_sources_without_anything(void **state)
{
    assert_refused(state, scratch_path(state, "missing"), "No such file or directory");
    run("mkdir -p '%s'", scratch_path(state, "nothing"));
    assert_refused(state, scratch_path(state, "nothing"), "nothing: is empty");
    run(": > '%s'", scratch_path(state, "zero"));
    assert_refused(state, scratch_path(state, "zero"), "zero: is empty");
    run("gzip -c '%s' > '%s'", scratch_path(state, "zero"), scratch_path(state, "zero.gz"));
    assert_refused(state, scratch_path(state, "zero.gz"), "zero.gz: is empty");
    run("tar -cf '%s' -T /dev/null", scratch_path(state, "none.tar"));
    assert_refused(state, scratch_path(state, "none.tar"), "none.tar: is empty");
    run("tar -C '%s' -cf '%s' .", scratch_path(state, "nothing"), scratch_path(state, "dot.tar"));
    assert_refused(state, scratch_path(state, "dot.tar"), "dot.tar: is empty");
    scratch_write(scratch_path(state, "text"), "no archive at all\n");
    assert_refused(state, scratch_path(state, "text"), "text: no tar archive");
    run("head -c 70000 /dev/urandom > '%s'", scratch_path(state, "noise"));
    assert_refused(state, scratch_path(state, "noise"), "noise: no tar archive");
    run("gzip -c '%s' > '%s'", scratch_path(state, "noise"), scratch_path(state, "noise.gz"));
    assert_refused(state, scratch_path(state, "noise.gz"), "noise.gz: no tar archive");
    assert_refused(state, "/dev/null", "/dev/null: neither a directory nor an archive");
    assert_refused(state, scratch_path(state, "source/run-socket"), "run-socket: ");
}

static void cut(void **state, const char *from, off_t size)
{
    run("head -c %lld '%s' > '%s'", (long long)size, from, scratch_path(state, "cut"));
}

static void test_truncated_archives(void **state)
{
    const struct made_member *members = MEMBERS({AE_IFDIR, "etc", NULL, NULL}, {AE_IFREG, "etc/a", NULL, "contents"},
                                                {AE_IFREG, "etc/b", NULL, ""}, {AE_IFREG, "etc/c", "etc/a", NULL},
                                                {AE_IFLNK, "link", "etc", NULL}, {AE_IFREG, "last", NULL, "the last"});
    _cleanup_free_ char *path = strdup(make_archive(state, members));
    off_t end = 8 * 512; /* six headers, two blocks of contents */
    struct stat st;

    for (off_t size = 512; size <= end; size += 512) {
        cut(state, path, size);
        assert_refused(state, scratch_path(state, "cut"), "truncated");
        cut(state, path, size - 100);
        assert_refused(state, scratch_path(state, "cut"), size == 512 ? "no tar archive" : "truncated");
    }
    run("gzip -kf '%s'", path);
    assert_int_equal(stat(scratch_path(state, "made.tar.gz"), &st), 0);
    for (off_t less = 1; less < st.st_size - 20; less += 7) {
        cut(state, scratch_path(state, "made.tar.gz"), st.st_size - less);
        assert_refused(state, scratch_path(state, "cut"), "");
    }
    /* Padding longer than what is read ahead, so that the end is met only by looking for it. */
    run("(cat '%s'; head -c 5M /dev/zero) | gzip > '%s'", path, scratch_path(state, "padded.tar.gz"));
    assert_int_equal(stat(scratch_path(state, "padded.tar.gz"), &st), 0);
    cut(state, scratch_path(state, "padded.tar.gz"), st.st_size - 100);
    assert_refused(state, scratch_path(state, "cut"), "truncated");
    import_good(state, "whole", scratch_path(state, "made.tar.gz"));
    remove_image(state, "whole");
}

static void refuse_name(void **state, const char *name, int error, const char *reason)
{
    int r = import(state, name, scratch_path(state, "source"));

    if (r != error || !strstr(logged, reason)) fail_msg("%s: %d, %s", name, r, logged);
}

static void test_names(void **state)
{
    static const char *const bad[] = {"", ".", "..", ".hidden", "-flag", "a/b", "blank ", "\303\251", "new\nline"};
    char longest[66];

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) refuse_name(state, bad[i], -EINVAL, "must be 1-64 of");
    memset(longest, 'n', 65);
    longest[65] = '\0';
    refuse_name(state, longest, -EINVAL, "must be 1-64 of");
    longest[64] = '\0';
    import_good(state, longest, scratch_path(state, "source"));
    refuse_name(state, longest, -EEXIST, "there is one of this name already");
    assert_images(longest);
    remove_image(state, longest);
    assert_images("");
}

/* The row is refused by the catalog itself after everything else was done. */
static void test_row_that_is_refused(void **state)
{
    run("sqlite3 '%s/catalog.db' \"CREATE TRIGGER no BEFORE INSERT ON image BEGIN SELECT RAISE(ABORT, 'not today'); "
        "END\"",
        store->path);
    assert_refused(state, scratch_path(state, "source"), "image bad: not today");
    run("sqlite3 '%s/catalog.db' 'DROP TRIGGER no'", store->path);
}

static void test_leftover_in_the_way(void **state)
{
    run("mkdir -p '%s/images/bad/rootfs'", store->path);
    refuse_name(state, "bad", -EEXIST, "there is one of this name already");
    assert_images("bad");
    run("rm -r '%s/images/bad'", store->path);
}

/* --- a source that the store lies in, mounts --- */

static void test_store_inside_the_source(void **state)
{
    assert_refused(state, (const char *)*state, ": the store lies inside it, at store");
    assert_refused(state, store->path, ": the store lies inside it, at .");
    assert_refused(state, scratch_path(state, "store/images"), ": the store lies inside it, at .import-");
}

static void test_mount_inside_the_source(void **state)
{
    struct store_daemon daemon = {.pid = getpid()};
    int claim;

    snprintf(daemon.mountpoint, sizeof(daemon.mountpoint), "%s", scratch_path(state, "source/tmp"));
    assert_int_equal(store_claim(store, &claim), 0);
    assert_int_equal(store_announce(claim, &daemon), 0);
    assert_refused(state, scratch_path(state, "source"), "source/tmp lies inside it");
    close(claim);
}

static void test_mounts_are_not_crossed(void **state)
{
    _cleanup_free_ char *rootfs = NULL;
    char output[256];
    int r;

    run("mkdir -p '%s/dir'", scratch_path(state, "host"));
    scratch_write(scratch_path(state, "host/file"), "covered");
    scratch_write(scratch_path(state, "secret"), "secret");
    if (unshare(CLONE_NEWNS) < 0) skip();
    assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    assert_int_equal(mount("none", scratch_path(state, "host/dir"), "tmpfs", 0, "mode=0711"), 0);
    assert_int_equal(mount(scratch_path(state, "secret"), scratch_path(state, "host/file"), NULL, MS_BIND, NULL), 0);
    scratch_write(scratch_path(state, "host/dir/secret"), "secret");
    r = import(state, "host", scratch_path(state, "host"));
    assert_int_equal(umount(scratch_path(state, "host/dir")), 0);
    assert_int_equal(umount(scratch_path(state, "host/file")), 0);
    assert_int_equal(r, 0);
    rootfs = io_format("%s/images/host/rootfs", store->path);
    scratch_run(output, sizeof(output), "cd '%s' && find . -type f -printf '%%P:%%s ' && find dir -printf '%%p:%%m '",
                rootfs);
    assert_string_equal(output, "file:0 dir:711 ");
    remove_image(state, "host");
}

/* Files of the image do not take what the store's directories would hand down. */
static void test_default_acl_of_the_store(void **state)
{
    struct made_acl acl;
    size_t size = made_acl_for_user(&acl, 4321, 7, 5, 6, 4);

    assert_int_equal(setxattr(scratch_path(state, "store/images"), ACL_DEFAULT_NAME, &acl, size, 0), 0);
    import_good(state, "acl", scratch_path(state, "source"));
    assert_int_equal(removexattr(scratch_path(state, "store/images"), ACL_DEFAULT_NAME), 0);
    assert_same(state, "acl", "-AX");
    remove_image(state, "acl");
}

/* --- what is found out about an image --- */

static void check_boot(void **state, const char *file, const char *expected)
{
    struct catalog_image row;

    run("mkdir -p \"$(dirname '%s/%s')\" && : > '%s/%s'", scratch_path(state, "pi"), file, scratch_path(state, "pi"),
        file);
    import_good(state, "pi", scratch_path(state, "pi"));
    assert_int_equal(catalog_image(store->catalog, "pi", &row), 0);
    assert_string_equal(row.boot, expected);
    catalog_image_free(&row);
    remove_image(state, "pi");
    run("rm -r '%s'", scratch_path(state, "pi"));
}

static void test_boot_directory(void **state)
{
    check_boot(state, "boot/vmlinuz", "boot");
    check_boot(state, "boot/firmware/readme", "boot");
    check_boot(state, "boot/start4.elf", "boot");
    check_boot(state, "boot/firmware/start4.elf", "boot/firmware");
    check_boot(state, "boot/firmware/bootcode.bin", "boot/firmware");
    check_boot(state, "boot/firmware/config.txt", "boot/firmware");
    check_boot(state, "boot/firmware/pxelinux.0", "boot/firmware");
    check_boot(state, "boot/firmware/boot.scr.uimg", "boot/firmware");
    check_boot(state, "boot/firmware/cmdline.txt", "boot/firmware");
}

static void test_incomplete_image(void **state)
{
    run("mkdir -p '%s'; ln -sf /bin/sh '%s'", scratch_path(state, "part/sbin"), scratch_path(state, "part/sbin/init"));
    import_good(state, "part", scratch_path(state, "part"));
    assert_string_equal(logged, "coppice: warning: image part: looks incomplete: it has neither an init nor a shell\n");
    remove_image(state, "part");
    run("mkdir -p '%s'; : > '%s'", scratch_path(state, "part/bin"), scratch_path(state, "part/bin/sh"));
    import_good(state, "part", scratch_path(state, "part"));
    assert_string_equal(logged, "");
    remove_image(state, "part");
}

/* --- removal --- */

static void test_removal(void **state)
{
    const struct catalog_node node = {.serial = "node-1"};

    assert_int_equal(catch_log(state, true, "nothing", NULL), -ENOENT);
    assert_string_equal(logged, "coppice: image nothing: there is none of this name\n");
    import_good(state, "used", scratch_path(state, "source"));
    assert_int_equal(catalog_add_node(store->catalog, &node), 0);
    assert_int_equal(catch_log(state, true, "used", NULL), -EBUSY);
    assert_string_equal(logged, "coppice: image used: in use by node node-1\n");
    assert_images("used");
    assert_opens("used");
    assert_int_equal(catalog_remove_node(store->catalog, "node-1"), 0);
    remove_image(state, "used");
    assert_images("");
    assert_int_equal(catch_log(state, true, "used", NULL), -ENOENT);
}

/* --- the worst moment --- */

static void reopen(void)
{
    _cleanup_free_ char *path = strdup(store->path);

    store_close(store);
    store = NULL;
    assert_int_equal(store_open(&store, path), 0);
}

/* A child does the work and is killed after so many microseconds; 0 when it was done before. */
static void kill_after(void **state, bool is_removal, const char *source, unsigned microseconds)
{
    _cleanup_free_ char *path = strdup(store->path);
    pid_t child;

    store_close(store);
    store = NULL;
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
    assert_int_equal(store_open(&store, path), 0);
    (void)state;
}

static unsigned microseconds_of_import(void **state, const char *source)
{
    double began = scratch_seconds();

    import_good(state, "timed", source);
    began = scratch_seconds() - began;
    remove_image(state, "timed");
    return began * 1e6;
}

static void check_after_kill(void **state, int *whole)
{
    if (!has_row("killed")) {
        assert_images("");
        return;
    }
    (*whole)++;
    assert_images("killed");
    assert_opens("killed");
    remove_image(state, "killed");
}

static void test_killed_imports(void **state)
{
    _cleanup_free_ char *source = strdup(scratch_path(state, "source")),
                        *archive = strdup(make_tar(state, "kill.tar", PAX));
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
        import_good(state, "killed", scratch_path(state, "source"));
        kill_after(state, true, NULL, i * 400);
        check_after_kill(state, &kept);
        assert_images("");
    }
    print_message("%d of %d killed removals had not begun\n", kept, KILLS / 2);
}

/* Another import under way is not taken for a leftover. */
static void test_import_beside_another(void **state)
{
    _cleanup_free_ char *other = io_format("%s/images/.import-of-another", store->path);
    int lock = store_lock_images(store);

    assert_true(lock >= 0);
    assert_int_equal(mkdir(other, 0700), 0);
    import_good(state, "beside", scratch_path(state, "source"));
    reopen();
    assert_images(".import-of-another beside");
    close(lock);
    reopen();
    assert_images("beside");
    remove_image(state, "beside");
}

static pid_t import_in_child(const char *source)
{
    _cleanup_free_ char *path = strdup(store->path);
    struct store *own;
    pid_t child;

    store_close(store);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(store_open(&own, path) < 0 || import_image(own, "piped", source, NULL) < 0);
    assert_int_equal(store_open(&store, path), 0);
    return child;
}

static void wait_for_entries(void)
{
    char output[64] = "0";

    for (int i = 0; i < 1000 && atoi(output) == 0; i++) {
        scratch_run(output, sizeof(output), "ls -A '%s/images'/.import-*/rootfs 2>/dev/null | wc -l", store->path);
        usleep(5000);
    }
    assert_true(atoi(output) > 0);
}

/* Half of an archive is unpacked when another command opens the store, and sweeps it. */
static void test_import_is_not_swept(void **state)
{
    enum { HALF = 200000 };
    _cleanup_free_ char *path = strdup(make_tar(state, "half.tar", PAX)), *pipe = strdup(scratch_path(state, "pipe"));
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
    assert_images("piped");
    assert_same(state, "piped", "-AX --exclude=/run-socket");
}

enum { DONE, NO_SPACE, NO_SPACE_FOR_INDEX };

static int import_into(void **state, unsigned kilobytes, const char *source, const char *small)
{
    struct store *kept = store;
    bool is_refused, is_index;

    scratch_tmpfs(state, "full", kilobytes);
    assert_int_equal(store_create(scratch_path(state, "full/store")), 0);
    assert_int_equal(store_open(&store, scratch_path(state, "full/store")), 0);
    is_refused = import(state, "bad", source) < 0;
    if (is_refused && !strstr(logged, "No space left on device")) fail_msg("%u KiB: %s", kilobytes, logged);
    is_index = strstr(logged, "index of the image");
    assert_images(is_refused ? "" : "bad");
    assert_int_equal(has_row("bad"), !is_refused);
    if (is_refused) import_good(state, "small", small);
    store_close(store);
    store = kept;
    scratch_unmount(state, "full");
    assert_int_equal(rmdir(scratch_path(state, "full")), 0);
    return !is_refused ? DONE : is_index ? NO_SPACE_FOR_INDEX : NO_SPACE;
}

/* Whatever it was that did not fit: contents, the index, the catalog's row. */
static void test_full_disk(void **state)
{
    _cleanup_free_ char *small = strdup(make_archive(state, MEMBERS({AE_IFREG, "bin/sh", NULL, "x"})));
    _cleanup_free_ char *source = strdup(scratch_path(state, "large")),
                        *archive = strdup(scratch_path(state, "large.tar"));
    unsigned kilobytes = 4040, seen[3] = {0};

    run("mkdir '%s' && cd '%s' && for i in $(seq 1 40); do head -c 100K /dev/urandom > $i; done && tar -cf '%s' .",
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

#define WITH_STORE(test) cmocka_unit_test_setup(test, setup_store)

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
    r = import_image(store, "shown", source, NULL);
    dup2(saved, STDERR_FILENO);
    assert_int_equal(r, 0);
    close(io_take_fd(slave));
    while ((more = read(terminal, shown + n, sizeof(shown) - 1 - n)) > 0) n += more;
    assert_in_range(n, sizeof(erased), sizeof(shown));
    shown[n] = '\0';
    assert_memory_equal(shown, "\rimporting shown: ", 18);
    assert_non_null(strstr(shown, "indexing shown: "));
    assert_string_equal(shown + n - strlen(erased), erased);
    assert_same(state, "shown", rsync_options);
    remove_image(state, "shown");
}

static void test_progress_on_terminal(void **state)
{
    import_on_terminal(state, scratch_path(state, "source"), "-AX");
    import_on_terminal(state, make_tar(state, "shown.tar", PAX), "-AX --exclude=/run-socket");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(test_directory),
        WITH_STORE(test_archives),
        WITH_STORE(test_standard_input),
        WITH_STORE(test_members_that_escape),
        WITH_STORE(test_members_that_replace),
        WITH_STORE(test_directories_that_are_implied),
        WITH_STORE(test_sources_without_anything),
        WITH_STORE(test_truncated_archives),
        WITH_STORE(test_names),
        WITH_STORE(test_row_that_is_refused),
        WITH_STORE(test_leftover_in_the_way),
        WITH_STORE(test_store_inside_the_source),
        WITH_STORE(test_mount_inside_the_source),
        WITH_STORE(test_mounts_are_not_crossed),
        WITH_STORE(test_default_acl_of_the_store),
        WITH_STORE(test_boot_directory),
        WITH_STORE(test_incomplete_image),
        WITH_STORE(test_removal),
        WITH_STORE(test_killed_imports),
        WITH_STORE(test_killed_removals),
        WITH_STORE(test_import_beside_another),
        WITH_STORE(test_import_is_not_swept),
        WITH_STORE(test_full_disk),
        WITH_STORE(test_progress_line),
        WITH_STORE(test_progress_on_terminal),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
