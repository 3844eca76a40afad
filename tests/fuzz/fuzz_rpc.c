/* fuzz_rpc: what portmapper, mountd and nfsd answer. The first byte says what was asked, the rest is the answers, one
 * after the other. */
#include <pthread.h>

/* Nothing waits here, and a thread for each call would be most of the time. */
#define pthread_create(thread, attributes, function, data) ((void)(function), 1)
#include "../../src/nfs_probe.c"

#include "fuzz.h"

static XDR answers;

static enum clnt_stat answer(CLIENT *client, rpcproc_t procedure, xdrproc_t encode, void *asked, xdrproc_t decode,
                             void *result, struct timeval limit)
{
    (void)client, (void)procedure, (void)encode, (void)asked, (void)limit;
    return decode(&answers, result) ? RPC_SUCCESS : RPC_CANTDECODERES;
}

static bool_t free_result(CLIENT *client, xdrproc_t decode, void *result)
{
    (void)client;
    xdr_free(decode, result);
    return TRUE;
}

static bool_t control(CLIENT *client, u_int request, void *info)
{
    (void)client, (void)request, (void)info;
    return FALSE;
}

static int take_export(const char *path, const char *client, void *data)
{
    *(size_t *)data += strlen(path) + strlen(client);
    return 0;
}

static void read_file(CLIENT *client)
{
    struct nfs_probe probe = {.client = client};
    char *data;
    size_t size;

    probe.root.data.data_val = strdup("");
    if (nfs_probe_read(&probe, "etc/hostname", 65536, &data, &size) == 0) free(data);
    free(probe.root.data.data_val);
}

static void write_file(CLIENT *client)
{
    struct nfs_probe probe = {.client = client};
    uint32_t uid;

    probe.root.data.data_val = strdup("");
    nfs_probe_write(&probe, "etc", &uid);
    free(probe.root.data.data_val);
}

static void mount_root(CLIENT *client)
{
    nfs_handle handle = {0};

    if (mount_by(client, "/srv", &handle) == 0) free(handle.data.data_val);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct clnt_ops ops = {.cl_call = answer, .cl_freeres = free_result, .cl_control = control};
    CLIENT client = {.cl_ops = &ops};
    struct nfs_probe_attributes attributes;
    struct nfs_probe probe = {.client = &client};
    size_t sum = 0;
    char *copy;

    if (size < 1) return 0;
    copy = malloc(size); /* aligned, as XDR asks */
    memcpy(copy, data + 1, size - 1);
    xdrmem_create(&answers, copy, (u_int)size - 1, XDR_DECODE);
    switch (data[0] % 5) {
    case 0: mount_root(&client); break;
    case 1: list_exports(&client, take_export, &sum); break;
    case 2: nfs_probe_root(&probe, &attributes); break;
    case 3: read_file(&client); break;
    default: write_file(&client);
    }
    free(copy);
    return 0;
}
