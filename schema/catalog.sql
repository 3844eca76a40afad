-- catalog.db: the owner's interface to a store: its images, its nodes, its settings.
--
-- Made to be written with the sqlite3 shell while the store is mounted, so every rule is kept here: a constraint's name
-- is the sentence that SQLite prints when it refuses. The shell does not enforce REFERENCES by default, so triggers do.
--
--     INSERT INTO node(serial, mac) VALUES('000000008a4232c8', 'b8:27:eb:42:32:c8');

PRAGMA application_id = 0x636f7063; -- "copc"
PRAGMA user_version = 1;

CREATE TABLE store (
    one     INTEGER PRIMARY KEY DEFAULT 1 CONSTRAINT "store has one row" CHECK (one = 1),
    key     BLOB    NOT NULL  -- 32 secret bytes, from which the numbers in NFS file handles are made
            CONSTRAINT "key must be 32 bytes" CHECK (length(key) = 32),
    format  INTEGER NOT NULL DEFAULT 1, -- of the store's directories, which only the program reads and writes
    created INTEGER NOT NULL DEFAULT (unixepoch()) -- seconds since 1970
) STRICT;

CREATE TABLE setting (
    name  TEXT NOT NULL PRIMARY KEY -- default_image: of nodes whose row names none; server, network: see coppice
                                    -- init; dhcp: none, proxy or full, see coppice dnsmasq; keep_automatic: see
                                    -- coppice reset
          CONSTRAINT "name must not be empty" CHECK (name <> ''),
    value TEXT NOT NULL
) STRICT;

CREATE TABLE image (
    name   TEXT    NOT NULL PRIMARY KEY -- of the directory images/<name>
           CONSTRAINT "name must be 1-64 of A-Z a-z 0-9 . _ - and not start with . or -"
           CHECK (length(name) BETWEEN 1 AND 64 AND length(CAST(name AS BLOB)) = length(name)
                  AND name GLOB '[A-Za-z0-9_]*' AND name NOT GLOB '*[^A-Za-z0-9._-]*'),
    source TEXT    NOT NULL DEFAULT '', -- what it was imported from, for show
    boot   TEXT    NOT NULL DEFAULT 'boot' -- its boot directory, relative to its root
           CONSTRAINT "boot must be a path inside the image, like boot or boot/firmware"
           CHECK (boot <> '' AND boot NOT GLOB '/*' AND instr(boot, char(0)) = 0
                  AND '/' || boot || '/' NOT GLOB '*/../*'),
    added  INTEGER NOT NULL DEFAULT (unixepoch()), -- seconds since 1970
    files  INTEGER NOT NULL DEFAULT 0 -- inodes
           CONSTRAINT "files must not be negative" CHECK (files >= 0),
    bytes  INTEGER NOT NULL DEFAULT 0 -- of regular files, apparent
           CONSTRAINT "bytes must not be negative" CHECK (bytes >= 0)
) STRICT;

CREATE TABLE node (
    serial   TEXT    NOT NULL -- the name of its directory in the view, and in nodes/
             CONSTRAINT "serial must be 1-64 of A-Z a-z 0-9 . _ - and not start with . or -"
             CHECK (length(serial) BETWEEN 1 AND 64 AND length(CAST(serial AS BLOB)) = length(serial)
                    AND serial GLOB '[A-Za-z0-9_]*' AND serial NOT GLOB '*[^A-Za-z0-9._-]*'),
    mac      TEXT    UNIQUE -- NULL: not known, no link in tftpboot/
             CONSTRAINT "mac must be six lower-case hex pairs with colons, like b8:27:eb:42:32:c8"
             CHECK (length(CAST(mac AS BLOB)) = 17 AND mac GLOB '[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:'
                    || '[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]'),
    ip       TEXT    UNIQUE -- NULL: not known
             CONSTRAINT "ip must be an IPv4 address, like 192.168.1.20"
             CHECK (CASE WHEN ip IS NULL THEN 1
                         WHEN ip GLOB '*[^0-9.]*' OR length(CAST(ip AS BLOB)) NOT BETWEEN 7 AND 15 THEN 0
                         WHEN NOT json_valid('[' || replace(ip, '.', ',') || ']') THEN 0
                         WHEN json_array_length('[' || replace(ip, '.', ',') || ']') <> 4 THEN 0
                         ELSE max(json_extract('[' || replace(ip, '.', ',') || ']', '$[0]'),
                                  json_extract('[' || replace(ip, '.', ',') || ']', '$[1]'),
                                  json_extract('[' || replace(ip, '.', ',') || ']', '$[2]'),
                                  json_extract('[' || replace(ip, '.', ',') || ']', '$[3]')) <= 255 END),
    hostname TEXT    -- NULL: not given; a dotted name is allowed
             CONSTRAINT "hostname must be labels of 1-63 letters, digits and inner hyphens, like node-7 or node-7.lan"
             CHECK (length(hostname) BETWEEN 1 AND 253 AND length(CAST(hostname AS BLOB)) = length(hostname)
                    AND hostname NOT GLOB '*[^A-Za-z0-9.-]*'
                    AND '.' || hostname || '.' NOT GLOB '*..*'
                    AND '.' || hostname || '.' NOT GLOB '*.-*'
                    AND '.' || hostname || '.' NOT GLOB '*-.*'
                    -- 64 times [^.] in a row: a label that is too long
                    AND hostname NOT GLOB '*' || replace(hex(zeroblob(32)), '0', '[^.]') || '*'),
    image    TEXT    REFERENCES image(name), -- NULL: setting default_image
    added    INTEGER NOT NULL DEFAULT (unixepoch()), -- seconds since 1970
    PRIMARY KEY (serial) -- last, so that SQLite names it first when more than one of a row's values is taken
) STRICT;

