/* fuzz_archive: a tar archive, packed or not: nothing it holds may land outside the tree. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "import_archive.h"
#include "import_bytes.h"
#include "io.h"

static void check_outside(int top_fd)
{
    struct stat st;

    fuzz_must(fstatat(top_fd, "sentinel", &st, AT_SYMLINK_NOFOLLOW) == 0);
    fuzz_must(S_ISREG(st.st_mode) && st.st_size == 6 && st.st_nlink == 1 && (st.st_mode & 07777) == 0600);
    /* rootfs is the one directory in it. */
    fuzz_must(fstat(top_fd, &st) == 0 && st.st_nlink == 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_close_ int fd = fuzz_file(data, size), top_fd = fuzz_empty("top"), rootfs_fd = -1;
    _cleanup_bytes_ struct import_bytes *bytes = NULL;

    fuzz_put("top/sentinel", "inside", 6);
    rootfs_fd = fuzz_empty("top/rootfs");
    if (import_bytes_open(&bytes, fd, "fuzz", NULL) == 0) import_archive(bytes, "fuzz", rootfs_fd, NULL);
    check_outside(top_fd);
    return 0;
}
