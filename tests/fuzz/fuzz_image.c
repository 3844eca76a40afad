/* fuzz_image: index.db of an image. What is opened is whole in itself. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "image.h"
#include "io.h"

static int take_xattr(const char *name, const void *value, size_t size, void *data)
{
    (void)value;
    *(size_t *)data += strlen(name) + size;
    return 0;
}

static void use(struct image *image)
{
    char target[PATH_MAX];
    size_t sum = 0;

    for (uint32_t ino = 1; ino <= image_count(image); ino++) {
        const struct image_inode *inode = image_inode(image, ino);

        for (uint32_t i = 0; i < inode->entries; i++) {
            const struct image_entry *entry = image_entry(image, inode->first_entry + i);

            fuzz_must(entry->ino >= 1 && entry->ino <= image_count(image));
            fuzz_must(image_lookup(image, ino, entry->name, entry->length) == inode->first_entry + i);
        }
        image_xattrs(image, ino, take_xattr, &sum);
        image_readlink(image, ino, target, sizeof(target));
        if (S_ISREG(inode->mode)) {
            int fd = image_open_file(image, ino);

            if (fd >= 0) close(fd);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int images_fd = -1;
    struct image *image;
    int r;

    if (images_fd < 0) {
        images_fd = fuzz_empty("images");
        close(fuzz_empty("images/fuzz"));
        close(fuzz_empty("images/fuzz/rootfs"));
    }
    fuzz_put("images/fuzz/index.db", data, size);
    r = image_open(&image, images_fd, fuzz_path("images"), "fuzz");
    fuzz_must(r == 0 || r == -EIO || r == -ENOMEM);
    if (r < 0) return 0;
    use(image);
    image_unref(image);
    return 0;
}
