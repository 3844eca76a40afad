#include "delta_rows.h"

bool delta_knows_end(const struct delta *d, uint64_t object)
{
    return object >= d->first_new || inomap_get(&d->known_ends, object);
}

int delta_know_end(struct delta *d, uint64_t object)
{
    return delta_knows_end(d, object) ? 0 : inomap_add(&d->known_ends, object, 1);
}
