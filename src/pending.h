/* pending: machines that asked to boot and have no row, out of dnsmasq's log. */
#pragma once

#include <stddef.h>

#include "catalog.h"

struct pending_machine {
    char mac[18];
    char serial[9]; /* its last eight digits; "": the board has not told */
    char ip[16];    /* that it had last; "": another server gave it */
    char when[32];  /* it asked last, as it stands in the log */
    char file[128]; /* that it asked for last, below the TFTP root; "": none */
};

struct pending {
    struct pending_machine *machine;
    size_t count, room;
};

/* `log`: the file; NULL: where dnsmasq writes (bootlog.h). -ENOENT: there is no log. pending_free() in any case. */
int pending_read(struct pending *pending, struct catalog *catalog, const char *log);
void pending_free(struct pending *pending);
#define _cleanup_pending_ __attribute__((cleanup(pending_free)))

/* NULL: it has not asked, or has a row. */
const struct pending_machine *pending_find(const struct pending *pending, const char *mac);
