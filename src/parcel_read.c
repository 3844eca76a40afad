#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "import_bytes.h"
#include "import_log.h"
#include "import_stream.h"
#include "io.h"
#include "log.h"
#include "parcel.h"
#include "parcel_member.h"

#define TIDY_EVERY 1024 /* members; else the WAL would grow as long as the tar */

struct parcel_reader {
    const char *name;
    struct import_bytes *bytes;
    struct import_stream *stream;
    struct archive_entry *entry; /* the next member; NULL: the end */
    char image[256];
    unsigned count;
};

/* The exporter's first member is the root. */
static void read_image(struct parcel_reader *p)
{
    const char *name;
    const void *value;
    size_t size;

    if (!p->entry) return;
    archive_entry_xattr_reset(p->entry);
    while (archive_entry_xattr_next(p->entry, &name, &value, &size) == ARCHIVE_OK) {
        _cleanup_free_ char *text = name && strcmp(name, PARCEL_IMAGE) == 0 ? strndup(value, size) : NULL;

        if (text && sscanf(text, "%u %255[^\n]", &p->count, p->image) != 2) p->image[0] = '\0';
    }
}

int parcel_open(struct parcel_reader **ret_reader, int fd, const char *name)
{
    _cleanup_parcel_ struct parcel_reader *p = calloc(1, sizeof(*p));
    int r;

    if (!p) return -ENOMEM;
    p->name = name;
    r = import_bytes_open(&p->bytes, fd, name, NULL);
    if (r == 0) r = import_stream_open(&p->stream, p->bytes, name, NULL);
    if (r == 0) r = import_stream_next(p->stream, &p->entry);
    if (r < 0) return r;
    if (r == 0) p->entry = NULL;
    read_image(p);
    *ret_reader = io_take(p);
    return 0;
}

void parcel_close(struct parcel_reader *p)
{
    if (!p) return;
    if (p->stream) import_stream_close(p->stream);
    import_bytes_close(p->bytes);
    free(p);
}

const char *parcel_image(const struct parcel_reader *p, uint32_t *ret_count)
{
    *ret_count = p->count;
    return p->image[0] ? p->image : NULL;
}

/* The member's contents. */
static int write_contents(void *data, struct view *v, uint64_t ino)
{
    struct parcel_reader *p = data;
    const void *block;
    int64_t offset;
    size_t size;
    int r;

    while ((r = import_stream_data(p->stream, &block, &size, &offset)) > 0) {
        r = parcel_member_write(v, ino, block, size, offset);
        if (r < 0) return import_failed(NULL, r, "%s: member '%s': %s", p->name, archive_entry_pathname(p->entry), log_reason(r));
    }
    return r < 0 ? -ECANCELED : 0;
}

int parcel_apply(struct parcel_reader *p, struct view *view)
{
    struct parcel_member m = {.view = view, .contents = write_contents, .data = p};
    int r = 0;

    for (unsigned count = 1; p->entry; count++) {
        if (count % TIDY_EVERY == 0) view_tidy(view, 0, 0);
        r = parcel_member_apply(&m, p->entry);
        if (r < 0 && r != -ECANCELED)
            import_failed(NULL, r, "%s: member '%s': %s", p->name, archive_entry_pathname(p->entry),
                          r == -EINVAL ? "its name, its owner or its ACL cannot be taken over" : log_reason(r));
        if (r < 0) break;
        r = import_stream_next(p->stream, &p->entry);
        if (r <= 0) break;
    }
    if (r == 0 && (r = parcel_member_finish(&m)) < 0) import_failed(NULL, r, "%s: %s", p->name, log_reason(r));
    parcel_member_clear(&m);
    return r;
}
