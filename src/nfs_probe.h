/* nfs_probe: an NFS client, version 3, that asks a server what a diskless node asks it while it boots.
 *
 * The protocols are in schema/mount.x and schema/nfs.x; nothing of the kernel's client takes part. It speaks over TCP as
 * root (AUTH_SYS 0:0), from a port below 1024 where it may. Every call and every file has a time limit. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Programs for nfs_probe_port(). */
enum nfs_probe_program { NFS_PROBE_MOUNTD = 100005, NFS_PROBE_NFSD = 100003 };

/* Asks rpcbind for the port of a program, version 3, TCP. -ECONNREFUSED, -ETIMEDOUT, …: there is no rpcbind;
 * -ENOENT: it knows no such program. */
int nfs_probe_port(const char *server, enum nfs_probe_program program, uint16_t *ret_port);

struct nfs_probe;

/* MOUNT of `path`, as the kernel of a node does with its nfsroot=. -EACCES: not exported to this machine; -ENOENT, …:
 * what mountd says. -EPROTO: an answer that makes no sense. */
int nfs_probe_open(struct nfs_probe **ret_probe, const char *server, const char *path);
void nfs_probe_close(struct nfs_probe *probe);
static inline void nfs_probe_close_cleanup(struct nfs_probe **probe) { nfs_probe_close(*probe); }
#define _cleanup_probe_ __attribute__((cleanup(nfs_probe_close_cleanup)))

struct nfs_probe_attributes {
    uint32_t mode; /* permissions and file type, as in st_mode */
    uint32_t uid, gid;
    uint64_t size, fileid;
};

/* GETATTR of what was mounted. */
int nfs_probe_root(struct nfs_probe *probe, struct nfs_probe_attributes *ret_attributes);

/* LOOKUP of each part of a relative path, then READ of the whole file, at most `most` bytes. Caller frees. */
int nfs_probe_read(struct nfs_probe *probe, const char *path, size_t most, char **ret_data, size_t *ret_size);

/* CREATE, WRITE (FILE_SYNC) of a new file in a directory, GETATTR, REMOVE: *ret_uid is whose the server made it: not 0
 * where root is squashed. */
int nfs_probe_write(struct nfs_probe *probe, const char *directory, uint32_t *ret_uid);

/* EXPORT: for each export and each of its clients ("*" for an export to all). A negative return of `fn` ends it. */
typedef int (*nfs_probe_export_fn)(const char *path, const char *client, void *data);
int nfs_probe_exports(const char *server, nfs_probe_export_fn fn, void *data);
