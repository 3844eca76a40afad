/* proposal_text: the files of a root that must read otherwise on a node whose root comes over NFS: text in, template out.
 *
 * Each takes the whole file, as template_escape() left it, and returns the body of a template, which may be the same
 * text: then nothing in it is in the way. NULL: no memory. Caller frees. */
#pragma once

#include <stdbool.h>

/* The kernel's command line; a script of the first boot (systemd.run=) stays last. `in_kernel`: the kernel itself mounts the root (CONFIG_ROOT_NFS, as the Raspberry Pi's own);
 * otherwise it is the initramfs's work, whose nfsmount hangs on "proto=tcp". */
char *proposal_cmdline(const char *text, bool in_kernel);

/* pxelinux.cfg/default: each APPEND line, which is the kernel's command line. */
char *proposal_pxelinux(const char *text, bool in_kernel);

/* Raspberry Pi's config.txt where the kernel mounts the root: without an initramfs, which would do so instead. */
char *proposal_config(const char *text);

/* Without the entries for /, /boot and /boot/firmware; the rest byte for byte. */
char *proposal_fstab(const char *text);

/* ifupdown's interfaces(5): every line about eth0 is commented out. */
char *proposal_interfaces(const char *text);

/* dhcpcd.conf: hands off eth0. */
char *proposal_dhcpcd(const char *text);

/* The host's own line, 127.0.1.1. */
char *proposal_hosts(const char *text);

/* dietpi.txt, which its first boot reads: no swap file, the node's host name, hands off eth0. */
char *proposal_dietpi(const char *text);

/* cloud-init's user-data, as Raspberry Pi Imager writes it: the node's host name. */
char *proposal_user_data(const char *text);
