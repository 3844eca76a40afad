/* work: one piece of file system work in a directory, timed.
 *
 *     work NAME DIRECTORY [FILE]
 *
 * Prints what NAME takes, in the unit that `work --list` says, and of the same time: CPU seconds of this process, those of
 * process $DAEMON_PID (0 without), and how many units it was. DIRECTORY is the root of a tree; what is written goes to DIRECTORY/tmp/work
 * and is removed. FILE: of the tree, for what reads or changes one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define MIB (1024 * 1024)

enum {
    STAT_FILES = 20000,
    READ_FILES = 4000,
    METADATA_FILES = 2000, /* of each thread */
    DURABLE_FILES = 200,
    BIG_SIZE = 256 * MIB,
    RANDOM_WRITES = 8192,
    RANDOM_READS = 32768,
    MAP_READS = 200000,
};

static const char *root, *file;
static char scratch[4096];
static uint64_t dice = 88172645463325252;

static void die(const char *what, const char *name)
{
    fprintf(stderr, "work: %s: %s: %s\n", name, what, strerror(errno));
    exit(1);
}

/* proc(5), /proc/PID/stat: utime and stime, behind the name, which may have anything in it. */
static double daemon_cpu_now(void)
{
    const char *pid = getenv("DAEMON_PID");
    unsigned long user = 0, system = 0;
    char path[64], line[1024];
    FILE *stat;

    if (!pid) return 0;
    snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    stat = fopen(path, "re");
    if (!stat) die("open", path);
    if (fgets(line, sizeof(line), stat))
        sscanf(strrchr(line, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    fclose(stat);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double began, cpu, daemon_cpu, amount;

static void begin(void)
{
    cpu = cpu_now();
    daemon_cpu = daemon_cpu_now();
    began = now();
}

/* Microseconds for each of so many, since begin(). */
static double end(double count)
{
    double took = now() - began;

    cpu = cpu_now() - cpu;
    daemon_cpu = daemon_cpu_now() - daemon_cpu;
    amount = count;
    return took / count * 1e6;
}

static uint64_t roll(uint64_t below)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % below;
}

/* ---- the tree's files ---- */

static char **paths;
static size_t path_count, path_room;
static off_t path_least, path_most;

static int keep_path(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)where;
    if (type != FTW_F || !S_ISREG(st->st_mode) || st->st_size < path_least || st->st_size > path_most) return 0;
    if (path_count == path_room) {
        path_room = path_room ? 2 * path_room : 1024;
        paths = realloc(paths, path_room * sizeof(*paths));
        if (!paths) die("realloc", path);
    }
    paths[path_count++] = strdup(path);
    return 0;
}

/* At most `most` regular files of these sizes, evenly over the tree. */
static void list_files(size_t most, off_t least_size, off_t most_size)
{
    path_least = least_size;
    path_most = most_size;
    if (nftw(root, keep_path, 64, FTW_PHYS | FTW_MOUNT) < 0) die("walk", root);
    if (path_count == 0) {
        errno = ENOENT;
        die("no file of the size wanted", root);
    }
    if (path_count > most) {
        for (size_t i = 0; i < most; i++) paths[i] = paths[i * path_count / most];
        path_count = most;
    }
}

static void stat_all(void)
{
    struct stat st;

    for (size_t i = 0; i < path_count; i++)
        if (lstat(paths[i], &st) < 0) die("lstat", paths[i]);
}

static double stat_warm(void)
{
    list_files(STAT_FILES, 0, INT64_MAX);
    stat_all();
    begin();
    for (int round = 0; round < 5; round++) stat_all();
    return end(5 * (double)path_count);
}

static void read_all(void)
{
    static char buffer[65536];

    for (size_t i = 0; i < path_count; i++) {
        int fd = open(paths[i], O_RDONLY | O_CLOEXEC);

        if (fd < 0) die("open", paths[i]);
        if (read(fd, buffer, sizeof(buffer)) < 0) die("read", paths[i]);
        close(fd);
    }
}

static double open_read_close_warm(void)
{
    list_files(READ_FILES, 4096, 65536);
    read_all();
    begin();
    for (int round = 0; round < 5; round++) read_all();
    return end(5 * (double)path_count);
}

/* ---- names ---- */

enum step { CREATE, RENAME, UNLINK };

struct worker {
    pthread_t thread;
    int number, files;
    bool durable;
    enum step step;
};

static void step_one(const struct worker *w, int dir, int n)
{
    char name[32], other[32];
    int fd;

    snprintf(name, sizeof(name), "f%d", n);
    snprintf(other, sizeof(other), "g%d", n);
    switch (w->step) {
    case CREATE:
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0) die("create", name);
        if (w->durable && fsync(fd) < 0) die("fsync", name);
        close(fd);
        break;
    case RENAME:
        if (renameat(dir, name, dir, other) < 0) die("rename", name);
        break;
    case UNLINK:
        if (unlinkat(dir, other, 0) < 0) die("unlink", other);
        break;
    }
    if (w->durable && fsync(dir) < 0) die("fsync", scratch);
}

