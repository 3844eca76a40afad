/* network: IPv4 networks and addresses as text. Numbers are in host byte order. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct network {
    uint32_t address, mask; /* address: without host bits */
    int bits;               /* of the mask */
};

bool network_is_address(const char *text);

/* "10.55.0.0/24". -EINVAL: is none; -EADDRNOTAVAIL: has host bits set, *ret_network is the network they lie in. */
int network_parse(const char *text, struct network *ret_network);

/* "10.55.0.1". The text lives for three further calls of the thread. */
const char *network_text(uint32_t address);
