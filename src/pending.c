#include "pending.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bootlog.h"

struct reader {
    struct pending *pending;
    char xid[16];     /* of the exchange under way that a boot ROM began */
    char xid_mac[18]; /* who speaks in it; "": nobody yet */
};

static void set(char *to, size_t size, const char *text)
{
    size_t length = strnlen(text, size - 1);

    memcpy(to, text, length);
    to[length] = '\0';
}

static struct pending_machine *find(struct pending *p, const char *mac)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->machine[i].mac, mac) == 0) return &p->machine[i];
    return NULL;
}

/* The machine that has that address now: one that had it before has another by now. */
static struct pending_machine *find_ip(struct pending *p, const char *ip)
{
    for (size_t i = p->count; *ip && i-- > 0;)
        if (strcmp(p->machine[i].ip, ip) == 0) return &p->machine[i];
    return NULL;
}

static struct pending_machine *find_or_add(struct pending *p, const char *mac)
{
    struct pending_machine *found = find(p, mac);

    if (found) return found;
    if (p->count == p->room) {
        size_t room = p->room ? p->room * 2 : 16;
        struct pending_machine *machine = reallocarray(p->machine, room, sizeof(*machine));

        if (!machine) return NULL;
        p->machine = machine;
        p->room = room;
    }
    found = &p->machine[p->count++];
    *found = (struct pending_machine){0};
    set(found->mac, sizeof(found->mac), mac);
    return found;
}

/* Only what a boot ROM asks counts: every telephone asks for an address. */
static int take_exchange(struct reader *r, const struct bootlog_event *e)
{
    struct pending_machine *machine, *former;

    if (strcmp(e->xid, r->xid) != 0) return 0;
    machine = find_or_add(r->pending, e->mac);
    if (!machine) return -ENOMEM;
    set(machine->when, sizeof(machine->when), e->when);
    set(r->xid_mac, sizeof(r->xid_mac), e->mac);
    if (e->kind != BOOTLOG_ANSWERED || !e->ip[0]) return 0;
    former = find_ip(r->pending, e->ip);
    if (former) former->ip[0] = '\0';
    set(machine->ip, sizeof(machine->ip), e->ip);
    return 0;
}

/* Where another server gives the addresses, the kernel knows who has one: the board has just spoken to this machine. */
static struct pending_machine *find_neighbour(struct pending *p, const char *ip)
{
    FILE *file = fopen("/proc/net/arp", "re");
    struct pending_machine *found = NULL;
    char line[256], address[64], mac[64];

    while (file && !found && fgets(line, sizeof(line), file))
        if (sscanf(line, "%63s %*s %*s %63s", address, mac) == 2 && strcmp(address, ip) == 0) found = find(p, mac);
    if (file) fclose(file);
    return found;
}

static void take_file(struct reader *r, const struct bootlog_event *e)
{
    struct pending_machine *machine = find_ip(r->pending, e->ip);
    const char *name = strstr(e->text, "/tftpboot/");
    char serial[9];

    if (!machine && e->ip[0]) machine = find_neighbour(r->pending, e->ip);
    if (!machine) return;
    set(machine->file, sizeof(machine->file), name ? name + strlen("/tftpboot/") : e->text);
    bootlog_path_serial(e->text, serial);
    if (serial[0]) set(machine->serial, sizeof(machine->serial), serial);
}

static int take_event(struct reader *r, const struct bootlog_event *e)
{
    struct pending_machine *machine;

    switch (e->kind) {
    case BOOTLOG_CLASS:
        set(r->xid, sizeof(r->xid), strncmp(e->text, "PXEClient", 9) == 0 ? e->xid : "");
        r->xid_mac[0] = '\0';
        return 0;
    case BOOTLOG_UUID:
        machine = r->xid_mac[0] && strcmp(e->xid, r->xid) == 0 ? find(r->pending, r->xid_mac) : NULL;
        if (machine && !machine->serial[0]) bootlog_uuid_serial(e->text, machine->serial);
        return 0;
    case BOOTLOG_ASKED:
    case BOOTLOG_ANSWERED: return take_exchange(r, e);
    case BOOTLOG_SENT:
    case BOOTLOG_MISSING:
    case BOOTLOG_REFUSED: take_file(r, e); return 0;
    case BOOTLOG_MOUNTED: return 0;
    }
    return 0;
}

static int drop_known(const struct catalog_node *node, void *data)
{
    struct pending *p = data;
    struct pending_machine *known = node->mac ? find(p, node->mac) : NULL;

    if (!known) return 0;
    p->count--;
    memmove(known, known + 1, (size_t)(p->machine + p->count - known) * sizeof(*known));
    return 0;
}

int pending_read(struct pending *pending, struct catalog *catalog, const char *log)
{
    struct reader reader = {.pending = pending};
    struct bootlog_event event;
    struct bootlog *lines;
    int r;

    *pending = (struct pending){0};
    r = bootlog_open(&lines, log, false);
    if (r < 0) return r;
    while (r == 0 && bootlog_next(lines, 0, &event) == 1) r = take_event(&reader, &event);
    bootlog_close(lines);
    return r < 0 ? r : catalog_nodes(catalog, drop_known, pending);
}

void pending_free(struct pending *pending)
{
    free(pending->machine);
    *pending = (struct pending){0};
}

const struct pending_machine *pending_find(const struct pending *pending, const char *mac)
{
    return find((struct pending *)pending, mac);
}