static int open_directory(int number)
{
    char path[4200];
    int fd;

    snprintf(path, sizeof(path), "%s/d%d", scratch, number);
    if (mkdir(path, 0755) < 0 && errno != EEXIST) die("mkdir", path);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) die("open", path);
    return fd;
}

static void *run_worker(void *data)
{
    struct worker *w = data;
    int dir = open_directory(w->number);

    for (int i = 0; i < w->files; i++) step_one(w, dir, i);
    close(dir);
    return NULL;
}

/* Microseconds for each of one step. */
static double run_step(enum step step, int threads, int files, bool durable)
{
    struct worker workers[4];

    begin();
    for (int i = 0; i < threads; i++) {
        workers[i] = (struct worker){.number = i, .files = files, .durable = durable, .step = step};
        if (pthread_create(&workers[i].thread, NULL, run_worker, &workers[i])) die("thread", scratch);
    }
    for (int i = 0; i < threads; i++) pthread_join(workers[i].thread, NULL);
    return end((double)threads * files);
}

static double names(enum step wanted, int threads)
{
    double took = 0;

    for (enum step step = CREATE; step <= wanted; step++) took = run_step(step, threads, METADATA_FILES, false);
    return took;
}

static double create1(void) { return names(CREATE, 1); }
static double create4(void) { return names(CREATE, 4); }
static double rename1(void) { return names(RENAME, 1); }
static double rename4(void) { return names(RENAME, 4); }
static double unlink1(void) { return names(UNLINK, 1); }
static double unlink4(void) { return names(UNLINK, 4); }
static double durable1(void) { return run_step(CREATE, 1, DURABLE_FILES, true); }
static double durable4(void) { return run_step(CREATE, 4, DURABLE_FILES, true); }

/* ---- contents ---- */

static char *block(size_t size)
{
    char *buffer = aligned_alloc(4096, size);

    if (!buffer) die("memory", "block");
    for (size_t i = 0; i < size; i++) buffer[i] = (char)(i * 31 + i / 4096);
    return buffer;
}

static int open_big(int flags)
{
    char path[4200];
    int fd;

    snprintf(path, sizeof(path), "%s/big", scratch);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0644);
    if (fd < 0) die("open", path);
    return fd;
}

/* Microseconds for each MiB, so that less is better everywhere. */
static double write_big(int fd, size_t piece, size_t size)
{
    char *buffer = block(piece);

    begin();
    for (size_t at = 0; at < size; at += piece)
        if (pwrite(fd, buffer, piece, (off_t)at) != (ssize_t)piece) die("write", "big");
    if (fsync(fd) < 0) die("fsync", "big");
    free(buffer);
    return end((double)size / MIB);
}

static double write_1m(void) { return write_big(open_big(O_TRUNC), MIB, BIG_SIZE); }
static double write_64k(void) { return write_big(open_big(O_TRUNC), 65536, BIG_SIZE); }
static double write_4k(void) { return write_big(open_big(O_TRUNC), 4096, BIG_SIZE / 4); }

static double random_write_4k(void)
{
    int fd = open_big(O_TRUNC);
    char *buffer = block(4096);

    write_big(fd, MIB, BIG_SIZE);
    begin();
    for (int i = 0; i < RANDOM_WRITES; i++)
        if (pwrite(fd, buffer, 4096, (off_t)roll(BIG_SIZE / 4096) * 4096) != 4096) die("write", "big");
    if (fsync(fd) < 0) die("fsync", "big");
    return end(RANDOM_WRITES);
}

