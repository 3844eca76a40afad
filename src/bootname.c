#include "bootname.h"

#include <ctype.h>
#include <string.h>

#include "io.h"

char *bootname_mac(const char *mac)
{
    char *name = mac ? io_format("%s", mac) : NULL;

    for (char *c = name; c && *c; c++)
        if (*c == ':') *c = '-';
    return name;
}

void bootname_tail(const char *serial, char ret_tail[BOOTNAME_TAIL])
{
    size_t length = strlen(serial), digits = BOOTNAME_TAIL - 1;

    ret_tail[0] = '\0';
    if (length < digits || strspn(serial, "0123456789abcdefABCDEF") != length) return;
    for (size_t i = 0; i <= digits; i++) ret_tail[i] = (char)tolower((unsigned char)serial[length - digits + i]);
}
