/* fuzz_delta: delta.db of a node. It is opened, everything in it is looked at, and some of it is changed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../view_fixture.h"
#include "content.h"
#include "dirent.h"
#include "fuzz.h"
#include "io.h"
#include "xattr.h"

enum { ENTRIES_MAX = 2000, DEPTH_MAX = 20 };

static struct view_fixture *fixture;
static unsigned entries; /* seen in this run: a damaged tree may be a ring */

static int next_entry(struct view *v, uint64_t dir, uint32_t cookie, struct dirent_entry *ret)
{
    struct delta *d = view_lock(v);
    int r = dirent_next(v, d, dir, cookie, ret);

    view_unlock(d);
    return r;
}

static void look_at(struct view *v, uint64_t ino)
{
    static char buffer[65536];
    struct stat st;
    ssize_t n;

    if (inode_stat(v, ino, &st) < 0) return;
    n = xattr_list(v, ino, buffer, sizeof(buffer));
    fuzz_must(n <= (ssize_t)sizeof(buffer));
    xattr_get(v, ino, "user.color", buffer, sizeof(buffer));
    inode_readlink(v, ino, buffer, sizeof(buffer));
    if (!S_ISREG(st.st_mode)) return;
    n = content_read(v, ino, buffer, sizeof(buffer), 0);
    fuzz_must(n <= (ssize_t)sizeof(buffer) && n <= st.st_size);
    content_read(v, ino, buffer, 5000, st.st_size > 4096 ? st.st_size - 4096 : 0);
    content_seek(v, ino, 0, SEEK_DATA);
    content_seek(v, ino, 0, SEEK_HOLE);
}

static void walk(struct view *v, uint64_t dir, int depth)
{
    struct dirent_entry e = {.cookie = 0};
    uint32_t cookie = DIRENT_COOKIE_DOTS;

    while (entries++ < ENTRIES_MAX && next_entry(v, dir, cookie, &e) > 0) {
        uint64_t found;

        fuzz_must(e.cookie > cookie && strlen(e.name) == e.length);
        cookie = e.cookie;
        names_lookup(v, dir, e.name, &found);
        look_at(v, e.ino);
        if (depth < DEPTH_MAX) walk(v, e.ino, depth + 1);
    }
}

static void change(struct view *v)
{
    uint64_t ino;

    if (view_fixture_has(v, "new/small", &ino)) content_write(v, ino, "more", 4, 16380);
    if (view_fixture_has(v, "sizes/300000", &ino)) {
        content_write(v, ino, "in the middle", 13, 5000);
        content_truncate(v, ino, 100, NULL);
        content_sync(v, ino, false);
    }
    if (view_fixture_has(v, "new", &ino)) names_unlink(v, ino, "large");
    names_unlink(v, DELTA_ROOT, "fifo");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view *view;

    if (!fixture) {
        void *state;

        setenv("TMPDIR", fuzz_directory(), 1);
        fuzz_must(view_fixture_setup(&state) == 0);
        fixture = state;
    }
    io_remove_tree(fixture->shared.nodes_fd, "fuzz");
    fuzz_must(mkdirat(fixture->shared.nodes_fd, "fuzz", 0700) == 0);
    fuzz_must(mkdirat(fixture->shared.nodes_fd, "fuzz/objects", 0700) == 0);
    {
        _cleanup_close_ int fd = openat(fixture->shared.nodes_fd, "fuzz/delta.db", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        fuzz_must(fd >= 0 && io_write(fd, data, size) == 0);
    }
    if (view_open(&view, &fixture->shared, 7, "fuzz", fixture->image) < 0) return 0;
    entries = 0;
    walk(view, DELTA_ROOT, 0);
    change(view);
    view_tidy(view, INT64_MAX / 2, 0);
    view_close(view);
    return 0;
}
