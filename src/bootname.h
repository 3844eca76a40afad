/* bootname: what a board's boot ROM calls itself when it asks for files. */
#pragma once

/* "b8:27:eb:42:32:c8" with dashes, as dnsmasq's tftp-unique-root=mac writes it. NULL for NULL or when out of memory.
 * Caller frees. */
char *bootname_mac(const char *mac);

/* The last eight digits of a hexadecimal serial, in lower case: a Raspberry Pi 4 or 5 puts them in front of the names of
 * its boot files. "" for another serial. */
#define BOOTNAME_TAIL 9
void bootname_tail(const char *serial, char ret_tail[BOOTNAME_TAIL]);
