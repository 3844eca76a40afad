#include "nfs_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <rpc/rpc.h>
#include <rpc/pmap_prot.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "mount_rpc.h"
#include "nfs_rpc.h"

#define SECONDS 4 /* for a connection, and for a call */
#define WHOLE_SECONDS 60 /* for a file */
#define READ_SIZE 32768u
#define LISTED_MAX 65536 /* exports and their clients: more is no answer */
#define PROBE_NAME ".coppice-doctor"
#define PROBE_TEXT "written by coppice doctor\n"

_Static_assert(NFS_PROBE_MOUNTD == MOUNT_PROGRAM && NFS_PROBE_NFSD == NFS_PROGRAM, "the protocols' numbers");

struct nfs_probe {
    CLIENT *client;
    nfs_handle root;
};

/* ---- connections and calls ---- */

/* A port below 1024 is what an export without `insecure` asks of its clients. */
static int connect_to(const char *server, uint16_t port)
{
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct pollfd connected = {.fd = fd, .events = POLLOUT};
    socklen_t size = sizeof(int);
    int error = 0;

    if (fd < 0) return -errno;
    if (inet_pton(AF_INET, server, &address.sin_addr) != 1) return -EINVAL;
    if (bindresvport(fd, NULL) < 0 && errno != EACCES && errno != EPERM) return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        if (errno != EINPROGRESS) return -errno;
        if (poll(&connected, 1, SECONDS * 1000) != 1) return -ETIMEDOUT;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) return -errno;
        if (error) return -error;
    }
    if (fcntl(fd, F_SETFL, 0) < 0) return -errno;
    return io_take_fd(fd);
}

static int open_client(const char *server, uint16_t port, uint32_t program, uint32_t version, CLIENT **ret_client)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = connect_to(server, port);
    CLIENT *client;

    if (fd < 0) return fd;
    inet_pton(AF_INET, server, &address.sin_addr);
    client = clnttcp_create(&address, program, version, &fd, 0, 0);
    if (!client) {
        close(fd);
        return -EPROTO;
    }
    clnt_control(client, CLSET_FD_CLOSE, NULL);
    auth_destroy(client->cl_auth);
    client->cl_auth = authunix_create("coppice", 0, 0, 0, NULL);
    *ret_client = client;
    return 0;
}

static void close_client(CLIENT *client)
{
    if (!client) return;
    if (client->cl_auth) auth_destroy(client->cl_auth);
    clnt_destroy(client);
}

static int rpc_errno(enum clnt_stat status)
{
    switch (status) {
    case RPC_SUCCESS: return 0;
    case RPC_TIMEDOUT: return -ETIMEDOUT;
    case RPC_AUTHERROR: return -EACCES;
    case RPC_CANTRECV:
    case RPC_CANTSEND: return -ECONNRESET;
    case RPC_PROGUNAVAIL:
    case RPC_PROGVERSMISMATCH:
    case RPC_PROCUNAVAIL: return -EPROTONOSUPPORT;
    default: return -EPROTO;
    }
}

/* libtirpc's limit is for each piece of an answer, and it blocks all signals: a server that sends byte by byte is cut off
 * by a thread. */
struct guard {
    int fd, done; /* done: an eventfd; the call is over */
    pthread_t thread;
    bool runs;
};

static void *cut_off(void *data)
{
    const struct guard *guard = data;
    struct pollfd done = {.fd = guard->done, .events = POLLIN};

    if (poll(&done, 1, (SECONDS + 1) * 1000) == 0) shutdown(guard->fd, SHUT_RDWR);
    return NULL;
}

static void begin_guard(struct guard *guard, CLIENT *client)
{
    clnt_control(client, CLGET_FD, (char *)&guard->fd);
    guard->done = eventfd(0, EFD_CLOEXEC);
    guard->runs = guard->done >= 0 && pthread_create(&guard->thread, NULL, cut_off, guard) == 0;
}

static void end_guard(struct guard *guard)
{
    if (guard->runs && eventfd_write(guard->done, 1) == 0) pthread_join(guard->thread, NULL);
    if (guard->done >= 0) close(guard->done);
}

static int call(CLIENT *client, u_int procedure, xdrproc_t encode, void *asked, xdrproc_t decode, void *answer)
{
    struct timeval limit = {.tv_sec = SECONDS};
    struct guard guard = {.fd = -1};
    enum clnt_stat status;

    begin_guard(&guard, client);
    status = clnt_call(client, procedure, encode, asked, decode, answer, limit);
    end_guard(&guard);
    return rpc_errno(status);
}