-- What stays of a node when its row goes: its changes on the disk are found again by it. Written by the program alone.
-- A row is never deleted, so that no number is given out twice; a node whose changes are purged leaves a row without
-- serial.
CREATE TABLE identity (
    number INTEGER PRIMARY KEY AUTOINCREMENT -- its share of every NFS file handle
           CONSTRAINT "number must be 1-1048575" CHECK (number BETWEEN 1 AND 1048575),
    serial TEXT    UNIQUE, -- of the node; NULL: nobody's any more
    image  TEXT    REFERENCES image(name) -- what its changes stand on; NULL: it has none yet
) STRICT;

-- Every node with all that is known of it. base: the image its view stands on; NULL: there is no image yet.
CREATE VIEW node_view AS
SELECT node.serial, node.mac, node.ip, node.hostname, node.image, node.added, identity.number,
       coalesce(identity.image, node.image, (SELECT value FROM setting WHERE name = 'default_image')) AS base
  FROM node JOIN identity ON identity.serial = node.serial;

-- Who needs an image: nodes that stand on it, and nodes without a row whose changes stand on it.
CREATE VIEW image_user AS
SELECT base AS image, serial FROM node_view WHERE base IS NOT NULL
 UNION
SELECT image, serial FROM identity WHERE image IS NOT NULL;

CREATE TRIGGER store_insert BEFORE INSERT ON store WHEN EXISTS (SELECT 1 FROM store)
BEGIN
    SELECT RAISE(ABORT, 'store: has its one row already');
END;

CREATE TRIGGER store_delete BEFORE DELETE ON store
BEGIN
    SELECT RAISE(ABORT, 'store: its row holds the key of all file handles and must stay');
END;

CREATE TRIGGER store_update BEFORE UPDATE OF one, key ON store
BEGIN
    SELECT RAISE(ABORT, 'store: the key of all file handles must stay as it is');
END;

CREATE TRIGGER setting_insert BEFORE INSERT ON setting
WHEN NEW.name = 'default_image' AND NOT EXISTS (SELECT 1 FROM image WHERE name = NEW.value)
BEGIN
    SELECT RAISE(ABORT, 'setting default_image: there is no image of that name; see SELECT name FROM image');
END;

CREATE TRIGGER setting_update BEFORE UPDATE ON setting
WHEN NEW.name = 'default_image' AND NOT EXISTS (SELECT 1 FROM image WHERE name = NEW.value)
BEGIN
    SELECT RAISE(ABORT, 'setting default_image: there is no image of that name; see SELECT name FROM image');
END;

CREATE TRIGGER setting_rename BEFORE UPDATE OF name ON setting WHEN NEW.name <> OLD.name
BEGIN
    SELECT RAISE(ABORT, 'setting.name: cannot be changed; insert a new setting');
END;

-- Without it, every node that stands on the default image would lose its root.
CREATE TRIGGER setting_delete BEFORE DELETE ON setting
WHEN OLD.name = 'default_image' AND EXISTS (SELECT 1 FROM image)
BEGIN
    SELECT RAISE(ABORT, 'setting default_image: cannot be removed while there are images; set it to another image');
END;

