/* harness: a private store, an image made by the test, a mount and two nodes; one for each test program.
 *
 * Everything lies in one directory under $TMPDIR (or /tmp). harness_stop() takes it down, and a watchdog process does
 * so when the test program dies first or outlives its time, so that no mount and no file stays behind.
 *
 * With COPPICE_TEST_ROOT=DIR nothing is mounted: the two roots are plain copies of the image tree in DIR, which shows
 * whether a test's expectations hold on the file system there. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define HARNESS_IMAGE "base"
#define HARNESS_NODES 2

struct harness_options {
    void (*extra)(
        const char *image);    /* adds to the image's tree before its times are set and it is imported; may be NULL */
    const char *mount_options; /* for mount -o; NULL: none */
};

/* Starts everything; a failure fails the test or fixture that calls. */
void harness_start(const struct harness_options *options);
void harness_stop(void);

/* The two as cmocka group fixtures, without options. */
int harness_setup(void **state);
int harness_teardown(void **state);

/* True with COPPICE_TEST_ROOT: there is no daemon, no store, no mount. */
bool harness_is_local(void);
/* Leaves the running test as skipped when there is no mount. */
void harness_needs_mount(void);

const char *harness_directory(void); /* the private directory, on the disk's own file system */
const char *harness_store(void);
const char *harness_mountpoint(void);
const char *harness_source(void); /* the tree that was imported, untouched since */
const char *harness_serial(int node);
const char *harness_root(int node);

/* A path below a node's root, below the mountpoint, below the private directory. The text lives for 63 further calls
 * of the thread. */
const char *harness_at(int node, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *harness_on_mount(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *harness_beside(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Unmounts, waits for the daemon's end, mounts again. Without a mount: drops the caches. */
void harness_mount(void);
void harness_umount(void);
void harness_remount(void);
/* SIGKILL for supervisor and daemon, and the dead mount detached; harness_mount() goes on. Without a mount: drops the caches. */
void harness_kill_daemon(void);
/* 0: none runs. */
pid_t harness_daemon_pid(void);
pid_t harness_supervisor_pid(void);

/* Writes back and forgets what the kernel caches: pages, names, inodes. */
void harness_drop_caches(void);

/* A process that runs watch_over(pidfd of this test): adopted by init and without the test's descriptors, so that whoever
 * kills the test's process tree or waits for its output to close does not meet it. */
void harness_start_watchdog(void (*watch_over)(int test));

/* Runs a program and waits at most 60 s: its exit status, 128 + signal when one ended it. What it wrote to standard
 * output and error comes in *ret_output when that is not NULL; caller frees. The list of arguments ends with NULL. */
int harness_run(char **ret_output, const char *program, ...) __attribute__((sentinel));
/* `coppice --store STORE …`. */
int harness_coppice(char **ret_output, const char *argument, ...) __attribute__((sentinel));
/* Runs statements by the sqlite3 shell on the catalog, as its owner would; exit status. */
int harness_sql(char **ret_output, const char *statements);

/* Bytes that a tree occupies on the disk. */
int64_t harness_disk_usage(const char *path);
/* Seconds since some start, monotonic. */
double harness_seconds(void);
/* How many times as long things may take as the product promises: more than once with sanitizers. */
int harness_slower(void);

/* A child that drops root for `uid` and `gid` (no further groups) and returns body's value, 0-255, as the exit status;
 * uid 0 keeps root. */
int harness_as(uid_t uid, gid_t gid, int (*body)(void *data), void *data);
