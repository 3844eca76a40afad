/* channel: the descriptor of /dev/fuse as libfuse sees it.
 *
 * It lets a daemon take over a mount: the kernel's FUSE_INIT and what was agreed are kept in the handover, and shown to the
 * libfuse of the next daemon as if the kernel had just said it. And it agrees on parts of the protocol of which
 * libfuse 3.14 knows nothing:
 * - FUSE_HANDLE_KILLPRIV_V2: the kernel says when to clear set-id bits, instead of asking for security.capability with every write;
 * - FUSE_SETXATTR_EXT: it says when an ACL is to clear the set-group-id bit. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The largest part of a file that a request or an answer holds, and room for the largest request (linux/fuse.h: headers and a WRITE). */
#define CHANNEL_TRANSFER (1u << 20)
#define CHANNEL_BUFFER (CHANNEL_TRANSFER + 4096)

struct fuse_session;
struct handover;

/* Part of the session's user data: see fuse_ops.h. */
struct channel {
    struct handover *handover;
    bool replaying; /* libfuse is answering a FUSE_INIT that was answered long ago */
};

/* Before the first request. `device` is an open /dev/fuse, mounted, or as soon as libfuse asks; the session owns it. */
int channel_attach(struct fuse_session *session, int device);

/* Agrees with the kernel on the protocol, or takes over what was agreed, and lets what was in flight come again. When it
 * returns 0, requests are answered by whoever runs the session. */
int channel_start(struct channel *channel, struct fuse_session *session, int device);

/* Waits for a request and reads it into `buffer`, of CHANNEL_BUFFER bytes: its size, or negative errno. -ENODEV: unmounted; -EINTR:
 * a signal. The calling thread works on it from then on. */
ssize_t channel_receive(struct channel *channel, int device, void *buffer, size_t size);

/* True when the set-user-id bit, and the set-group-id bit of a file that its group may execute, are to be cleared by the WRITE or
 * SETATTR that the calling thread works on; the set-group-id bit by its SETXATTR. */
bool channel_kills_ids(void);

/* The kernel asks anew for the name in the directory when it is used next. Before Linux 6.2 it lets go of it at once, with all that is cached
 * below, which takes its time. `session` as in tree_changes. */
void channel_expire_name(void *session, uint64_t dir, const char *name);