CREATE TRIGGER image_insert AFTER INSERT ON image
WHEN NOT EXISTS (SELECT 1 FROM setting WHERE name = 'default_image')
BEGIN
    INSERT INTO setting(name, value) VALUES ('default_image', NEW.name);
END;

CREATE TRIGGER image_rename BEFORE UPDATE OF name ON image WHEN NEW.name IS NOT OLD.name
BEGIN
    SELECT RAISE(ABORT, 'image.name: cannot be changed');
END;

CREATE TRIGGER image_delete BEFORE DELETE ON image
WHEN EXISTS (SELECT 1 FROM image_user WHERE image = OLD.name)
BEGIN
    SELECT RAISE(ABORT, 'image: nodes stand on it; see SELECT * FROM image_user');
END;

CREATE TRIGGER image_deleted AFTER DELETE ON image
WHEN OLD.name = (SELECT value FROM setting WHERE name = 'default_image')
BEGIN
    DELETE FROM setting WHERE name = 'default_image' AND NOT EXISTS (SELECT 1 FROM image);
    UPDATE setting SET value = (SELECT name FROM image ORDER BY added, rowid LIMIT 1) WHERE name = 'default_image';
END;

CREATE TRIGGER node_insert BEFORE INSERT ON node
BEGIN
    SELECT RAISE(ABORT, 'node.image: there is no image of that name; see SELECT name FROM image')
     WHERE NEW.image IS NOT NULL AND NOT EXISTS (SELECT 1 FROM image WHERE name = NEW.image);
    SELECT RAISE(ABORT, 'node.image: its changes stand on another image; see SELECT * FROM identity')
     WHERE EXISTS (SELECT 1 FROM identity WHERE serial = NEW.serial AND image <> NEW.image);
END;

CREATE TRIGGER node_inserted AFTER INSERT ON node
WHEN NOT EXISTS (SELECT 1 FROM identity WHERE serial = NEW.serial)
BEGIN
    INSERT INTO identity(serial) VALUES (NEW.serial);
END;

CREATE TRIGGER node_rename BEFORE UPDATE OF serial ON node WHEN NEW.serial IS NOT OLD.serial
BEGIN
    SELECT RAISE(ABORT, 'node.serial: cannot be changed; insert a new node');
END;

CREATE TRIGGER node_image BEFORE UPDATE OF image ON node
BEGIN
    SELECT RAISE(ABORT, 'node.image: there is no image of that name; see SELECT name FROM image')
     WHERE NEW.image IS NOT NULL AND NOT EXISTS (SELECT 1 FROM image WHERE name = NEW.image);
    SELECT RAISE(ABORT, 'node.image: its changes stand on another image; see SELECT * FROM identity')
     WHERE EXISTS (SELECT 1 FROM identity WHERE serial = NEW.serial AND image <> NEW.image);
END;

-- RAISE, since an INSERT OR IGNORE of the user would pass over a constraint here and leave a node without a number.
CREATE TRIGGER identity_insert BEFORE INSERT ON identity
BEGIN
    SELECT RAISE(ABORT, 'node: all 1048575 numbers have been given out')
     WHERE (SELECT seq FROM sqlite_sequence WHERE name = 'identity') >= 1048575;
    SELECT RAISE(ABORT, 'identity: is written by the program alone')
     WHERE EXISTS (SELECT 1 FROM identity WHERE number = NEW.number OR serial = NEW.serial);
END;

CREATE TRIGGER identity_delete BEFORE DELETE ON identity
BEGIN
    SELECT RAISE(ABORT, 'identity: its rows must stay, so that no number is given out twice');
END;

CREATE TRIGGER identity_number BEFORE UPDATE OF number ON identity WHEN NEW.number IS NOT OLD.number
BEGIN
    SELECT RAISE(ABORT, 'identity.number: cannot be changed');
END;

CREATE TRIGGER identity_serial BEFORE UPDATE OF serial ON identity WHEN NEW.serial IS NOT OLD.serial
BEGIN
    SELECT RAISE(ABORT, 'identity.serial: cannot be changed') WHERE NEW.serial IS NOT NULL;
    SELECT RAISE(ABORT, 'identity.serial: the node still has a row')
     WHERE EXISTS (SELECT 1 FROM node WHERE serial = OLD.serial);
END;

CREATE TRIGGER identity_image BEFORE UPDATE OF image ON identity
WHEN NEW.image IS NOT NULL AND NOT EXISTS (SELECT 1 FROM image WHERE name = NEW.image)
BEGIN
    SELECT RAISE(ABORT, 'identity.image: there is no image of that name; see SELECT name FROM image');
END;
