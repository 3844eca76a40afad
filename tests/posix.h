/* posix: error codes as a table: each row is one system call that must end with the errno its manual page names.
 *
 * The rows run in the directory that posix_make_fixture() fills; none of them changes it. */
#pragma once

#include <stddef.h>

enum posix_who { AS_ROOT = 1, AS_USER = 2, AS_BOTH = 3 };

struct posix_row {
    const char *name; /* the behaviour */
    enum posix_who who;
    int (*call)(const struct posix_row *row); /* as a system call: negative with errno, or not */
    const char *a, *b;                        /* names */
    long x, y;                                /* numbers: flags, modes, sizes, as the call has it */
    int expected;                             /* errno; 0: done */
};

extern const struct posix_row posix_rows[];
extern const size_t posix_row_count;

/* Makes everything that the rows name, below the existing directory `path`. */
void posix_make_fixture(const char *path);

/* Runs the rows of `who` in the working directory; the number that ended otherwise, each printed with `where`. */
int posix_run(enum posix_who who, const char *where);

/* Texts too long for a literal: a name of 255 and of 256 bytes, a path of 4,096 bytes and one that just fits. */
extern char posix_name_255[], posix_name_256[], posix_path_4096[], posix_path_4095[];
void posix_make_names(void);

/* ---- the calls ---- */
int call_open(const struct posix_row *row);             /* a, x flags, y mode */
int call_creat(const struct posix_row *row);            /* a */
int call_openat_file(const struct posix_row *row);      /* b relative to the open file a */
int call_stat(const struct posix_row *row);             /* a */
int call_access(const struct posix_row *row);           /* a, x mode */
int call_chdir(const struct posix_row *row);            /* a */
int call_mkdir(const struct posix_row *row);            /* a, x mode */
int call_rmdir(const struct posix_row *row);            /* a */
int call_unlink(const struct posix_row *row);           /* a */
int call_link(const struct posix_row *row);             /* a to b */
int call_symlink(const struct posix_row *row);          /* a target, b name */
int call_readlink(const struct posix_row *row);         /* a, x size */
int call_rename(const struct posix_row *row);           /* a to b */
int call_renameat2(const struct posix_row *row);        /* a to b, x flags */
int call_mknod(const struct posix_row *row);            /* a, x mode, y device */
int call_truncate(const struct posix_row *row);         /* a, x length */
int call_ftruncate(const struct posix_row *row);        /* a, x length, y flags of open */
int call_chmod(const struct posix_row *row);            /* a, x mode */
int call_chown(const struct posix_row *row);            /* a, x uid, y gid */
int call_lchown(const struct posix_row *row);           /* a, x uid, y gid */
int call_utimens(const struct posix_row *row);          /* a, x nanoseconds */
int call_utimens_now(const struct posix_row *row);      /* a */
int call_getxattr(const struct posix_row *row);         /* a, b attribute, x size */
int call_setxattr(const struct posix_row *row);         /* a, b attribute, x flags, y size */
int call_lsetxattr(const struct posix_row *row);        /* a, b attribute, x flags, y size */
int call_removexattr(const struct posix_row *row);      /* a, b attribute */
int call_listxattr(const struct posix_row *row);        /* a, x size */
int call_read(const struct posix_row *row);             /* a, x flags of open */
int call_write(const struct posix_row *row);            /* a, x flags of open */
int call_pread_at(const struct posix_row *row);         /* a, x offset */
int call_pwrite_at(const struct posix_row *row);        /* a, x offset */
int call_lseek(const struct posix_row *row);            /* a, x offset, y whence */
int call_fallocate(const struct posix_row *row);        /* a, x mode, y length; a length of -1 is an offset of -1 */
int call_fallocate_read(const struct posix_row *row);   /* a open for reading */
int call_copy_range(const struct posix_row *row);       /* a to b, x flags of call, y flags of b's open */
int call_opendir(const struct posix_row *row);          /* a */
int call_getdents_file(const struct posix_row *row);    /* a */
int call_mmap(const struct posix_row *row);             /* a, x flags of open, y protection */
int call_execute(const struct posix_row *row);          /* a */
int call_fchdir(const struct posix_row *row);           /* a, x flags of open */
int call_limited_write(const struct posix_row *row);    /* a, x limit on the file size, y offset */
int call_limited_truncate(const struct posix_row *row); /* a, x limit, y length */
