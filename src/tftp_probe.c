#include "tftp_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "io.h"

#define PORT 69
#define BLOCK 1428 /* what an Ethernet frame holds */
#define TRIES 3
#define WAIT_MS 1000
#define WHOLE_MS 60000 /* of a transfer that goes on and on */

enum { OP_RRQ = 1, OP_DATA = 3, OP_ACK = 4, OP_ERROR = 5, OP_OACK = 6 };

struct transfer {
    int fd;
    struct sockaddr_in server; /* its port changes with the first answer */
    bool answered;
    uint8_t sent[1024]; /* the last packet, for another try */
    size_t sent_size;
    uint16_t expected; /* block */
    size_t block_size;
    FILE *data;
};

static int send_packet(struct transfer *t)
{
    ssize_t n = sendto(t->fd, t->sent, t->sent_size, 0, (struct sockaddr *)&t->server, sizeof(t->server));

    return n < 0 ? -errno : 0;
}

static int ask(struct transfer *t, const char *path)
{
    size_t length = strlen(path);
    char size[8];

    if (length > 900) return -ENAMETOOLONG;
    snprintf(size, sizeof(size), "%d", BLOCK);
    t->sent[0] = 0;
    t->sent[1] = OP_RRQ;
    t->sent_size = 2;
    for (const char *const *word = (const char *const[]){path, "octet", "blksize", size, NULL}; *word; word++) {
        memcpy(t->sent + t->sent_size, *word, strlen(*word) + 1);
        t->sent_size += strlen(*word) + 1;
    }
    return send_packet(t);
}

static int acknowledge(struct transfer *t, uint16_t block)
{
    const uint8_t packet[] = {0, OP_ACK, (uint8_t)(block >> 8), (uint8_t)block};

    memcpy(t->sent, packet, sizeof(packet));
    t->sent_size = sizeof(packet);
    return send_packet(t);
}

static int server_error(uint16_t code)
{
    return code == 1 ? -ENOENT : code == 2 ? -EACCES : -EIO;
}

/* 1: goes on; 0: that was the last block. */
static int take(struct transfer *t, const uint8_t *packet, size_t size, size_t most)
{
    uint16_t op, number;

    if (size < 4) return 1;
    op = (uint16_t)(packet[0] << 8 | packet[1]);
    number = (uint16_t)(packet[2] << 8 | packet[3]);
    if (op == OP_ERROR) return server_error(number);
    if (op == OP_OACK) {
        t->block_size = BLOCK;
        return acknowledge(t, 0) < 0 ? -EIO : 1;
    }
    if (op != OP_DATA || number != t->expected) return 1;
    fwrite(packet + 4, 1, size - 4, t->data);
    if ((size_t)ftello(t->data) > most) return -EFBIG;
    t->expected++;
    if (acknowledge(t, number) < 0) return -EIO;
    return size - 4 == t->block_size;
}

/* 1: a packet came, perhaps not one of the transfer; 0: it is complete. */
static int receive(struct transfer *t, size_t most)
{
    uint8_t packet[BLOCK + 64];
    struct sockaddr_in from = {0};
    socklen_t length = sizeof(from);
    ssize_t n = recvfrom(t->fd, packet, sizeof(packet), MSG_DONTWAIT, (struct sockaddr *)&from, &length);

    if (n < 0) return errno == EAGAIN ? 1 : -errno;
    if (from.sin_addr.s_addr != t->server.sin_addr.s_addr || (t->answered && from.sin_port != t->server.sin_port)) return 1;
    t->answered = true;
    t->server.sin_port = from.sin_port;
    return take(t, packet, (size_t)n, most);
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until the time for an answer is over: 1: the transfer has gone on; 0: it is complete; -EAGAIN: it has not. What is not
 * the next packet of it does not count, however much of it comes. */
static int step(struct transfer *t, size_t most)
{
    struct pollfd ready = {.fd = t->fd, .events = POLLIN};
    uint16_t expected = t->expected;
    size_t block_size = t->block_size;
    int64_t end = now_ms() + WAIT_MS;

    for (int64_t left = WAIT_MS; left > 0; left = end - now_ms()) {
        int n = poll(&ready, 1, (int)left);

        if (n < 0 && errno != EINTR) return -errno;
        int r = n > 0 ? receive(t, most) : 1;
        if (r <= 0) return r;
        if (t->expected != expected || t->block_size != block_size) return 1;
    }
    return -EAGAIN;
}

static int run(struct transfer *t, const char *path, size_t most)
{
    int64_t end = now_ms() + WHOLE_MS;
    int tries = 0, r = ask(t, path);

    while (r >= 0 && now_ms() < end) {
        r = step(t, most);
        if (r == 0) return 0;
        if (r == 1) tries = 0;
        if (r == -EAGAIN && ++tries < TRIES) r = send_packet(t);
    }
    return r < 0 && r != -EAGAIN ? r : -ETIMEDOUT;
}

/* Only a connected socket is told that nobody listens there, and a server answers from another port. */
static int is_refused(const char *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    static const uint8_t nothing[] = {0, OP_ERROR, 0, 0, 0};
    char answer;

    inet_pton(AF_INET, server, &address.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) return -errno;
    if (send(fd, nothing, sizeof(nothing), 0) < 0) return -errno;
    if (poll(&ready, 1, 200) != 1) return 0;
    return recv(fd, &answer, 1, MSG_DONTWAIT) < 0 && errno == ECONNREFUSED ? -ECONNREFUSED : 0;
}

int tftp_probe_read(const char *server, const char *path, size_t most, char **ret_data, size_t *ret_size)
{
    struct transfer t = {.server = {.sin_family = AF_INET, .sin_port = htons(PORT)}, .expected = 1, .block_size = 512};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char *text = NULL;
    int r;

    if (fd < 0) return -errno;
    if (inet_pton(AF_INET, server, &t.server.sin_addr) != 1) return -EINVAL;
    r = is_refused(server);
    if (r < 0) return r;
    t.fd = fd;
    t.data = open_memstream(&text, ret_size);
    if (!t.data) return -ENOMEM;
    r = run(&t, path, most);
    if (fclose(t.data) != 0 && r == 0) r = -ENOMEM;
    if (r < 0) free(text);
    else *ret_data = text;
    return r;
}
