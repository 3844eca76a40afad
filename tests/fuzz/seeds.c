/* seeds DIRECTORY: index.db and delta.db of view_fixture's image and a node with changes of every kind, for the corpus. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../view_fixture.h"
#include "content.h"
#include "fuzz.h"
#include "xattr.h"

static uint64_t make(struct view *v, uint64_t dir, const char *name, mode_t mode)
{
    uint64_t ino;

    fuzz_must(names_make(v, &view_fixture_caller, dir, name, mode, 0, &ino) == 0);
    return ino;
}

static void write_bytes(struct view *v, uint64_t ino, size_t size, uint64_t offset)
{
    static char bytes[65536];

    memset(bytes, 'x', sizeof(bytes));
    fuzz_must(content_write(v, ino, bytes, size, offset) == 0);
}

static void change(struct view *v)
{
    uint64_t dir = make(v, DELTA_ROOT, "new", S_IFDIR | 0755), ino = make(v, dir, "small", S_IFREG | 0644);

    write_bytes(v, ino, 500, 0);
    fuzz_must(xattr_set(v, ino, "user.color", "blue", 4, 0) == 0);
    ino = make(v, dir, "large", S_IFREG | 0600);
    write_bytes(v, ino, 50000, 100000);
    fuzz_must(names_link(v, ino, DELTA_ROOT, "second") == 0);
    fuzz_must(names_symlink(v, &view_fixture_caller, dir, "symlink", "../new/small", &ino) == 0);
    make(v, dir, "pipe", S_IFIFO | 0600);
    write_bytes(v, view_fixture_find(v, "sizes/300000"), 10, 70000);
    write_bytes(v, view_fixture_find(v, "sizes/16384"), 10, 100);
    fuzz_must(names_unlink(v, view_fixture_find(v, "sizes"), "4096") == 0);
    fuzz_must(names_rename(v, &view_fixture_caller, DELTA_ROOT, "tree", DELTA_ROOT, "moved", 0) == 0);
    fuzz_must(content_truncate(v, view_fixture_find(v, "links/a"), 100, NULL) == 0);
}

void fuzz_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: not %s\n", file, line, what);
    abort();
}

int main(int argc, char **argv)
{
    char command[8192];
    struct view_fixture *f;
    void *state;

    if (argc != 2) return 2;
    fuzz_must(view_fixture_setup(&state) == 0);
    f = state;
    change(view_fixture_open(f, "seed"));
    view_fixture_close(f);
    snprintf(command, sizeof(command), "cp '%s' '%s/delta.db' && cp '%s'-wal '%s/delta.db-wal' && cp '%s' '%s/index.db'",
             view_fixture_path(f, "delta.db"), argv[1], view_fixture_path(f, "delta.db"), argv[1],
             scratch_path(&f->scratch, "images/base/index.db"), argv[1]);
    fuzz_must(system(command) == 0);
    return view_fixture_teardown(&state) < 0;
}
