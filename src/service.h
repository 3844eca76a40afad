/* service: files that belong to other services on this machine, and telling those to read them again.
 *
 * nfsd and dnsmasq run under systemd, an init script or neither; what there is is used. Failures are logged here. */
#pragma once

#include <stdbool.h>

/* Replaces the file by one rename when its text differs, making missing directories on the way: 1 replaced, 0 the same,
 * or negative errno. Mode 0644: dnsmasq reads it as a user of its own. */
int service_write(const char *path, const char *text);

/* 1 removed, 0 not there, or negative errno. */
int service_remove(const char *path);

/* The whole file, NUL-terminated: 0 or negative errno. Caller frees. */
int service_read(const char *path, char **ret_text);

/* Runs a program from $PATH without a terminal, for at most 30 seconds: its exit status, 127 when there is none of that
 * name, or negative errno. *ret_output, when not NULL: what it wrote to standard output and error, up to 64 KiB; caller
 * frees. */
int service_run(char *const argv[], char **ret_output);

/* exportfs -ra: exports what the files say, and takes back the rest. */
int service_export(void);

/* dnsmasq reads its options only when it starts, and its hosts also on SIGHUP. Where none runs, nothing happens. */
enum service_change { SERVICE_HOSTS, SERVICE_OPTIONS };
int service_tell_dnsmasq(enum service_change change);

/* The pid of a running dnsmasq, from one of its usual pid files, or 0. */
int service_dnsmasq_pid(void);
