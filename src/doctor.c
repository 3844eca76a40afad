#include "doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "log.h"
#include "rootdir.h"
#include "template.h"

#define FILE_MOST (64u << 20)

void doctor_say(struct doctor *d, enum doctor_verdict verdict, const char *mend, const char *format, ...)
{
    static const char *const words[] = {[DOCTOR_OK] = "ok", [DOCTOR_WRONG] = "wrong", [DOCTOR_UNKNOWN] = "?"};
    va_list arguments;

    printf("  %-5s  %-11s  ", words[verdict], d->step);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    if (mend && verdict != DOCTOR_OK) printf("                      mend: %s\n", mend);
    if (verdict == DOCTOR_WRONG) d->wrong++;
}

int doctor_read(const struct doctor *d, const char *path, char **ret_text, size_t *ret_size)
{
    return d->root < 0 ? -ENOENT : rootdir_read(d->root, path, FILE_MOST, ret_text, ret_size);
}

const char *doctor_server(const struct doctor *d)
{
    return d->server ? d->server : "127.0.0.1";
}

bool doctor_is_unreachable(int r)
{
    return r == -ECONNREFUSED || r == -ETIMEDOUT || r == -ENETUNREACH || r == -EHOSTUNREACH;
}

/* ---- the store's steps ---- */

static void check_mount(struct doctor *d)
{
    _cleanup_free_ char *mend = io_format("%s mount -o apply /mnt/cluster", d->options->program);
    struct store_daemon daemon = {0};
    struct stat st;
    int r = store_running(d->options->store, &daemon);

    if (r != 1 || !daemon.mountpoint[0]) {
        doctor_say(d, DOCTOR_WRONG, mend, "%s is not mounted", d->options->store->path);
        return;
    }
    if (stat(daemon.mountpoint, &st) < 0) {
        doctor_say(d, DOCTOR_WRONG, mend, "%s: %s", daemon.mountpoint, log_reason(errno));
        return;
    }
    d->mountpoint = io_format("%s", daemon.mountpoint);
    doctor_say(d, DOCTOR_OK, NULL, "%s, process %d, %s", daemon.mountpoint, (int)daemon.pid, daemon.options);
}

static void check_settings(struct doctor *d)
{
    _cleanup_free_ char *mend = io_format("sqlite3 %s/catalog.db \"INSERT OR REPLACE INTO setting VALUES('server', '…')\"",
                                          d->options->store->path);

    catalog_setting(d->options->store->catalog, "server", &d->server);
    catalog_setting(d->options->store->catalog, "network", &d->network);
    if (d->server) doctor_say(d, DOCTOR_OK, NULL, "%s, network %s", d->server, d->network ? d->network : "not set");
    else doctor_say(d, DOCTOR_UNKNOWN, mend, "this machine's address as the nodes see it is not set");
}

static void check_image(struct doctor *d)
{
    _cleanup_free_ char *mend = io_format("%s image import NAME SOURCE", d->options->program);
    _cleanup_free_ char *fsck = io_format("%s fsck", d->options->program);

    if (!d->node->base) doctor_say(d, DOCTOR_WRONG, mend, "there is no image");
    else if (!d->path) doctor_say(d, DOCTOR_UNKNOWN, NULL, "%s; not mounted", d->node->base);
    else if (d->root < 0) doctor_say(d, DOCTOR_WRONG, fsck, "%s cannot be opened: %s", d->path, log_reason(d->root));
    else doctor_say(d, DOCTOR_OK, NULL, "%s, boot files in %s", d->node->base, d->boot);
}

static int say_failure(const struct template_failure *failure, void *data)
{
    struct doctor *d = data;
    _cleanup_free_ char *mend = io_format("%s template show %s", d->options->program, failure->path);

    doctor_say(d, DOCTOR_WRONG, mend, "%s", failure->error);
    return 1;
}

