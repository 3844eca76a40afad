-- index.db: the names and attributes of one unpacked image, written once by its import and never again.
--
-- Inodes are numbered densely from 1, the root, every directory before what it holds. What is read from
-- here is checked as it is loaded (src/image.c), so the tables need no constraints of their own.

PRAGMA application_id = 0x636f7069; -- "copi"
PRAGMA user_version = 1;

CREATE TABLE inode (
    ino    INTEGER PRIMARY KEY,
    mode   INTEGER NOT NULL, -- type and permissions, as st_mode
    uid    INTEGER NOT NULL,
    gid    INTEGER NOT NULL,
    rdev   INTEGER NOT NULL, -- device number of a device, as st_rdev; 0 for anything else
    nlink  INTEGER NOT NULL, -- names inside the image; of a directory, 2 and one for each directory in it
    size   INTEGER NOT NULL, -- bytes; of a symlink, of its target
    blocks INTEGER NOT NULL, -- of 512 bytes, on the disk of the import
    mtime  INTEGER NOT NULL, -- nanoseconds since 1970, as ctime
    ctime  INTEGER NOT NULL, -- when the import made it
    parent INTEGER NOT NULL, -- of a directory: the directory that holds it, the root holds itself; 0 for anything else
    target BLOB,             -- of a symlink: where it points; NULL for anything else
    digest BLOB              -- of a regular file: SHA-256 of its contents at import; NULL for anything else, and
                             -- for files with more than a GiB of holes, which take too long to read
) STRICT;

CREATE TABLE dirent (
    parent INTEGER NOT NULL, -- the directory
    cookie INTEGER NOT NULL, -- its place in the directory, from 1: the order in which a node sees the names
    name   BLOB    NOT NULL, -- 1 to 255 bytes, any but '/' and NUL
    ino    INTEGER NOT NULL, -- what it names; two names of one inode are hard links
    type   INTEGER NOT NULL, -- DT_*, the type in the inode's mode
    PRIMARY KEY (parent, cookie)
) STRICT, WITHOUT ROWID;

CREATE TABLE xattr (
    ino   INTEGER NOT NULL,
    name  TEXT    NOT NULL, -- with its namespace, as in security.capability
    value BLOB    NOT NULL, -- as getxattr(2) gave it
    PRIMARY KEY (ino, name)
) STRICT, WITHOUT ROWID;
