/* doctor: would this node boot, and if not, which step is wrong?
 *
 * A table of steps in the order in which a boot takes them; each says ok, wrong with the one command that mends it, or
 * that it cannot be told. doctor.c has the table and what concerns the store, doctor_boot.c the node's own files,
 * doctor_network.c what configures its network, doctor_service.c dnsmasq, doctor_nfs.c the NFS server, doctor_watch.c looks on
 * while a board boots. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "store.h"

struct doctor_options {
    struct store *store;
    const char *program; /* how the user calls coppice on this store */
    const char *serial;  /* NULL: every node */
    const char *model;   /* one of doctor_models(); NULL: whichever the boot files are for */
};

/* Prints the steps. *ret_wrong: how many are wrong. 0 or negative errno, logged; -ENOENT: no such node. */
int doctor_run(const struct doctor_options *options, int *ret_wrong);

/* "pi3, pi4, pi5" */
const char *doctor_models(void);
bool doctor_is_model(const char *name);

/* Follows dnsmasq's log and the NFS server for so many seconds (0: until SIGINT), tells each step that a board takes, and
 * at the end how far each came. `log` as for bootlog_open(). */
int doctor_watch(const struct doctor_options *options, const char *log, int seconds);

/* ---- for the steps ---- */

enum doctor_verdict { DOCTOR_OK, DOCTOR_WRONG, DOCTOR_UNKNOWN };

struct doctor {
    const struct doctor_options *options;
    const char *step; /* under way */
    int wrong;

    char *mountpoint; /* NULL: not mounted */
    char *server;     /* as the nodes see it; NULL: not set */
    char *network;    /* NULL: not set */
    bool no_rpcbind;  /* it does not answer */

    /* Of the node under way. */
    const struct catalog_node *node;
    char *path;   /* its root below the mountpoint; NULL: not mounted */
    char *boot;   /* its boot directory, relative to its root; NULL: it has no image */
    int root;     /* its root's descriptor; -1: cannot be opened */
};

/* One line for the step under way; `mend` is a command, or NULL. */
void doctor_say(struct doctor *doctor, enum doctor_verdict verdict, const char *mend, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The whole file below the node's root, where links lead nowhere else. NUL-terminated; caller frees. */
int doctor_read(const struct doctor *doctor, const char *path, char **ret_text, size_t *ret_size);

/* The address to speak to the services by. */
const char *doctor_server(const struct doctor *doctor);

/* Does that errno say that nobody answers? */
bool doctor_is_unreachable(int r);

/* The first of the node's boot files that a board asks for by TFTP and that is there: "bootcode.bin" or "start4.elf".
 * NULL: neither. */
const char *doctor_first_file(const struct doctor *doctor);

void doctor_boot_files(struct doctor *doctor);
void doctor_cmdline(struct doctor *doctor);
void doctor_fstab(struct doctor *doctor);

void doctor_interfaces(struct doctor *doctor);

void doctor_dnsmasq(struct doctor *doctor);
void doctor_listening(struct doctor *doctor);
void doctor_link(struct doctor *doctor);
void doctor_tftp(struct doctor *doctor);
void doctor_exports(struct doctor *doctor);

void doctor_rpcbind(struct doctor *doctor);
void doctor_mountd(struct doctor *doctor);
void doctor_nfsd(struct doctor *doctor);
void doctor_nfs_root(struct doctor *doctor);