/* Files of its own that could not be written: with the first, as the rest mostly follow from one missing value. */
static void check_templates(struct doctor *d)
{
    int r = template_failures(d->options->store, d->node->serial, say_failure, d);

    if (r == 0) doctor_say(d, DOCTOR_OK, NULL, "the node's own files are written");
    else if (r < 0) doctor_say(d, DOCTOR_UNKNOWN, NULL, "%s", log_reason(r));
}

/* ---- the table ---- */

struct step {
    const char *name;
    void (*run)(struct doctor *doctor);
    bool needs_root; /* the node's; without it the step cannot be told */
};

/* Of the machine: once. */
static const struct step machine_steps[] = {
    {"mount", check_mount, false},       {"server", check_settings, false},   {"dnsmasq", doctor_dnsmasq, false},
    {"listening", doctor_listening, false}, {"exports", doctor_exports, false}, {"rpcbind", doctor_rpcbind, false},
    {"mountd", doctor_mountd, false},    {"nfsd", doctor_nfsd, false},
};

/* Of each node. */
static const struct step node_steps[] = {
    {"image", check_image, false},           {"templates", check_templates, true},
    {"boot files", doctor_boot_files, true},   {"cmdline.txt", doctor_cmdline, true},
    {"fstab", doctor_fstab, true},           {"interfaces", doctor_interfaces, true},
    {"tftpboot", doctor_link, true},         {"tftp", doctor_tftp, true},
    {"nfs", doctor_nfs_root, true},
};

static void run_steps(struct doctor *d, const struct step *steps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        d->step = steps[i].name;
        if (!steps[i].needs_root || d->root >= 0) steps[i].run(d);
        else doctor_say(d, DOCTOR_UNKNOWN, NULL, "the node's root cannot be looked into");
        fflush(stdout);
    }
}

static int open_root(struct doctor *d)
{
    struct catalog_image image = {0};
    int fd;

    if (!d->node->base || catalog_image(d->options->store->catalog, d->node->base, &image) < 0) return -ENOENT;
    d->boot = io_format("%s", image.boot);
    catalog_image_free(&image);
    if (!d->mountpoint || !d->boot) return -ENOTCONN;
    d->path = io_format("%s/system/%s/rootfs", d->mountpoint, d->node->serial);
    fd = d->path ? open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    return fd < 0 ? -errno : fd;
}

static int look_at_node(const struct catalog_node *node, void *data)
{
    struct doctor *d = data;

    printf("node %s\n", node->serial);
    d->node = node;
    d->path = d->boot = NULL;
    d->root = open_root(d);
    run_steps(d, node_steps, sizeof(node_steps) / sizeof(*node_steps));
    if (d->root >= 0) close(d->root);
    free(d->path);
    free(d->boot);
    return 0;
}

static int look_at_nodes(struct doctor *d)
{
    struct catalog *catalog = d->options->store->catalog;
    struct catalog_node node = {0};
    int r;

    if (!d->options->serial) return catalog_nodes(catalog, look_at_node, d);
    r = catalog_node(catalog, d->options->serial, &node);
    if (r == 0) r = look_at_node(&node, d);
    catalog_node_free(&node);
    return r;
}

int doctor_run(const struct doctor_options *options, int *ret_wrong)
{
    struct doctor d = {.options = options, .root = -1};
    struct catalog_node node = {0};
    int r = options->serial ? catalog_node(options->store->catalog, options->serial, &node) : 0;

    catalog_node_free(&node);
    if (r == 0) {
        printf("this machine\n");
        run_steps(&d, machine_steps, sizeof(machine_steps) / sizeof(*machine_steps));
        r = look_at_nodes(&d);
    }
    *ret_wrong = d.wrong;
    free(d.mountpoint);
    free(d.server);
    free(d.network);
    if (r < 0) log_error("%s%s: %s", options->serial ? "node " : "nodes", options->serial ? options->serial : "",
                         r == -ENOENT ? "no such node; 'coppice node list' shows them" : log_reason(r));
    return r;
}
