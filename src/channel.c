#include "channel.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "crash.h"
#include "fuse_ops.h"
#include "handover.h"
#include "log.h"
#include "replay.h"

/* linux/fuse.h of Linux 6.9, the first one newer than what Debian 12 compiles with. */
#define NOTIFY_RESEND 7
#define HAS_RESEND (UINT64_C(1) << 39)
#define UNIQUE_RESEND (UINT64_C(1) << 63)

#define PAGE 4096

/* Wanted of the kernel beside what libfuse wants. */
#define ADDED_FLAGS (FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT)
/* Said by the kernel, looked at by libfuse, and in no answer. */
#define TOLD_FLAGS (FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_INIT_EXT)

static _Thread_local bool kills_ids;

bool channel_kills_ids(void)
{
    return kills_ids;
}

/* ---- what the kernel says ---- */

static uint64_t init_flags(const struct fuse_init_in *init)
{
    return init->flags | (init->flags & FUSE_INIT_EXT ? (uint64_t)init->flags2 << 32 : 0);
}

static void record_init(struct handover_page *page, const void *request, size_t size)
{
    const struct fuse_init_in *init = (const void *)((const struct fuse_in_header *)request + 1);

    if (size > sizeof(page->init) || size < sizeof(struct fuse_in_header) + sizeof(*init)) return;
    memcpy(page->init, request, size);
    page->can_resend = init_flags(init) & HAS_RESEND && !getenv("COPPICE_NO_RESEND"); /* which is for the tests */
}

/* The kernel's request of then, as if it had offered just what was agreed. */
static ssize_t replay_init(const struct handover_page *page, void *buffer, size_t size)
{
    struct fuse_init_in *init = (void *)((struct fuse_in_header *)buffer + 1);
    uint64_t flags = page->agreed | TOLD_FLAGS;

    if (page->init_size > size) return -1;
    memcpy(buffer, page->init, page->init_size);
    init->flags &= flags & ~(uint64_t)ADDED_FLAGS;
    init->flags2 &= flags >> 32;
    return page->init_size;
}

/* libfuse expects the header of before FUSE_SETXATTR_EXT. */
static ssize_t shorten_setxattr(struct fuse_in_header *header, struct fuse_setxattr_in *in, ssize_t size)
{
    const size_t added = sizeof(*in) - FUSE_COMPAT_SETXATTR_IN_SIZE;
    char *end = (char *)header + size;

    kills_ids = in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID;
    memmove((char *)in + FUSE_COMPAT_SETXATTR_IN_SIZE, in + 1, end - (char *)(in + 1));
    header->len -= added;
    return size - added;
}

static ssize_t take(struct channel *channel, struct fuse_in_header *header, ssize_t size)
{
    void *in = header + 1;

    kills_ids = false;
    replay_take(channel->handover, header->unique);
    if (header->opcode == FUSE_INIT) record_init(channel->handover->page, header, size);
    if (header->opcode == FUSE_WRITE)
        kills_ids = ((struct fuse_write_in *)in)->write_flags & FUSE_WRITE_KILL_SUIDGID;
    if (header->opcode == FUSE_SETATTR) kills_ids = ((struct fuse_setattr_in *)in)->valid & FATTR_KILL_SUIDGID;
    if (header->opcode == FUSE_SETXATTR && channel->handover->page->agreed & FUSE_SETXATTR_EXT)
        return shorten_setxattr(header, in, size);
    return size;
}

/* A daemon that is killed while the kernel copies a request into a page that is not there yet cannot have the page any more, and
 * the request fails with EIO (fs/fuse/dev.c, fuse_dev_do_read; mm/gup.c). So the pages are there before. */
static void touch_pages(volatile char *buffer, size_t size)
{
    static _Thread_local volatile char *last;

    if (last == buffer) return;
    for (size_t i = 0; i < size; i += PAGE) buffer[i] = 0;
    last = buffer;
}

/* The next daemon need not crash on it, too. */
static bool refuses(const struct channel *channel, int fd, const struct fuse_in_header *in)
{
    uint64_t unique = in->unique & ~UNIQUE_RESEND;
    struct fuse_out_header out = {.len = sizeof(out), .error = -EIO, .unique = in->unique};

    if (unique == in->unique || !crash_is_proven(channel->handover, unique)) return false;
    log_error("a request (opcode %u, for process %u of user %u) has crashed the daemon twice and is answered with an error",
              in->opcode, in->pid, in->uid);
    if (write(fd, &out, sizeof(out)) < 0) log_error("and could not be answered: %s", log_reason(errno));
    return true;
}

