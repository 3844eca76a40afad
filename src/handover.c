#include "handover.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io.h"
#include "references.h"

#define MAGIC UINT64_C(0x656369707061686f)

static int map(struct handover *h)
{
    void *memory = mmap(NULL, sizeof(*h->page), PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, 0);

    if (memory == MAP_FAILED) return -errno;
    h->page = memory;
    return 0;
}

static int make(struct handover *h)
{
    int r;

    h->fd = memfd_create("coppice-handover", MFD_CLOEXEC);
    if (h->fd < 0 || ftruncate(h->fd, sizeof(*h->page)) < 0) return -errno;
    r = map(h);
    if (r < 0) return r;
    h->page->magic = MAGIC;
    h->page->version = HANDOVER_VERSION;
    return 0;
}

static int take_over(struct handover *h)
{
    int r = map(h);

    if (r < 0) return r;
    return h->page->magic == MAGIC && h->page->version == HANDOVER_VERSION ? 0 : -EPROTO;
}

int handover_open(struct handover **ret_handover, int fd)
{
    struct handover *h = calloc(1, sizeof(*h));
    int r;

    if (!h) return -ENOMEM;
    h->fd = fd;
    pthread_mutex_init(&h->lock, NULL);
    r = fd < 0 ? make(h) : take_over(h);
    if (r == 0) r = references_open(h);
    if (r < 0) {
        handover_close(h);
        return r;
    }
    *ret_handover = h;
    return 0;
}

void handover_close(struct handover *h)
{
    if (!h) return;
    references_close(h);
    if (h->page) munmap(h->page, sizeof(*h->page));
    if (h->fd >= 0) close(h->fd);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void handover_begin(struct handover *h)
{
    h->page->generation++;
}
