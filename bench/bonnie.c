/* bonnie: the phases of bonnie++ in a directory, with what caches hide taken away.
 *
 *     bonnie [-s MIB] [-n FILES] [-r READERS] [-b] DIRECTORY
 *
 * Writes a file of MIB (256) in blocks of 8 KiB, rewrites it (read a block, change it, write it back), reads it, seeks in it with
 * READERS (3) threads, each of which writes back every tenth block; then creates FILES (4096), stats and deletes them, in
 * the order of their names and at random. Writing ends with fsync, the file's pages are dropped before it is read, and
 * -b syncs each file and its directory.
 *
 * One line of CSV on standard output, as bonnie++ 1.98 prints it (bon_csv2html(1) names the fields), so that its tools read it:
 * KiB or operations per second, % of one CPU, and the longest call. There is no per-character phase: those fields are empty. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define BLOCK 8192

enum { SEEKS = 8192, READERS_MOST = 64 };

enum phase {
    PUT_BLOCK, REWRITE, GET_BLOCK, SEEK,
    SEQ_CREATE, SEQ_STAT, SEQ_DELETE, RAN_CREATE, RAN_STAT, RAN_DELETE, PHASES
};

/* What a phase came to. */
static struct {
    double seconds, cpu, longest;
    long count; /* KiB or operations */
} results[PHASES];

static long mib = 256, files = 4096, readers = 3;
static bool each_synced;

static void die(const char *what, const char *name)
{
    fprintf(stderr, "bonnie: %s: %s: %s\n", name, what, strerror(errno));
    exit(1);
}

static void begin(enum phase phase)
{
    results[phase].seconds = -now();
    results[phase].cpu = -cpu_now();
}

static void end(enum phase phase, long count)
{
    results[phase].seconds += now();
    results[phase].cpu += cpu_now();
    results[phase].count = count;
}

/* The call that began then is over; the time now. */
static double note(enum phase phase, double began)
{
    double ended = now();

    if (ended - began > results[phase].longest) results[phase].longest = ended - began;
    return ended;
}

/* ---- one large file ---- */

static int open_big(int flags)
{
    int fd = open("big", flags | O_CLOEXEC, 0600);

    if (fd < 0) die("open", "big");
    return fd;
}

static void drop(int fd)
{
    if (fsync(fd) < 0) die("fsync", "big");
    if ((errno = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))) die("posix_fadvise", "big");
}

static void write_blocks(void)
{
    static char block[BLOCK];
    int fd = open_big(O_RDWR | O_CREAT | O_TRUNC);
    double t;

    begin(PUT_BLOCK);
    t = now();
    for (long at = 0; at < mib * 1024 / (BLOCK / 1024); at++) {
        memset(block, (int)at + 1, sizeof(block));
        if (write(fd, block, BLOCK) != BLOCK) die("write", "big");
        t = note(PUT_BLOCK, t);
    }
    if (fsync(fd) < 0) die("fsync", "big");
    end(PUT_BLOCK, mib * 1024);
    drop(fd);
    close(fd);
}

static void rewrite_blocks(void)
{
    char block[BLOCK];
    int fd = open_big(O_RDWR);
    off_t at = 0;
    double t;

    begin(REWRITE);
    t = now();
    for (; pread(fd, block, BLOCK, at) == BLOCK; at += BLOCK) {
        block[0] ^= 1;
        if (pwrite(fd, block, BLOCK, at) != BLOCK) die("write", "big");
        t = note(REWRITE, t);
    }
    if (fsync(fd) < 0) die("fsync", "big");
    end(REWRITE, at / 1024);
    drop(fd);
    close(fd);
}

static void read_blocks(void)
{
    char block[BLOCK];
    int fd = open_big(O_RDONLY);
    long count = 0;
    double t;

    begin(GET_BLOCK);
    t = now();
    for (; read(fd, block, BLOCK) == BLOCK; count++) t = note(GET_BLOCK, t);
    end(GET_BLOCK, count * (BLOCK / 1024));
    if (count != mib * 1024 / (BLOCK / 1024)) die("read", "big");
    drop(fd);
    close(fd);
}

struct reader {
    pthread_t thread;
    uint64_t dice;
    double longest;
};

static void *seek_about(void *data)
{
    struct reader *reader = data;
    int fd = open_big(O_RDWR);
    char block[BLOCK];
    double t = now();

    for (long i = 0; i < SEEKS / readers; i++) {
        reader->dice = reader->dice * UINT64_C(6364136223846793005) + 1442695040888963407;
        off_t at = (off_t)((reader->dice >> 33) % (uint64_t)(mib * 1024 / (BLOCK / 1024))) * BLOCK;

        if (pread(fd, block, BLOCK, at) != BLOCK) die("read", "big");
        block[1] ^= 1;
        if (i % 10 == 9 && pwrite(fd, block, BLOCK, at) != BLOCK) die("write", "big");
        double ended = now();
        if (ended - t > reader->longest) reader->longest = ended - t;
        t = ended;
    }
    close(fd);
    return NULL;
}

