/* fuzz_tftp: packets of a TFTP server: two bytes of length, then a packet, and so on. */
#include <sys/socket.h>

#define sendto(fd, data, size, flags, address, length) ((void)(fd), (ssize_t)(size))
#include "../../src/tftp_probe.c"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct transfer t = {.fd = -1, .expected = 1, .block_size = 512};
    char *text = NULL;
    size_t text_size = 0;

    t.data = open_memstream(&text, &text_size);
    fuzz_must(t.data);
    fuzz_must(ask(&t, "start4.elf") == 0);
    for (int r = 1; r > 0 && size >= 2;) {
        size_t length = (size_t)(data[0] << 8 | data[1]) % (BLOCK + 64);

        data += 2;
        size -= 2;
        if (length > size) length = size;
        r = take(&t, data, length, 4096);
        data += length;
        size -= length;
    }
    fuzz_must(fclose(t.data) == 0);
    free(text);
    return 0;
}
