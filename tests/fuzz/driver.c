/* driver: runs a fuzzer over its kept corpus and then over random changes of it, where there is no libFuzzer.
 *
 *     fuzz_NAME CORPUS-DIRECTORY        COPPICE_FUZZ_SECONDS=3, COPPICE_FUZZ_SEED=N for the same inputs again
 *     fuzz_NAME FILE                    that input alone
 *
 * The input at hand when it dies is left in ./crash-<process>. */
#include <dirent.h>
#include <fcntl.h>
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "io.h"

enum { INPUT_MAX = 1 << 20, INPUTS_MAX = 256, HANG_SECONDS = 60 };

struct input {
    uint8_t *data;
    size_t size;
};

static struct input corpus[INPUTS_MAX];
static size_t corpus_count;
static bool is_changed; /* a directory was given */
static uint8_t current[INPUT_MAX];
static size_t current_size;
static uint64_t dice;

static uint64_t roll(uint64_t sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return sides ? dice % sides : 0;
}

static void keep_input(void)
{
    char name[64];
    int fd;

    snprintf(name, sizeof(name), "crash-%d", (int)getpid());
    fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0 && io_write(fd, current, current_size) == 0) fprintf(stderr, "the input is in %s\n", name);
}

static void on_signal(int number)
{
    keep_input();
    signal(number, SIG_DFL);
    raise(number);
}

static void load(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    struct input *input = &corpus[corpus_count];

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) return;
    fuzz_must(corpus_count < INPUTS_MAX && st.st_size <= INPUT_MAX);
    input->data = malloc(st.st_size + 1);
    fuzz_must(input->data);
    input->size = st.st_size;
    fuzz_must(io_pread(fd, input->data, input->size, 0) == st.st_size);
    corpus_count++;
}

static void load_all(const char *path)
{
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort);

    if (count < 0) load(path);
    else is_changed = true;
    for (int i = 0; i < count; i++) {
        _cleanup_free_ char *file = io_format("%s/%s", path, names[i]->d_name);

        load(file);
        free(names[i]);
    }
    if (count >= 0) free(names);
}

static void run(void)
{
    /* Of just this size, so that a byte too far is noticed. */
    uint8_t *copy = malloc(current_size ? current_size : 1);

    memcpy(copy, current, current_size);
    alarm(HANG_SECONDS);
    LLVMFuzzerTestOneInput(copy, current_size);
    alarm(0);
    free(copy);
}

static void take(const struct input *input)
{
    memcpy(current, input->data, input->size);
    current_size = input->size;
}

static void move_bytes(size_t to, const uint8_t *from, size_t count)
{
    if (to + count > INPUT_MAX) return;
    memmove(current + to, from, count);
    if (to + count > current_size) current_size = to + count;
}

static void change(void)
{
    static const uint32_t telling[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff};
    size_t at = roll(current_size), count = roll(current_size - at < 64 ? current_size - at : 64);
    const struct input *other = &corpus[roll(corpus_count)];
    uint32_t value = telling[roll(sizeof(telling) / sizeof(*telling))];

    if (current_size == 0) return;
    switch (roll(8)) {
    case 0:
    case 1: current[at] ^= 1 << roll(8); break;
    case 2: current[at] = roll(256); break;
    case 3: move_bytes(at, (uint8_t *)&value, roll(2) ? 4 : 1); break;
    case 4:
        value = __builtin_bswap32(value);
        move_bytes(at, (uint8_t *)&value, 4);
        break;
    case 5: move_bytes(roll(current_size), current + at, count); break;
    case 6:
        memmove(current + at, current + at + count, current_size - at - count);
        current_size -= count;
        break;
    default:
        if (roll(8) == 0) current_size = at;
        else if (other->size > at) move_bytes(at, other->data + at, other->size - at < count ? other->size - at : count);
    }
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    const char *seed = getenv("COPPICE_FUZZ_SEED"), *seconds = getenv("COPPICE_FUZZ_SECONDS");
    uint64_t first = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid();
    double end = now() + (seconds ? atof(seconds) : 3);
    unsigned long changed = 0;

    for (int i = 1; i < argc; i++) load_all(argv[i]);
    if (corpus_count == 0) {
        fprintf(stderr, "no input\n");
        return 2;
    }
    dice = first | 1;
    __sanitizer_set_death_callback(keep_input);
    signal(SIGALRM, on_signal);
    signal(SIGABRT, on_signal);
    printf("COPPICE_FUZZ_SEED=%llu\n", (unsigned long long)first);
    fflush(stdout);
    for (size_t i = 0; i < corpus_count; i++) {
        take(&corpus[i]);
        run();
    }
    for (; is_changed && now() < end; changed++) {
        take(&corpus[roll(corpus_count)]);
        for (uint64_t changes = 1 + roll(8); changes > 0; changes--) change();
        run();
    }
    printf("%zu inputs of the corpus, %lu changed ones\n", corpus_count, changed);
    for (size_t i = 0; i < corpus_count; i++) free(corpus[i].data);
    return 0;
}