static void seek_blocks(void)
{
    struct reader threads[READERS_MOST] = {0};

    begin(SEEK);
    for (long i = 0; i < readers; i++) {
        threads[i].dice = (uint64_t)i + 1;
        if ((errno = pthread_create(&threads[i].thread, NULL, seek_about, &threads[i]))) die("thread", "seeks");
    }
    for (long i = 0; i < readers; i++) {
        pthread_join(threads[i].thread, NULL);
        if (threads[i].longest > results[SEEK].longest) results[SEEK].longest = threads[i].longest;
    }
    end(SEEK, SEEKS / readers * readers);
    if (unlink("big") < 0) die("unlink", "big");
}

/* ---- many small files ---- */

/* Of file i: names in order, or names that tell nothing of i. */
static void name_of(long i, bool random, char name[32])
{
    if (random) snprintf(name, 32, "%08x-%ld", (unsigned)((uint64_t)i * UINT64_C(2654435761) >> 3), i);
    else snprintf(name, 32, "%08ld", i);
}

/* The i-th to be looked at: 40503 is prime, so that each is, once, unless it divides their number. */
static long pick(long i, bool random) { return random ? (long)((uint64_t)i * 40503 % (uint64_t)files) : i; }

static void create_file(int dir, const char *name)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0) die("create", name);
    if (each_synced && (fsync(fd) < 0 || fsync(dir) < 0)) die("fsync", name);
    close(fd);
}

static void stat_file(int dir, const char *name)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) die("stat", name);
}

static void delete_file(int dir, const char *name)
{
    if (unlinkat(dir, name, 0) < 0) die("unlink", name);
    if (each_synced && fsync(dir) < 0) die("fsync", name);
}

static void do_all(enum phase phase, int dir, bool random, void (*action)(int dir, const char *name))
{
    char name[32];
    double t;

    begin(phase);
    t = now();
    for (long i = 0; i < files; i++) {
        name_of(pick(i, random && phase != RAN_CREATE), random, name);
        action(dir, name);
        t = note(phase, t);
    }
    if (fsync(dir) < 0) die("fsync", "small");
    end(phase, files);
}

static void do_files(bool random)
{
    int dir;

    if (mkdir("small", 0700) < 0 || (dir = open("small", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) die("mkdir", "small");
    do_all(random ? RAN_CREATE : SEQ_CREATE, dir, random, create_file);
    do_all(random ? RAN_STAT : SEQ_STAT, dir, random, stat_file);
    do_all(random ? RAN_DELETE : SEQ_DELETE, dir, random, delete_file);
    close(dir);
    if (rmdir("small") < 0) die("rmdir", "small");
}

/* ---- the line ---- */

static void print_rate(enum phase phase)
{
    if (!results[phase].count) printf(",,");
    else printf(",%.0f,%.0f", (double)results[phase].count / results[phase].seconds,
                results[phase].cpu / results[phase].seconds * 100);
}

static void print_longest(enum phase phase)
{
    if (results[phase].count) printf(",%.0fus", results[phase].longest * 1e6);
    else printf(",");
}

static void print_line(void)
{
    char host[64] = "";

    gethostname(host, sizeof(host) - 1);
    printf("1.98,1.98,%s,1,0,%ldM,%d,%d,%ld,,", host, mib, BLOCK, SEEKS, readers);
    for (enum phase phase = PUT_BLOCK; phase <= REWRITE; phase++) print_rate(phase);
    printf(",,");
    for (enum phase phase = GET_BLOCK; phase <= SEEK; phase++) print_rate(phase);
    printf(",%ld,,,,", files / 1024);
    for (enum phase phase = SEQ_CREATE; phase < PHASES; phase++) print_rate(phase);
    printf(",");
    for (enum phase phase = PUT_BLOCK; phase <= REWRITE; phase++) print_longest(phase);
    printf(",");
    for (enum phase phase = GET_BLOCK; phase < PHASES; phase++) print_longest(phase);
    printf("\n");
}

static long number(const char *text, long most)
{
    char *rest;
    long value = strtol(text, &rest, 10);

    if (rest == text || *rest || value < 0 || value > most) {
        fprintf(stderr, "bonnie: %s: not a number from 0 to %ld\n", text, most);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    char work[] = "bonnie.XXXXXX";
    int option;

    while ((option = getopt(argc, argv, "s:n:r:b")) != -1) {
        if (option == 's') mib = number(optarg, 1 << 20);
        else if (option == 'n') files = number(optarg, 1 << 24);
        else if (option == 'r') readers = number(optarg, READERS_MOST);
        else if (option == 'b') each_synced = true;
        else optind = argc;
    }
    if (optind != argc - 1 || readers < 1) {
        fprintf(stderr, "usage: bonnie [-s MIB] [-n FILES] [-r READERS] [-b] DIRECTORY\n");
        return 2;
    }
    if (chdir(argv[optind]) < 0 || !mkdtemp(work) || chdir(work) < 0) die("cannot work here", argv[optind]);
    if (mib) {
        write_blocks();
        rewrite_blocks();
        read_blocks();
        seek_blocks();
    }
    if (files) {
        do_files(false);
        do_files(true);
    }
    if (chdir("..") < 0 || rmdir(work) < 0) die("rmdir", work);
    print_line();
    return 0;
}
