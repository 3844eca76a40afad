#include "export.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "identity.h"
#include "io.h"
#include "owner.h"

/* What NFS roots need: an answer means that it is on the disk; no check that would turn a renamed file's handle stale;
 * root stays root. */
#define OPTIONS "rw,sync,no_subtree_check,no_root_squash"

struct writer {
    FILE *out;
    const char *mountpoint;
    uint8_t key[32];
    int lines;
};

/* exports(5): blanks and what else has a meaning as \ooo. */
static void write_path(FILE *out, const char *path)
{
    for (; *path; path++) {
        unsigned char c = (unsigned char)*path;

        if (c <= ' ' || c == '"' || c == '\\' || c == '#') fprintf(out, "\\%03o", c);
        else fputc(c, out);
    }
}

char *export_options(struct catalog *catalog, const struct catalog_node *node)
{
    uint8_t key[32];

    if (catalog_key(catalog, key) < 0) return NULL;
    return io_format(OPTIONS ",fsid=%u", identity_fsid(key, (uint32_t)node->number));
}

/* A node without an image has no root to export yet. */
static int write_node(const struct catalog_node *node, void *data)
{
    struct writer *w = data;

    if (!node->ip || !node->base) return 0;
    write_path(w->out, w->mountpoint);
    fprintf(w->out, "/system/%s/rootfs %s(" OPTIONS ",fsid=%u)\n", node->serial, node->ip,
            identity_fsid(w->key, (uint32_t)node->number));
    w->lines++;
    return 0;
}

static void write_network(struct writer *w, const char *network)
{
    write_path(w->out, w->mountpoint);
    fprintf(w->out, "/system %s(" OPTIONS ",fsid=%u)\n", network, identity_fsid(w->key, 0));
    w->lines++;
}

static int write_lines(struct writer *w, struct catalog *catalog, const char *network)
{
    _cleanup_free_ char *setting = NULL;
    int r = catalog_key(catalog, w->key);

    if (r == 0) r = catalog_nodes(catalog, write_node, w);
    if (r < 0 || w->lines) return r;
    if (!network) r = catalog_setting(catalog, "network", &setting);
    if (r < 0) return r;
    if (network || setting) write_network(w, network ? network : setting);
    return 0;
}

int export_text(struct catalog *catalog, const char *mountpoint, const char *network, char **ret_text, int *ret_lines)
{
    char *text = NULL;
    size_t size;
    struct writer w = {.out = open_memstream(&text, &size), .mountpoint = mountpoint};
    _cleanup_free_ char *owner = owner_line(mountpoint);
    int r;

    if (!w.out) return -ENOMEM;
    fprintf(w.out, "# Written by coppice from its catalog; see 'coppice exports --help'.\n%s", owner ? owner : "");
    r = write_lines(&w, catalog, network);
    if (fclose(w.out) != 0 && r == 0) r = -ENOMEM;
    if (r < 0) {
        free(text);
        return r;
    }
    *ret_text = text;
    *ret_lines = w.lines;
    return 0;
}
