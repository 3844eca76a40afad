/* commits: durable creates per second, on a coppice mount and on the disk's own file system, in the same run.
 *
 *     commits [-r ROUNDS] [-s SECONDS] MOUNTED LOCAL
 *
 * MOUNTED: a directory in a node's root, where each create is durable by itself. LOCAL: a directory on the disk that holds the
 * store, where each is followed by fsync of the file and of its directory. Per number of threads the two take turns, ROUNDS times
 * for SECONDS each; medians and their ratio are printed. Each thread has a directory of its own. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MOST = 32, ROUNDS_MOST = 99 };

static const int thread_counts[] = {1, 8, 32};

struct worker {
    pthread_t thread;
    char directory[1024];
    bool with_fsync;
    long made;
};

static atomic_bool is_over;

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void die(const char *what, const char *name)
{
    fprintf(stderr, "commits: %s: %s: %s\n", name, what, strerror(errno));
    exit(1);
}

static void create_one(const struct worker *w, int dir, const char *name)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) die("create", w->directory);
    if (w->with_fsync && (fsync(fd) < 0 || fsync(dir) < 0)) die("fsync", w->directory);
    close(fd);
}

static void *work(void *data)
{
    struct worker *w = data;
    char name[32];
    int dir = open(w->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) die("open", w->directory);
    for (; !atomic_load(&is_over); w->made++) {
        snprintf(name, sizeof(name), "%ld", w->made);
        create_one(w, dir, name);
    }
    close(dir);
    return NULL;
}

static void clear(const struct worker *w)
{
    char name[1100];
    for (long i = 0; i < w->made; i++) {
        snprintf(name, sizeof(name), "%s/%ld", w->directory, i);
        unlink(name);
    }
    rmdir(w->directory);
}

static void start(struct worker *w, const char *where, int number, bool with_fsync)
{
    w->with_fsync = with_fsync;
    w->made = 0;
    snprintf(w->directory, sizeof(w->directory), "%s/commits-%d-%d", where, (int)getpid(), number);
    if (mkdir(w->directory, 0755) < 0) die("mkdir", w->directory);
    if (pthread_create(&w->thread, NULL, work, w) != 0) die("thread", w->directory);
}

/* Creates per second. */
static double measure(const char *where, int threads, double seconds, bool with_fsync)
{
    static struct worker workers[THREADS_MOST];
    long made = 0;
    double begin = seconds_now();
    atomic_store(&is_over, false);
    for (int i = 0; i < threads; i++) start(&workers[i], where, i, with_fsync);
    usleep((useconds_t)(seconds * 1e6));
    atomic_store(&is_over, true);
    for (int i = 0; i < threads; i++) pthread_join(workers[i].thread, NULL);
    double taken = seconds_now() - begin;
    for (int i = 0; i < threads; i++) made += workers[i].made;
    for (int i = 0; i < threads; i++) clear(&workers[i]);
    return (double)made / taken;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof(*values), compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void compare_with(int threads, const char *mounted, const char *local, int rounds, double seconds)
{
    double ours[ROUNDS_MOST], theirs[ROUNDS_MOST];
    for (int i = 0; i < rounds; i++) {
        ours[i] = measure(mounted, threads, seconds, false);
        theirs[i] = measure(local, threads, seconds, true);
    }
    double our = median(ours, rounds), their = median(theirs, rounds);
    printf("%7d %12.0f %12.0f %8.2f   %.0f-%.0f against %.0f-%.0f\n", threads, our, their, our / their, ours[0],
           ours[rounds - 1], theirs[0], theirs[rounds - 1]);
    fflush(stdout);
}

static int usage(void)
{
    fprintf(stderr, "usage: commits [-r ROUNDS] [-s SECONDS] MOUNTED LOCAL\n");
    return 2;
}

int main(int argc, char **argv)
{
    int rounds = 5, option;
    double seconds = 2;
    while ((option = getopt(argc, argv, "r:s:")) >= 0) {
        if (option == 'r') rounds = atoi(optarg);
        else if (option == 's') seconds = atof(optarg);
        else return usage();
    }
    if (argc - optind != 2 || rounds < 1 || rounds > ROUNDS_MOST || !(seconds > 0)) return usage();
    printf("threads      coppice        local    ratio   range\n");
    for (size_t i = 0; i < sizeof(thread_counts) / sizeof(*thread_counts); i++)
        compare_with(thread_counts[i], argv[optind], argv[optind + 1], rounds, seconds);
    return 0;
}