static int open_read(void)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);

    if (fd < 0) die("open", file);
    return fd;
}

static off_t size_of(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0) die("fstat", file);
    return st.st_size;
}

static double read_through(int fd)
{
    char *buffer = block(MIB);
    off_t at = 0;
    ssize_t n;

    begin();
    while ((n = pread(fd, buffer, MIB, at)) > 0) at += n;
    if (n < 0) die("read", file);
    free(buffer);
    return end((double)at / MIB);
}

static double read_cold(void) { return read_through(open_read()); }

static double read_warm(void)
{
    int fd = open_read();
    double least = read_through(fd), took;

    for (int i = 0; i < 3; i++)
        if ((took = read_through(fd)) < least) least = took;
    return least;
}

static double random_read_4k(void)
{
    int fd = open_read();
    off_t pages = size_of(fd) / 4096;
    static char buffer[4096];

    read_through(fd);
    begin();
    for (int i = 0; i < RANDOM_READS; i++)
        if (pread(fd, buffer, 4096, (off_t)roll((uint64_t)pages) * 4096) < 0) die("read", file);
    return end(RANDOM_READS);
}

static double map_read(void)
{
    int fd = open_read();
    size_t size = (size_t)size_of(fd) / 4096 * 4096;
    volatile const char *map;
    char sum = 0;

    read_through(fd);
    map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) die("mmap", file);
    madvise((void *)map, size, MADV_RANDOM);
    begin();
    for (int i = 0; i < MAP_READS; i++) sum += map[roll(size)];
    (void)sum;
    return end(MAP_READS);
}

static double append_byte(void)
{
    int fd;

    begin();
    fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) die("open", file);
    if (write(fd, "x", 1) != 1) die("write", file);
    if (fsync(fd) < 0) die("fsync", file);
    return end(1);
}

static double change_mode(void)
{
    begin();
    if (chmod(file, 0600) < 0) die("chmod", file);
    return end(1);
}

static double change_owner(void)
{
    list_files(10000, 0, INT64_MAX);
    begin();
    for (size_t i = 0; i < path_count; i++)
        if (lchown(paths[i], 1000, 1000) < 0) die("lchown", paths[i]);
    return end((double)path_count);
}

/* ---- ---- */

static const struct {
    const char *name, *unit;
    double (*run)(void);
} works[] = {
    {"stat-warm", "us", stat_warm},
    {"open-read-close-warm", "us", open_read_close_warm},
    {"create-1", "us", create1},
    {"create-4", "us", create4},
    {"rename-1", "us", rename1},
    {"rename-4", "us", rename4},
    {"unlink-1", "us", unlink1},
    {"unlink-4", "us", unlink4},
    {"create-fsync-1", "us", durable1},
    {"create-fsync-4", "us", durable4},
    {"write-1m", "us/MiB", write_1m},
    {"write-64k", "us/MiB", write_64k},
    {"write-4k", "us/MiB", write_4k},
    {"random-write-4k", "us", random_write_4k},
    {"read-cold", "us/MiB", read_cold},
    {"read-warm", "us/MiB", read_warm},
    {"random-read-4k", "us", random_read_4k},
    {"map-read", "us", map_read},
    {"append-byte", "us", append_byte},
    {"chmod", "us", change_mode},
    {"chown-10000", "us", change_owner},
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

int main(int argc, char **argv)
{
    size_t count = sizeof(works) / sizeof(*works);

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < count; i++) printf("%s %s\n", works[i].name, works[i].unit);
        return 0;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: work NAME DIRECTORY [FILE] | work --list\n");
        return 2;
    }
    root = argv[2];
    file = argc > 3 ? argv[3] : "";
    snprintf(scratch, sizeof(scratch), "%s/tmp/work", root);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(works[i].name, argv[1]) != 0) continue;
        if (mkdir(scratch, 0755) < 0 && errno != EEXIST) die("mkdir", scratch);
        double value = works[i].run();
        printf("%.3f %.6f %.6f %.0f\n", value, cpu, daemon_cpu, amount);
        fflush(stdout);
        nftw(scratch, remove_one, 64, FTW_DEPTH | FTW_PHYS);
        return 0;
    }
    fprintf(stderr, "work: %s: no such work; see work --list\n", argv[1]);
    return 2;
}
