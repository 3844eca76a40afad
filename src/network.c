#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool network_is_address(const char *text)
{
    struct in_addr address;

    return inet_pton(AF_INET, text, &address) == 1;
}

int network_parse(const char *text, struct network *ret_network)
{
    char address[INET_ADDRSTRLEN] = "";
    const char *slash = strchr(text, '/');
    struct in_addr in;

    if (!slash || (size_t)(slash - text) >= sizeof(address)) return -EINVAL;
    memcpy(address, text, (size_t)(slash - text));
    const char *digits = slash + 1;
    size_t length = strlen(digits);
    if (length < 1 || length > 2 || strspn(digits, "0123456789") != length) return -EINVAL;
    int bits = atoi(digits);
    if (bits > 32 || inet_pton(AF_INET, address, &in) != 1) return -EINVAL;
    uint32_t mask = bits ? UINT32_MAX << (32 - bits) : 0;
    *ret_network = (struct network){.address = ntohl(in.s_addr) & mask, .mask = mask, .bits = bits};
    return ntohl(in.s_addr) & ~mask ? -EADDRNOTAVAIL : 0;
}

const char *network_text(uint32_t address)
{
    static _Thread_local char texts[4][INET_ADDRSTRLEN];
    static _Thread_local unsigned turn;
    struct in_addr in = {htonl(address)};

    return inet_ntop(AF_INET, &in, texts[turn++ % 4], INET_ADDRSTRLEN);
}
