-- delta.db: everything in which one node's root differs from its image.
--
-- A view is the image plus this file. Inodes are numbered within the node: 1 is the root of the view, inode i of the
-- image (i > 1) is view.image_base + i, everything else was taken from view.next_ino. A number is never used twice.

PRAGMA application_id = 0x636f7064; -- "copd"
PRAGMA user_version = 4;

CREATE TABLE view (
    id          INTEGER PRIMARY KEY CHECK (id = 1), -- the one row
    image       TEXT    NOT NULL, -- name of the image below
    image_count INTEGER NOT NULL, -- its highest inode number: tells an image of the same name that is another one
    image_base  INTEGER NOT NULL, -- inode i of the image, the root apart, is number image_base + i here
    shift       INTEGER NOT NULL, -- added to every number but the root's before it leaves the daemon; a reset raises it, so that old handles die
    frozen      INTEGER NOT NULL DEFAULT 0, -- objects of lower numbers are shared with snapshots, and never written again
    next_ino    INTEGER NOT NULL -- numbers from here on were never given out, to inodes or objects; raised in steps, and durably, ahead of use
) STRICT;

-- How far this file is, for a daemon that takes over from one that died: see src/replay.h.
CREATE TABLE progress (
    id    INTEGER PRIMARY KEY CHECK (id = 1), -- the one row
    batch INTEGER NOT NULL -- number of the last committed transaction that noted its operations
) STRICT;
INSERT INTO progress(id, batch) VALUES (1, 0);

CREATE TABLE inode (
    ino       INTEGER PRIMARY KEY, -- its number in this node
    image_ino INTEGER NOT NULL, -- the image's inode it was copied up from, whose contents chunks of source 0 show; 0: none
    mode      INTEGER NOT NULL, -- type and permissions, as st_mode
    uid       INTEGER NOT NULL,
    gid       INTEGER NOT NULL,
    rdev      INTEGER NOT NULL, -- device number of a device
    nlink     INTEGER NOT NULL, -- 0: no name left. Stays for an inode of the image, so that its handle is known to be dead
    size      INTEGER NOT NULL, -- bytes
    atime     INTEGER NOT NULL, -- nanoseconds since 1970, as the two below
    mtime     INTEGER NOT NULL,
    ctime     INTEGER NOT NULL,
    parent    INTEGER NOT NULL, -- of a directory: the directory that holds it; 0 for anything else
    object    INTEGER,          -- own contents: NULL none, 0 all in table content, else the file objects/<object>
    chunked   INTEGER NOT NULL, -- 1: parts listed in table chunk come from elsewhere
    grown     INTEGER NOT NULL DEFAULT 0 -- 1: the object is new, or longer, and no fsync has said since that its length is on the disk
) STRICT;

-- Objects that a power cut may have left shorter than size says.
CREATE INDEX grown ON inode(ino) WHERE grown = 1;

-- Inodes whose last name went while the kernel still used them; ended ones keep mode 0.
CREATE INDEX orphan ON inode(ino) WHERE nlink = 0 AND mode <> 0;

CREATE TABLE dirent (
    parent INTEGER NOT NULL, -- the directory's inode
    slot   INTEGER NOT NULL, -- 26 bits of the name's keyed hash, then 4 bits that tell names of one hash apart; readdir's cookie
    name   BLOB    NOT NULL, -- 1-255 bytes
    ino    INTEGER NOT NULL, -- what it names; 0: a whiteout, which hides the image's entry of this name
    type   INTEGER NOT NULL, -- DT_* of readdir(3)
    PRIMARY KEY (parent, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE content (
    ino  INTEGER PRIMARY KEY, -- a symlink, or a regular file that is small, or was when its object was made
    data BLOB NOT NULL        -- its target; all of its bytes; the bytes that chunks of source 1 show, or may show again after a power cut
) STRICT;

-- Which parts of a file are not (yet) its own. What no chunk covers is in the file's object, or zero.
CREATE TABLE chunk (
    ino    INTEGER NOT NULL,
    start  INTEGER NOT NULL, -- first byte, on a 4 KiB boundary
    end    INTEGER NOT NULL, -- one past the last byte; chunks of a file never overlap
    source INTEGER NOT NULL, -- 0: the same bytes of the image's inode inode.image_ino; 1: of the row in content; else of
                           -- this object, which was the file's own until a snapshot came to share it
    PRIMARY KEY (ino, start)
) STRICT, WITHOUT ROWID;

-- Parts cut out of chunks because the object has newer bytes, of which nobody knows yet that they are on the disk. After a
-- power cut they are chunks again where the object has no bytes.
CREATE TABLE undo (
    ino    INTEGER NOT NULL, -- as in chunk, whose row this was
    start  INTEGER NOT NULL,
    end    INTEGER NOT NULL,
    source INTEGER NOT NULL,
    PRIMARY KEY (ino, start)
) STRICT, WITHOUT ROWID;

-- Inodes whose object is new, its name perhaps not on the disk.
CREATE TABLE fresh (
    ino  INTEGER PRIMARY KEY,
    size INTEGER NOT NULL -- of the file when the object was made; only told, when the object was lost
) STRICT;

CREATE TABLE xattr (
    ino   INTEGER NOT NULL, -- an inode of table inode; an inode with a row has its attributes here, none from the image
    name  TEXT    NOT NULL, -- with its namespace: user.mime_type
    value BLOB    NOT NULL,
    PRIMARY KEY (ino, name)
) STRICT, WITHOUT ROWID;
