#include "listing.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"

struct reader {
    struct listing listing;
    size_t item_room, names_size, names_room;
};

static bool is_dot(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static int reserve(struct reader *reader, size_t name_size)
{
    struct listing *listing = &reader->listing;
    void *grown;

    if (listing->count == reader->item_room) {
        size_t room = reader->item_room ? reader->item_room * 2 : 32;

        grown = reallocarray(listing->items, room, sizeof(*listing->items));
        if (!grown) return -ENOMEM;
        listing->items = grown;
        reader->item_room = room;
    }
    if (reader->names_size + name_size > reader->names_room) {
        size_t room = (reader->names_size + name_size) * 2;

        grown = realloc(listing->names, room);
        if (!grown) return -ENOMEM;
        listing->names = grown;
        reader->names_room = room;
    }
    return 0;
}

static int add(struct reader *reader, const struct dirent *entry)
{
    size_t size = strlen(entry->d_name) + 1;
    int r = reserve(reader, size);

    if (r < 0) return r;
    reader->listing.items[reader->listing.count++].ino = entry->d_ino;
    memcpy(reader->listing.names + reader->names_size, entry->d_name, size);
    reader->names_size += size;
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct listing_item *left = a, *right = b;

    if (left->ino != right->ino) return left->ino < right->ino ? -1 : 1;
    return strcmp(left->name, right->name);
}

static void finish(struct listing *listing)
{
    const char *name = listing->names;

    for (size_t i = 0; i < listing->count; i++) {
        listing->items[i].name = name;
        name += strlen(name) + 1;
    }
    if (listing->count) qsort(listing->items, listing->count, sizeof(*listing->items), compare);
}

static int read_all(struct reader *reader, DIR *directory)
{
    struct dirent *entry;

    while (errno = 0, (entry = readdir(directory))) {
        int r = is_dot(entry->d_name) ? 0 : add(reader, entry);

        if (r < 0) return r;
    }
    return -errno;
}

int listing_read(struct listing *ret_listing, int fd)
{
    struct reader reader = {0};
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *directory;
    int r;

    if (copy < 0) return -errno;
    directory = fdopendir(copy);
    if (!directory) {
        r = -errno;
        close(copy);
        return r;
    }
    rewinddir(directory); /* the copy shares its offset with who read `fd` before */
    r = read_all(&reader, directory);
    closedir(directory);
    if (r < 0) {
        listing_free(&reader.listing);
        return r;
    }
    finish(&reader.listing);
    *ret_listing = reader.listing;
    return 0;
}

void listing_free(struct listing *listing)
{
    free(listing->items);
    free(listing->names);
    *listing = (struct listing){0};
}
