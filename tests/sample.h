/* sample: a source of images with one of everything, a store, and imports into it, for the tests of import. */
#pragma once

#include <archive_entry.h>

#include "scratch.h"
#include "store.h"

extern struct store *sample_store; /* each test's own */
extern char sample_logged[8192];   /* what the last call said on standard error */

/* cmocka's: the source is made once for the group, the store for each test. */
int sample_setup(void **state);
int sample_setup_store(void **state);
int sample_teardown(void **state);
#define SAMPLE_TEST(test) cmocka_unit_test_setup(test, sample_setup_store)

/* A shell command, which succeeds. */
void sample_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* import_image() or import_remove(), with what they say in sample_logged; the first alone; the first, which is to succeed; the other. */
int sample_call(void **state, bool is_removal, const char *name, const char *source);
int sample_import(void **state, const char *name, const char *source);
void sample_import_good(void **state, const char *name, const char *source);
void sample_remove(void **state, const char *name);

/* images/ holds these, separated by blanks, and nothing else. */
void sample_assert_images(const char *expected);
bool sample_has_row(const char *name);
/* The import fails with one line that holds `reason`, and leaves nothing. */
void sample_assert_refused(void **state, const char *source, const char *reason);
/* The image is as the source: all that rsync carries with these options; all that stat shows; the sparse file; the index opens. */
void sample_assert_same(void **state, const char *image, const char *rsync_options);
void sample_assert_same_stat(void **state, const char *image);
void sample_assert_sparse(const char *image);
void sample_assert_opens(const char *name);

/* The source as a tar, made with these options; the options for one that holds all of it, with ACLs as such and not a second time as attributes. */
const char *sample_tar(void **state, const char *name, const char *options);
#define SAMPLE_PAX                                                                                 \
    "--format=posix --acls --xattrs --xattrs-include='user.*' --xattrs-include='trusted.*'" \
    " --xattrs-include='security.*'"

/* A tar of these members. */
struct sample_member {
    int type; /* AE_IFREG …; 0 ends the list */
    const char *path;
    const char *link; /* a symlink's target; with AE_IFREG a hard link's */
    const char *contents;
};
const char *sample_archive(void **state, const struct sample_member *members);
#define SAMPLE_MEMBERS(...) ((const struct sample_member[]){__VA_ARGS__, {0}})