ssize_t channel_receive(struct channel *channel, int device, void *buffer, size_t size)
{
    ssize_t n;

    touch_pages(buffer, size);
    crash_watch_thread();
    do n = read(device, buffer, size);
    while (n >= (ssize_t)sizeof(struct fuse_in_header) && refuses(channel, device, buffer));
    /* EAGAIN, ENOENT: whoever asked was interrupted in between (fs/fuse/dev.c). */
    if (n < 0) return errno == EAGAIN || errno == ENOENT ? -EINTR : -errno;
    return n < (ssize_t)sizeof(struct fuse_in_header) ? -EIO : take(channel, buffer, n);
}

/* How libfuse reads the first request. */
static ssize_t channel_read(int fd, void *buffer, size_t size, void *data)
{
    struct channel *channel = &((struct fuse_ops *)data)->channel;
    ssize_t n;

    if (channel->replaying) return replay_init(channel->handover->page, buffer, size);
    n = channel_receive(channel, fd, buffer, size);
    if (n < 0) errno = -n;
    return n < 0 ? -1 : n;
}

/* ---- what the daemon says ---- */

static ssize_t size_of(const struct iovec *iov, int count)
{
    ssize_t size = 0;

    for (int i = 0; i < count; i++) size += iov[i].iov_len;
    return size;
}

/* libfuse's answer to FUSE_INIT, and what is added to it. */
static ssize_t agree(struct handover_page *page, int fd, struct iovec *iov, int count)
{
    const struct fuse_init_in *asked = (const void *)(page->init + sizeof(struct fuse_in_header));
    const struct fuse_in_header *header = (const void *)page->init;
    struct fuse_init_out answer;
    struct iovec changed[2];
    ssize_t n;

    if (count != 2 || iov[1].iov_len < offsetof(struct fuse_init_out, unused)) return writev(fd, iov, count);
    memcpy(&answer, iov[1].iov_base, iov[1].iov_len < sizeof(answer) ? iov[1].iov_len : sizeof(answer));
    answer.flags |= asked->flags & ADDED_FLAGS;
    changed[0] = iov[0];
    changed[1] = (struct iovec){.iov_base = &answer, .iov_len = iov[1].iov_len};
    page->agreed = answer.flags | (answer.flags & FUSE_INIT_EXT ? (uint64_t)answer.flags2 << 32 : 0);
    n = writev(fd, changed, 2);
    if (n > 0) page->init_size = header->len;
    return n;
}

static ssize_t channel_writev(int fd, struct iovec *iov, int count, void *data)
{
    struct channel *channel = &((struct fuse_ops *)data)->channel;
    const struct fuse_out_header *out = iov[0].iov_base;
    ssize_t n;

    if (channel->replaying) return size_of(iov, count);
    if (!channel->handover->page->init_size && out->unique) return agree(channel->handover->page, fd, iov, count);
    n = writev(fd, iov, count);
    if (out->unique) replay_answered();
    return n;
}

/* ---- the session ---- */

int channel_attach(struct fuse_session *session, int device)
{
    static const struct fuse_custom_io io = {.read = channel_read, .writev = channel_writev};
    int r = fuse_session_custom_io(session, &io, device);

    return r > 0 ? -EIO : r;
}

static int ask_for_resend(int device)
{
    struct fuse_out_header out = {.len = sizeof(out), .error = NOTIFY_RESEND};

    return write(device, &out, sizeof(out)) < 0 ? -errno : 0;
}

int channel_start(struct channel *channel, struct fuse_session *session, int device)
{
    const struct handover_page *page = channel->handover->page;
    struct fuse_buf buffer = {0};
    int n;

    channel->replaying = page->init_size > 0;
    n = fuse_session_receive_buf(session, &buffer);
    if (n > 0) fuse_session_process_buf(session, &buffer);
    free(buffer.mem);
    if (n <= 0 || !page->init_size) return n < 0 ? n : -EIO;
    if (!channel->replaying) return 0;
    channel->replaying = false;
    return page->can_resend ? ask_for_resend(device) : 0;
}

void channel_expire_name(void *session, uint64_t dir, const char *name)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 15)
    int r = fuse_lowlevel_notify_expire_entry(session, dir, name, strlen(name));
#else
    int r = fuse_lowlevel_notify_expire_entry(session, dir, name, strlen(name), FUSE_LL_EXPIRE_ONLY);
#endif

    if (r == -ENOSYS) fuse_lowlevel_notify_inval_entry(session, dir, name, strlen(name));
}
