#include "replay.h"

#include <stddef.h>

#include "handover.h"

/* linux/fuse.h, FUSE_UNIQUE_RESEND: set in the number of a request that comes again. */
#define RESENT (UINT64_C(1) << 63)

/* FREE: no request's. BEGUN: nothing is known of it. NOTED: executed if the batch was committed. DONE: executed. */
enum { FREE, BEGUN, NOTED, DONE };

static _Thread_local struct {
    struct handover *handover;
    uint64_t unique;
    struct handover_slot *slot; /* claimed; NULL: none */
    uint64_t result;
} current;

static bool claim(struct handover_slot *slot)
{
    uint32_t free = FREE;

    return atomic_compare_exchange_strong(&slot->state, &free, BEGUN);
}

/* Notes that dead daemons left and nobody asked for: the answer had been given. The oldest goes where there is no room. */
static struct handover_slot *claim_oldest(struct handover_page *page)
{
    struct handover_slot *oldest = NULL;

    for (size_t i = 0; i < HANDOVER_SLOTS; i++) {
        struct handover_slot *slot = &page->slots[i];
        bool is_left = atomic_load(&slot->state) != FREE && slot->generation != page->generation;

        if (is_left && (!oldest || slot->unique < oldest->unique)) oldest = slot;
    }
    if (oldest) atomic_store(&oldest->state, FREE);
    return oldest && claim(oldest) ? oldest : NULL;
}

static struct handover_slot *claim_any(struct handover_page *page)
{
    static _Thread_local size_t last; /* most often free again, and in no other thread's cache */

    for (size_t i = 0; i < HANDOVER_SLOTS; i++) {
        size_t at = (last + i) % HANDOVER_SLOTS;

        if (!claim(&page->slots[at])) continue;
        last = at;
        return &page->slots[at];
    }
    return claim_oldest(page);
}

static struct handover_slot *find(struct handover_page *page, uint64_t unique)
{
    for (size_t i = 0; i < HANDOVER_SLOTS; i++) {
        struct handover_slot *slot = &page->slots[i];

        if (atomic_load(&slot->state) != FREE && slot->unique == unique) return slot;
    }
    return NULL;
}

void replay_take(struct handover *h, uint64_t unique)
{
    current.handover = h;
    current.unique = unique;
    current.slot = NULL;
    current.result = 0;
}

void replay_answered(void)
{
    if (current.slot) atomic_store(&current.slot->state, FREE);
    current.slot = NULL;
    current.unique = 0;
}

uint64_t replay_current(void)
{
    return current.unique & ~RESENT;
}

bool replay_begin(uint64_t *ret_result)
{
    struct handover_page *page = current.handover ? current.handover->page : NULL;
    uint64_t unique = current.unique & ~RESENT;

    if (!page || !unique) return false;
    current.slot = current.unique & RESENT ? find(page, unique) : NULL;
    if (current.slot && atomic_load(&current.slot->state) == DONE) {
        *ret_result = current.slot->result;
        return true;
    }
    if (current.slot) atomic_store(&current.slot->state, BEGUN);
    else current.slot = claim_any(page);
    if (!current.slot) return false;
    current.slot->unique = unique;
    current.slot->generation = page->generation;
    return false;
}

void replay_result(uint64_t result)
{
    current.result = result;
}

bool replay_note(uint32_t node, uint64_t batch)
{
    struct handover_slot *slot = current.slot;

    if (!slot) return false;
    slot->node = node;
    slot->batch = batch;
    slot->result = current.result;
    atomic_store(&slot->state, NOTED);
    return true;
}

void replay_failed(void)
{
    if (current.slot) atomic_store(&current.slot->state, BEGUN);
}

void replay_done(void)
{
    if (!current.slot) return;
    current.slot->result = current.result;
    atomic_store(&current.slot->state, DONE);
}

void replay_resolve(struct handover *h, uint32_t node, uint64_t batch)
{
    struct handover_page *page = h->page;

    for (size_t i = 0; i < HANDOVER_SLOTS; i++) {
        struct handover_slot *slot = &page->slots[i];

        if (atomic_load(&slot->state) != NOTED || slot->node != node || slot->generation == page->generation) continue;
        atomic_store(&slot->state, slot->batch <= batch ? DONE : FREE);
    }
}