/* By way of the type that casts to any function, as xdr_void() has no arguments. */
#define ANY_XDR(function) ((xdrproc_t)(void (*)(void))(function))
#define CALL(client, procedure, encode, asked, decode, answer) \
    call(client, procedure, ANY_XDR(encode), asked, ANY_XDR(decode), answer)

int nfs_probe_port(const char *server, enum nfs_probe_program program, uint16_t *ret_port)
{
    struct pmap asked = {.pm_prog = program, .pm_vers = 3, .pm_prot = IPPROTO_TCP};
    u_short port = 0;
    CLIENT *client;
    int r = open_client(server, PMAPPORT, PMAPPROG, PMAPVERS, &client);

    if (r < 0) return r;
    r = CALL(client, PMAPPROC_GETPORT, xdr_pmap, &asked, xdr_u_short, &port);
    close_client(client);
    if (r == 0 && port == 0) r = -ENOENT;
    if (r == 0) *ret_port = port;
    return r;
}

/* What a server says of a request, as negative errno: the RFC's numbers up to 70 are errno's own but for one. */
static int nfs_errno(nfs_status status)
{
    if (status == NFS_OK) return 0;
    if (status == NFS_STALE || status == NFS_BADHANDLE) return -ESTALE;
    if (status == NFS_JUKEBOX) return -EAGAIN;
    if (status == NFS_NOTSUPP) return -EOPNOTSUPP;
    return status > 0 && status < 64 ? -(int)status : -EIO;
}

/* ---- MOUNT ---- */

static int open_mountd(const char *server, CLIENT **ret_client)
{
    uint16_t port;
    int r = nfs_probe_port(server, NFS_PROBE_MOUNTD, &port);

    return r < 0 ? r : open_client(server, port, MOUNT_PROGRAM, MOUNT_V3, ret_client);
}

/* XDR leaves NULL where there are no bytes. */
static int copy_handle(const char *bytes, u_int size, nfs_handle *to)
{
    to->data.data_val = malloc(size + 1);
    if (!to->data.data_val) return -ENOMEM;
    if (size > 0) memcpy(to->data.data_val, bytes, size);
    to->data.data_len = size;
    return 0;
}

static int take_handle(const mount_answer *answer, nfs_handle *ret_handle)
{
    const mount_handle *handle = &answer->mount_answer_u.found.handle;

    if (answer->status == MOUNT_PERM || answer->status == MOUNT_ACCES) return -EACCES;
    if (answer->status != MOUNT_OK) return answer->status > 0 && answer->status < 64 ? -(int)answer->status : -EIO;
    return copy_handle(handle->mount_handle_val, handle->mount_handle_len, ret_handle);
}

static int mount_by(CLIENT *client, const char *path, nfs_handle *ret_handle)
{
    mount_answer answer = {0};
    char *asked = (char *)path;
    int r = CALL(client, MOUNT_MNT, xdr_mount_path, &asked, xdr_mount_answer, &answer);

    if (r == 0) r = take_handle(&answer, ret_handle);
    clnt_freeres(client, (xdrproc_t)xdr_mount_answer, (caddr_t)&answer);
    /* mountd's list of who has mounted what is for show. */
    CALL(client, MOUNT_UMNT, xdr_mount_path, &asked, xdr_void, NULL);
    return r;
}

static int mount_path_of(const char *server, const char *path, nfs_handle *ret_handle)
{
    CLIENT *client;
    int r = open_mountd(server, &client);

    if (r < 0) return r;
    r = mount_by(client, path, ret_handle);
    close_client(client);
    return r;
}

struct listing {
    nfs_probe_export_fn fn;
    void *data;
    unsigned count;
    int r; /* of fn */
};

static void tell(struct listing *listing, const char *path, const char *client)
{
    if (listing->r >= 0) listing->r = listing->fn(path, client, listing->data);
}

static bool_t decode_groups(XDR *xdr, const char *path, struct listing *listing)
{
    bool_t follows, is_first = TRUE;

    for (; xdr_bool(xdr, &follows); is_first = FALSE) {
        char *name = NULL;
        bool_t decoded;

        if (!follows && is_first) tell(listing, path, "*");
        if (!follows) return TRUE;
        decoded = ++listing->count <= LISTED_MAX && xdr_mount_name(xdr, &name);
        if (decoded) tell(listing, path, name);
        free(name);
        if (!decoded) return FALSE;
    }
    return FALSE;
}

/* rpcgen's decoder of a list calls itself for each element: a long one ends the stack. */
static bool_t decode_exports(XDR *xdr, struct listing *listing)
{
    bool_t follows;

    while (xdr_bool(xdr, &follows)) {
        char *path = NULL;
        bool_t decoded;

        if (!follows) return TRUE;
        decoded = ++listing->count <= LISTED_MAX && xdr_mount_path(xdr, &path) && decode_groups(xdr, path, listing);
        free(path);
        if (!decoded) return FALSE;
    }
    return FALSE;
}

