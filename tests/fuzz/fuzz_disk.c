/* fuzz_disk: a disk image: its partitions, and ext2-4 in them as libext2fs reads it. The kernel mounts none here. */
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "import_ext.h"
#include "import_partitions.h"
#include "io.h"

static void read_ext(int fd, const struct import_partition *partition)
{
    struct import_ext ext = {.source = "fuzz", .fd = fd, .partition = partition};
    _cleanup_close_ int to_fd = fuzz_empty("to");
    bool is_dirty;

    if (import_ext_check(&ext, &is_dirty) < 0) return;
    import_ext_has(&ext, "etc/fstab");
    import_ext_has(&ext, "link/loop");
    if (!is_dirty) import_ext_copy(&ext, to_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_close_ int fd = fuzz_file(data, size);
    struct import_partitions partitions;

    fuzz_directory();
    import_partitions_are_in(data, size);
    if (import_partitions_read(&partitions, fd, "fuzz", NULL) < 0) return 0;
    for (size_t i = 0; i < partitions.count; i++) {
        const struct import_partition *p = &partitions.items[i];

        fuzz_must(p->start >= 0 && p->size >= 0 && (uint64_t)p->start + (uint64_t)p->size <= size);
        import_partition_is(p, "UUID=0f6e2d7c-58a0-4c3c-9b51-3d2b5f1f0c11");
        import_partition_name(p);
        if (strncmp(p->type, "ext", 3) == 0) read_ext(fd, p);
    }
    import_partitions_free(&partitions);
    return 0;
}
