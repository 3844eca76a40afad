#include "crash.h"

#include <signal.h>
#include <stddef.h>

#include "handover.h"
#include "replay.h"

#define PROOF 2
#define STACK 16384

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
enum { FATAL = sizeof(fatal) / sizeof(*fatal) };

static struct handover *watched;
static struct sigaction before[FATAL];

/* The request's place, or that of the one that is accused least. */
static struct handover_suspect *find(struct handover_page *page, uint64_t unique)
{
    struct handover_suspect *least = &page->suspects[0];

    for (size_t i = 0; i < HANDOVER_SUSPECTS; i++) {
        struct handover_suspect *s = &page->suspects[i];

        if (s->unique == unique) return s;
        if (s->crashes < least->crashes) least = s;
    }
    return least;
}

static void accuse(struct handover_page *page, uint64_t unique)
{
    struct handover_suspect *s = find(page, unique);

    s->crashes = s->unique == unique ? s->crashes + 1 : 1;
    s->unique = unique;
}

/* Nothing here that may not be called from a signal handler (signal-safety(7)). */
static void note(int number, siginfo_t *info, void *context)
{
    uint64_t unique = replay_current();

    if (unique) accuse(watched->page, unique);
    for (size_t i = 0; i < FATAL; i++) {
        if (fatal[i] != number) continue;
        sigaction(number, &before[i], NULL);
        if (before[i].sa_flags & SA_SIGINFO && before[i].sa_sigaction) {
            before[i].sa_sigaction(number, info, context); /* a sanitizer's */
            return;
        }
    }
    raise(number);
}

void crash_watch(struct handover *h)
{
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    watched = h;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < FATAL; i++) sigaction(fatal[i], &action, &before[i]);
}

void crash_watch_thread(void)
{
    static _Thread_local char stack[STACK];
    static _Thread_local bool done;
    stack_t now;

    if (done) return;
    done = true;
    if (sigaltstack(NULL, &now) == 0 && now.ss_flags & SS_DISABLE) /* else it is a sanitizer's */
        sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof(stack)}, NULL);
}

bool crash_is_proven(const struct handover *h, uint64_t unique)
{
    for (size_t i = 0; i < HANDOVER_SUSPECTS; i++)
        if (h->page->suspects[i].unique == unique && h->page->suspects[i].crashes >= PROOF) return true;
    return false;
}
