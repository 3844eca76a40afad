-- The snapshots of nodes, a part of catalog.db from version 3 on. A row is the wish for one; a daemon makes it within a
-- second, else the next daemon, or command that does something to a node:
--
--     INSERT INTO snapshot(node, name) VALUES('000000008a4232c8', 'before-upgrade');
--
-- The files are in nodes/<node>/snapshots/<name>/. Files without a row get one, so that a row lost with an old copy of
-- the catalog loses no snapshot; deleting a row is noted in snapshot_removal, and removes the files.

PRAGMA user_version = 3;

CREATE TABLE snapshot (
    node      TEXT    NOT NULL, -- serial
    name      TEXT    NOT NULL -- of its directory
              CONSTRAINT "name must be 1-64 of A-Z a-z 0-9 . _ - and not start with . or -"
              CHECK (length(name) BETWEEN 1 AND 64 AND length(CAST(name AS BLOB)) = length(name)
                     AND name GLOB '[A-Za-z0-9_]*' AND name NOT GLOB '*[^A-Za-z0-9._-]*'),
    note      TEXT    NOT NULL DEFAULT '', -- the owner's
    added     INTEGER NOT NULL DEFAULT (unixepoch()), -- seconds since 1970: when it was wished for
    made      INTEGER, -- seconds since 1970: the instant that it shows; NULL: it is not made yet
    image     TEXT    REFERENCES image(name), -- what it stands on; NULL: it is not made yet
    automatic INTEGER NOT NULL DEFAULT 0 -- 1: taken before a reset or a rebase; setting keep_automatic says how many stay
              CONSTRAINT "automatic must be 0 or 1" CHECK (automatic IN (0, 1)),
    PRIMARY KEY (node, name)
) STRICT;

-- Rows of snapshot that were deleted and whose files are perhaps still there. Written by a trigger and the program.
CREATE TABLE snapshot_removal (
    node TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (node, name)
) STRICT;

DROP VIEW image_user;
DROP TRIGGER node_image;

-- Who needs an image: nodes that stand on it, nodes without a row whose changes stand on it, snapshots (as SERIAL@NAME).
CREATE VIEW image_user AS
SELECT base AS image, serial FROM node_view WHERE base IS NOT NULL
 UNION
SELECT image, serial FROM identity WHERE image IS NOT NULL
 UNION
SELECT image, node || '@' || name FROM snapshot WHERE image IS NOT NULL;

CREATE TRIGGER node_image BEFORE UPDATE OF image ON node
BEGIN
    SELECT RAISE(ABORT, 'node.image: there is no image of that name; see SELECT name FROM image')
     WHERE NEW.image IS NOT NULL AND NOT EXISTS (SELECT 1 FROM image WHERE name = NEW.image);
    SELECT RAISE(ABORT, 'node.image: its changes stand on another image; coppice rebase takes them to a new one')
     WHERE EXISTS (SELECT 1 FROM identity WHERE serial = NEW.serial AND image <> NEW.image);
END;

CREATE TRIGGER snapshot_insert BEFORE INSERT ON snapshot
BEGIN
    SELECT RAISE(ABORT, 'snapshot.node: there is no node of that serial; see SELECT serial FROM node')
     WHERE NOT EXISTS (SELECT 1 FROM identity WHERE serial = NEW.node)
        OR (NEW.made IS NULL AND NOT EXISTS (SELECT 1 FROM node WHERE serial = NEW.node));
    SELECT RAISE(ABORT, 'snapshot: the earlier one of that name is still being removed')
     WHERE NEW.made IS NULL AND EXISTS (SELECT 1 FROM snapshot_removal WHERE node = NEW.node AND name = NEW.name);
    SELECT RAISE(ABORT, 'snapshot: the node has no image to stand on yet')
     WHERE NEW.made IS NULL AND NOT EXISTS (SELECT 1 FROM node_view WHERE serial = NEW.node AND base IS NOT NULL);
END;

CREATE TRIGGER snapshot_rename BEFORE UPDATE OF node, name ON snapshot WHEN NEW.node <> OLD.node OR NEW.name <> OLD.name
BEGIN
    SELECT RAISE(ABORT, 'snapshot: its node and name cannot be changed');
END;

CREATE TRIGGER snapshot_deleted AFTER DELETE ON snapshot WHEN EXISTS (SELECT 1 FROM identity WHERE serial = OLD.node)
BEGIN
    INSERT OR IGNORE INTO snapshot_removal(node, name) VALUES (OLD.node, OLD.name);
END;

-- The changes of a node were purged, its snapshots with them.
CREATE TRIGGER identity_forgotten AFTER UPDATE OF serial ON identity WHEN OLD.serial IS NOT NULL AND NEW.serial IS NULL
BEGIN
    DELETE FROM snapshot WHERE node = OLD.serial;
    DELETE FROM snapshot_removal WHERE node = OLD.serial;
END;
