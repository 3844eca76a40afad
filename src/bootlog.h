/* bootlog: what dnsmasq (log-dhcp) and mountd write about machines that boot, line by line. */
#pragma once

#include <stdbool.h>

enum bootlog_kind {
    BOOTLOG_CLASS,    /* text: the vendor class of what follows under the same xid */
    BOOTLOG_UUID,     /* text: DHCP option 97 in hex with colons; dnsmasq cuts it after 14 bytes */
    BOOTLOG_ASKED,    /* DHCPDISCOVER, DHCPREQUEST */
    BOOTLOG_ANSWERED, /* DHCPOFFER, DHCPACK; PXE where another server gives addresses */
    BOOTLOG_SENT,     /* text: a file by TFTP */
    BOOTLOG_MISSING,  /* text: a file that was asked for and is not there */
    BOOTLOG_REFUSED,  /* text: a file that could not be opened or sent */
    BOOTLOG_MOUNTED,  /* text: a path, mounted by NFS */
};

/* What a line does not say is "". */
struct bootlog_event {
    enum bootlog_kind kind;
    char when[32]; /* as it stands in the log */
    char xid[16];
    char mac[18];
    char ip[16];
    char text[512];
};

/* False: the line is about something else. */
bool bootlog_parse(const char *line, struct bootlog_event *ret_event);

struct bootlog;

/* `path` NULL: dnsmasq's log-facility, else systemd's journal of this boot, else the first of the usual files. `follow`:
 * from its end on, else from its beginning. -ENOENT: there is none. */
int bootlog_open(struct bootlog **ret_log, const char *path, bool follow);
void bootlog_close(struct bootlog *log);
const char *bootlog_name(const struct bootlog *log); /* for messages */

/* 1: an event; 0: no more for now (follow: after at most `milliseconds`). */
int bootlog_next(struct bootlog *log, int milliseconds, struct bootlog_event *ret_event);

/* The serial's eight digits in front of a file's name, "/srv/ab42320d/start4.elf", or "". */
void bootlog_path_serial(const char *path, char ret_serial[9]);

/* A Raspberry Pi's serial from option 97, "" when it has none or dnsmasq has cut it. Older boot loaders of the Pi 4 repeat
 * the serial four times; newer ones send "RPi4", board revision, end of the MAC, serial, of which the log shows one byte;
 * the Pi 3 repeats its serial, or sends a constant. Words are little-endian. */
void bootlog_uuid_serial(const char *uuid, char ret_serial[9]);
