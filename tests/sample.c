#include "sample.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "image.h"
#include "import.h"
#include "io.h"
#include "listing.h"
#include "made_acl.h"

struct store *sample_store;
char sample_logged[8192];

/* --- around a call of the import --- */

void sample_run(const char *format, ...)
{
    _cleanup_free_ char *command = NULL;
    va_list arguments;

    va_start(arguments, format);
    assert_true(vasprintf(&command, format, arguments) >= 0);
    va_end(arguments);
    if (system(command) != 0) fail_msg("%s", command);
}

/* Runs import_image() or import_remove() with its messages in `sample_logged`. */
int sample_call(void **state, bool is_removal, const char *name, const char *source)
{
    _cleanup_close_ int fd = open(scratch_path(state, "log"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    _cleanup_close_ int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    ssize_t n;
    int r;

    assert_true(fd >= 0);
    dup2(fd, STDERR_FILENO);
    r = is_removal ? import_remove(sample_store, name) : import_image(sample_store, name, source, NULL);
    dup2(saved, STDERR_FILENO);
    n = io_pread(fd, sample_logged, sizeof(sample_logged) - 1, 0);
    assert_true(n >= 0);
    sample_logged[n] = '\0';
    return r;
}

int sample_import(void **state, const char *name, const char *source)
{
    return sample_call(state, false, name, source);
}

/* A good import warns of small test images, and of nothing else. */
void sample_import_good(void **state, const char *name, const char *source)
{
    int r = sample_import(state, name, source);

    if (r != 0) fail_msg("%s: %d, %s", source, r, sample_logged);
    if (*sample_logged && !strstr(sample_logged, "looks incomplete")) fail_msg("%s: %s", source, sample_logged);
}

void sample_remove(void **state, const char *name)
{
    assert_int_equal(sample_call(state, true, name, NULL), 0);
    assert_string_equal(sample_logged, "");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct listing_item *)a)->name, ((const struct listing_item *)b)->name);
}

/* images/ holds these, separated by blanks, and nothing else. */
void sample_assert_images(const char *expected)
{
    _cleanup_listing_ struct listing listing = {0};
    _cleanup_close_ int fd = io_open_beneath(sample_store->fd, "images", O_RDONLY | O_DIRECTORY, 0);
    char found[4096] = "";

    assert_int_equal(listing_read(&listing, fd), 0);
    if (listing.count) qsort(listing.items, listing.count, sizeof(*listing.items), by_name);
    for (size_t i = 0; i < listing.count; i++)
        snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s%s", i ? " " : "", listing.items[i].name);
    assert_string_equal(found, expected);
}

bool sample_has_row(const char *name)
{
    struct catalog_image image;

    if (catalog_image(sample_store->catalog, name, &image) < 0) return false;
    catalog_image_free(&image);
    return true;
}