static int list_exports(CLIENT *client, nfs_probe_export_fn fn, void *data)
{
    struct listing listing = {.fn = fn, .data = data};
    int r = CALL(client, MOUNT_EXPORT, xdr_void, NULL, decode_exports, &listing);

    return listing.r < 0 ? listing.r : r;
}

int nfs_probe_exports(const char *server, nfs_probe_export_fn fn, void *data)
{
    CLIENT *client;
    int r = open_mountd(server, &client);

    if (r < 0) return r;
    r = list_exports(client, fn, data);
    close_client(client);
    return r;
}

int nfs_probe_open(struct nfs_probe **ret_probe, const char *server, const char *path)
{
    struct nfs_probe *probe = calloc(1, sizeof(*probe));
    uint16_t port;
    int r = probe ? mount_path_of(server, path, &probe->root) : -ENOMEM;

    if (r == 0) r = nfs_probe_port(server, NFS_PROBE_NFSD, &port);
    if (r == 0) r = open_client(server, port, NFS_PROGRAM, NFS_V3, &probe->client);
    if (r < 0) {
        nfs_probe_close(probe);
        return r;
    }
    *ret_probe = probe;
    return 0;
}

void nfs_probe_close(struct nfs_probe *probe)
{
    if (!probe) return;
    close_client(probe->client);
    free(probe->root.data.data_val);
    free(probe);
}

/* ---- NFS ---- */

static int get_attributes(CLIENT *client, const nfs_handle *handle, nfs_attributes *ret_attributes)
{
    nfs_getattr_asked asked = {.object = *handle};
    nfs_getattr_answer answer = {0};
    int r = CALL(client, NFS_GETATTR, xdr_nfs_getattr_asked, &asked, xdr_nfs_getattr_answer, &answer);

    if (r == 0) r = nfs_errno(answer.status);
    if (r == 0) *ret_attributes = answer.nfs_getattr_answer_u.attributes;
    return r;
}

static mode_t type_bits(nfs_type type)
{
    static const mode_t bits[] = {[NFS_REG] = S_IFREG, [NFS_DIR] = S_IFDIR, [NFS_BLK] = S_IFBLK, [NFS_CHR] = S_IFCHR,
                                  [NFS_LNK] = S_IFLNK, [NFS_SOCK] = S_IFSOCK, [NFS_FIFO] = S_IFIFO};

    return type >= NFS_REG && type <= NFS_FIFO ? bits[type] : 0;
}

int nfs_probe_root(struct nfs_probe *probe, struct nfs_probe_attributes *ret_attributes)
{
    nfs_attributes a;
    int r = get_attributes(probe->client, &probe->root, &a);

    if (r == 0)
        *ret_attributes = (struct nfs_probe_attributes){.mode = (a.mode & 07777) | type_bits(a.type),
                                                        .uid = a.uid,
                                                        .gid = a.gid,
                                                        .size = a.size,
                                                        .fileid = a.fileid};
    return r;
}

/* `handle` is replaced by that of a name in it. */
static int descend(CLIENT *client, nfs_handle *handle, char *name)
{
    nfs_place asked = {.dir = *handle, .name = name};
    nfs_lookup_answer answer = {0};
    nfs_handle found = {0};
    int r = CALL(client, NFS_LOOKUP, xdr_nfs_place, &asked, xdr_nfs_lookup_answer, &answer);

    if (r == 0) r = nfs_errno(answer.status);
    if (r == 0) r = copy_handle(answer.nfs_lookup_answer_u.found.object.data.data_val, answer.nfs_lookup_answer_u.found.object.data.data_len, &found);
    clnt_freeres(client, (xdrproc_t)xdr_nfs_lookup_answer, (caddr_t)&answer);
    if (r < 0) return r;
    free(handle->data.data_val);
    *handle = found;
    return 0;
}

static int find_path(struct nfs_probe *probe, const char *path, nfs_handle *ret_handle)
{
    _cleanup_free_ char *words = io_format("%s", path);
    char *rest = words;
    int r = words ? copy_handle(probe->root.data.data_val, probe->root.data.data_len, ret_handle) : -ENOMEM;

    for (char *word; r == 0 && (word = strsep(&rest, "/"));)
        if (*word) r = descend(probe->client, ret_handle, word);
    return r;
}

