/* template: the files of a node's root that are the node's own: rows of table template, with the node's values filled in
 * (schema/template.sql).
 *
 * A node gets them once, when its root is first looked into. What cannot be written, for want of a value, is noted in
 * table rendering and tried again; the rest of the node, and all other nodes, go on. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct catalog_node;
struct store;
struct template_node;
struct view;

/* One file as it will be. */
struct template_file {
    char *image; /* NULL: the template is of every image */
    char *path;  /* without a leading '/' */
    int mode;    /* -1: the image's */
    char *body;  /* NULL: the file is removed; a NUL follows its end */
    size_t size;
    char *error; /* why it cannot be: names node, template and path; NULL: it can */
};

struct template_files {
    struct template_file *items;
    size_t count;
};

/* Those of a node on an image, in path order, filled in. */
int template_files(struct template_files *ret_files, struct store *store, const struct catalog_node *node,
                   const char *image);
void template_files_free(struct template_files *files);
static inline void template_files_cleanup(struct template_files *files) { template_files_free(files); }
#define _cleanup_files_ __attribute__((cleanup(template_files_cleanup)))

/* Called for each name that was written: the directory's nodeid, the file's, which may be 0. */
typedef void (*template_changed_fn)(void *data, uint64_t dir_nodeid, const char *name, uint64_t nodeid);

/* Writes them into the node's root unless it has got them before; those that failed then are tried again. No kernel may
 * know the files yet, or `changed` tells it. `catalog_lock` guards the store's catalog and is taken for the moments in
 * which it is used. Returns the number of files that cannot be written (logged when that is news), or negative
 * errno when nobody can tell. */
int template_render_node(struct view *view, struct store *store, pthread_mutex_t *catalog_lock,
                         template_changed_fn changed, void *data);

/* The node gets its files anew when it is next looked into: after a reset to its image. */
int template_forget_node(struct store *store, uint32_t number);

/* Calls back for each template that could not be written, in node order; a non-zero return ends the walk and is returned.
 * `node` limits it to one; NULL: all. */
struct template_failure {
    const char *serial, *path, *error;
};
typedef int (*template_failure_fn)(const struct template_failure *failure, void *data);
int template_failures(struct store *store, const char *node, template_failure_fn fn, void *data);

/* The rows themselves. image NULL in `which`: of every image. */
struct template_row {
    const char *image, *path;
    int mode; /* digits as for chmod(1); -1: NULL */
    const char *body; /* NULL: the file is removed; for template_put(), a NUL follows its end */
    size_t size;
};
typedef int (*template_row_fn)(const struct template_row *row, void *data);
int template_rows(struct store *store, template_row_fn fn, void *data);
/* Adds or replaces. -EINVAL: see catalog_message(). */
int template_put(struct store *store, const struct template_row *row);
/* Image `to` gets those that image `from` has. */
int template_copy(struct store *store, const char *from, const char *to);
/* -ENOENT. */
int template_remove(struct store *store, const char *image, const char *path);