/* Fails with one line that holds `reason`, and leaves nothing. */
void sample_assert_refused(void **state, const char *source, const char *reason)
{
    int r = sample_import(state, "bad", source);
    const char *end = strchr(sample_logged, '\n');

    if (r >= 0 || !strstr(sample_logged, reason) || !end || end[1])
        fail_msg("%s: %d, '%s', not '%s'", source, r, sample_logged, reason);
    assert_memory_equal(sample_logged, "coppice: ", 9);
    sample_assert_images("");
    assert_false(sample_has_row("bad"));
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

    sample_run("mkdir -p '%s' && cd '%s' && mkdir -p etc usr/bin usr/sbin var/shared dev tmp boot names"
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
    sample_run("cd '%s/names' && touch -- \"$(printf 'e\\314\\201')\" \"$(printf '\\303\\251')\" \"$(printf 'bad\\377\\376')\""
        " \"$(printf 'new\\nline')\" ' blank ' '-rf' '*' 'back\\slash' \"$(printf '%%0255d' 0)\""
        " && ln -s \"$(printf 'to\\377')\" \"$(printf 'e\\314\\201-link')\"",
        path);
    assert_int_equal(mknod(socket, S_IFSOCK | 0700, 0), 0);
    sample_run("cd '%s' && chown -h 12345:54321 dangling run-socket dev/pipe usr/bin/tool && chown -R 7:8 var/shared"
        " && chmod 6755 usr/bin/tool && chmod 2770 var/shared",
        path);
    set_attributes(path);
    sample_run("cd '%s' && find . -depth -exec touch -h -d '1999-01-02 03:04:05.987654321 UTC' {} + && touch -d '2030-06-07"
        " 08:09:10.000000001' etc && touch -h -d '1960-01-01 UTC' dangling && touch -d '2005-05-05 05:05:05.5' .",
        path);
}

int sample_setup(void **state)
{
    if (scratch_setup(state) < 0) return -1;
    make_source(scratch_path(state, "source"));
    return 0;
}

/* Each test has a store of its own. */
int sample_setup_store(void **state)
{
    store_close(sample_store);
    sample_store = NULL;
    if (io_remove_tree(AT_FDCWD, scratch_path(state, "store")) < 0) return -1;
    if (store_create(scratch_path(state, "store")) < 0) return -1;
    return store_open(&sample_store, scratch_path(state, "store"));
}

int sample_teardown(void **state)
{
    store_close(sample_store);
    return scratch_teardown(state);
}

/* --- two trees side by side --- */

#define LIST_TREE                                                                                                    \
    "(cd '%s' && find . ! -type s -print0 | sort -z | xargs -0 stat --printf='%%n|%%f|%%u|%%g|%%h|%%.9Y|%%t:%%T\\n'" \
    " && find . ! -type d ! -type s -print0 | sort -z | xargs -0 stat --printf='%%N|%%s\\n')"

/* Everything that rsync carries: contents, links, owners, modes, ACLs, extended attributes. */
void sample_assert_same(void **state, const char *image, const char *rsync_options)
{
    _cleanup_free_ char *source = strdup(scratch_path(state, "source"));
    _cleanup_free_ char *found = io_format("%s/images/%s/rootfs", sample_store->path, image);
    char output[4096];

    if (scratch_run(output, sizeof(output), "rsync -aHcn %s --itemize-changes --delete '%s/' '%s/'", rsync_options,
                    source, found) != 0 ||
        *output)
        fail_msg("%s: %s", image, output);
}

void sample_assert_same_stat(void **state, const char *image)
{
    _cleanup_free_ char *source = strdup(scratch_path(state, "source"));
    _cleanup_free_ char *found = io_format("%s/images/%s/rootfs", sample_store->path, image);
    char output[4096];

    sample_run(LIST_TREE " > '%s'", source, scratch_path(state, "source.list"));
    sample_run(LIST_TREE " > '%s'", found, scratch_path(state, "found.list"));
    if (scratch_run(output, sizeof(output), "diff '%s' '%s'", scratch_path(state, "source.list"),
                    scratch_path(state, "found.list")) != 0)
        fail_msg("%s: %s", image, output);
}

void sample_assert_sparse(const char *image)
{
    _cleanup_free_ char *path = io_format("%s/images/%s/rootfs/sparse", sample_store->path, image);
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 64 << 20);
    assert_true(st.st_blocks * 512 < 1 << 20);
}

void sample_assert_opens(const char *name)
{
    _cleanup_close_ int fd = io_open_beneath(sample_store->fd, "images", O_RDONLY | O_DIRECTORY, 0);
    _cleanup_free_ char *path = io_format("%s/images", sample_store->path);
    struct catalog_image row;
    struct image *image;

    assert_int_equal(catalog_image(sample_store->catalog, name, &row), 0);
    assert_int_equal(image_open(&image, fd, path, name), 0);
    assert_int_equal(row.files, image_count(image));
    assert_true(row.bytes > 64 << 20);
    catalog_image_free(&row);
    image_unref(image);
}

const char *sample_tar(void **state, const char *name, const char *options)
{
    const char *path = scratch_path(state, name);

    sample_run("tar -C '%s' --sparse --exclude=./run-socket %s -cf '%s' .", scratch_path(state, "source"), options, path);
    return path;
}

static void add_member(struct archive *archive, const struct sample_member *member)
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

const char *sample_archive(void **state, const struct sample_member *members)
{
    const char *path = scratch_path(state, "made.tar");
    struct archive *archive = archive_write_new();

    archive_write_set_format_pax_restricted(archive);
    assert_int_equal(archive_write_open_filename(archive, path), ARCHIVE_OK);
    for (const struct sample_member *member = members; member->type; member++) add_member(archive, member);
    assert_int_equal(archive_write_free(archive), ARCHIVE_OK);
    return path;
}