/* One READ appended to the data; 1: there is more. */
static int read_piece(CLIENT *client, const nfs_handle *file, FILE *data, size_t most)
{
    uint64_t offset = (uint64_t)ftello(data);
    nfs_read_asked asked = {.file = *file, .offset = offset, .count = READ_SIZE};
    nfs_read_answer answer = {0};
    const nfs_read_found *found = &answer.nfs_read_answer_u.found;
    int r;

    if (offset >= most) return -EFBIG;
    r = CALL(client, NFS_READ, xdr_nfs_read_asked, &asked, xdr_nfs_read_answer, &answer);
    if (r == 0) r = nfs_errno(answer.status);
    if (r == 0) {
        if (found->data.data_len > 0) fwrite(found->data.data_val, 1, found->data.data_len, data);
        r = found->eof ? 0 : found->data.data_len > 0 ? 1 : -EPROTO;
    }
    clnt_freeres(client, (xdrproc_t)xdr_nfs_read_answer, (caddr_t)&answer);
    return r;
}

int nfs_probe_read(struct nfs_probe *probe, const char *path, size_t most, char **ret_data, size_t *ret_size)
{
    nfs_handle file = {0};
    char *text = NULL;
    FILE *data = open_memstream(&text, ret_size);
    time_t end = time(NULL) + WHOLE_SECONDS;
    int r = data ? find_path(probe, path, &file) : -ENOMEM;

    if (r == 0) {
        do r = time(NULL) < end ? read_piece(probe->client, &file, data, most) : -ETIMEDOUT;
        while (r == 1);
    }
    free(file.data.data_val);
    if (data && fclose(data) != 0 && r == 0) r = -ENOMEM;
    if (r < 0) free(text);
    else *ret_data = text;
    return r;
}

static int create(CLIENT *client, const nfs_handle *dir, nfs_handle *ret_file)
{
    nfs_create_asked asked = {.where = {.dir = *dir, .name = PROBE_NAME}, .how = {.mode = NFS_UNCHECKED}};
    nfs_create_answer answer = {0};
    const nfs_maybe_handle *object = &answer.nfs_create_answer_u.done.object;
    int r;

    asked.how.nfs_create_how_u.wishes.mode = (nfs_set_uint32){.set = true, .nfs_set_uint32_u = {.value = 0600}};
    r = CALL(client, NFS_CREATE, xdr_nfs_create_asked, &asked, xdr_nfs_create_answer, &answer);
    if (r == 0) r = nfs_errno(answer.status);
    if (r == 0 && !object->follows) r = -EPROTO;
    if (r == 0) r = copy_handle(object->nfs_maybe_handle_u.handle.data.data_val, object->nfs_maybe_handle_u.handle.data.data_len, ret_file);
    clnt_freeres(client, (xdrproc_t)xdr_nfs_create_answer, (caddr_t)&answer);
    return r;
}

static int write_text(CLIENT *client, const nfs_handle *file)
{
    nfs_write_asked asked = {.file = *file,
                             .count = strlen(PROBE_TEXT),
                             .stable = NFS_FILE_SYNC,
                             .data = {.data_len = strlen(PROBE_TEXT), .data_val = PROBE_TEXT}};
    nfs_write_answer answer = {0};
    int r = CALL(client, NFS_WRITE, xdr_nfs_write_asked, &asked, xdr_nfs_write_answer, &answer);

    if (r == 0) r = nfs_errno(answer.status);
    if (r == 0 && answer.nfs_write_answer_u.done.count != strlen(PROBE_TEXT)) r = -EIO;
    clnt_freeres(client, (xdrproc_t)xdr_nfs_write_answer, (caddr_t)&answer);
    return r;
}

static int remove_file(CLIENT *client, const nfs_handle *dir)
{
    nfs_remove_asked asked = {.object = {.dir = *dir, .name = PROBE_NAME}};
    nfs_remove_answer answer = {0};
    int r = CALL(client, NFS_REMOVE, xdr_nfs_remove_asked, &asked, xdr_nfs_remove_answer, &answer);

    return r < 0 ? r : nfs_errno(answer.status);
}

int nfs_probe_write(struct nfs_probe *probe, const char *directory, uint32_t *ret_uid)
{
    nfs_handle dir = {0}, file = {0};
    nfs_attributes attributes;
    int removed, r = find_path(probe, directory, &dir);

    if (r == 0) r = create(probe->client, &dir, &file);
    if (r == 0) {
        r = write_text(probe->client, &file);
        if (r == 0) r = get_attributes(probe->client, &file, &attributes);
        removed = remove_file(probe->client, &dir);
        if (r == 0) r = removed;
    }
    if (r == 0) *ret_uid = attributes.uid;
    free(file.data.data_val);
    free(dir.data.data_val);
    return r;
}
