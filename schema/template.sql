-- Tables of catalog.db since version 2: the files of a node's root that are not the image's, but the node's own.
--
-- They are written into its root when it is first looked into, and again after it was reset to its image; from then on
-- they are the node's, and a changed template reaches new nodes only.
--
--     INSERT INTO template(path, body) VALUES('etc/motd', 'This is ${hostname}.' || char(10));
--     INSERT INTO variable(node, name, value) VALUES('000000008a4232c8', 'rack', '7');

CREATE TABLE template (
    image TEXT, -- NULL: of every image; where both are, the image's own counts
    path  TEXT NOT NULL -- of the file, from the root: etc/hostname. Missing directories above it are made
          CONSTRAINT "path must be that of a file inside the root, like etc/hostname"
          CHECK (trim(path, '/') <> '' AND path NOT GLOB '*/' AND instr(path, char(0)) = 0
                 AND path NOT GLOB '*//*' AND '/' || ltrim(path, '/') || '/' NOT GLOB '*/../*'
                 AND '/' || ltrim(path, '/') || '/' NOT GLOB '*/./*'),
    mode  INTEGER -- its permissions as chmod(1) takes them: 644. NULL: those of the image's file, 644 where it has none
          CONSTRAINT "mode must be permissions as for chmod, like 644 or 4755"
          CHECK (mode BETWEEN 0 AND 7777 AND CAST(mode AS TEXT) NOT GLOB '*[89]*'),
    body  ANY     -- its contents, text or bytes: ${serial} ${mac} ${ip} ${hostname} ${server} ${rootfs} and the node's
                  -- variables are filled in; $${ is a plain ${. NULL: the node has no such file
          CONSTRAINT "body must be text, bytes or NULL" CHECK (typeof(body) IN ('text', 'blob', 'null'))
) STRICT;

CREATE UNIQUE INDEX template_path ON template(ifnull(image, ''), ltrim(path, '/'));

CREATE TABLE variable (
    node  TEXT NOT NULL, -- serial
    name  TEXT NOT NULL -- rack of ${rack}
          CONSTRAINT "name must be of letters, digits and _, and not begin with a digit"
          CHECK (name GLOB '[A-Za-z_]*' AND name NOT GLOB '*[^A-Za-z0-9_]*')
          CONSTRAINT "name must not be serial, mac, ip, hostname, server or rootfs, which the node has already"
          CHECK (name NOT IN ('serial', 'mac', 'ip', 'hostname', 'server', 'rootfs')),
    value TEXT NOT NULL,
    PRIMARY KEY (node, name)
) STRICT, WITHOUT ROWID;

-- Which nodes have got their files. Written by the program alone.
CREATE TABLE rendering (
    number INTEGER NOT NULL, -- of table identity
    path   TEXT    NOT NULL, -- of a template that could not be written; '': the node was looked into, and the others are
    error  TEXT, -- why not; NULL with path ''
    PRIMARY KEY (number, path)
) STRICT, WITHOUT ROWID;

-- Nodes that were there before there were templates keep what they have.
INSERT INTO rendering(number, path) SELECT number, '' FROM identity WHERE image IS NOT NULL;

CREATE TRIGGER template_insert BEFORE INSERT ON template
WHEN NEW.image IS NOT NULL AND NOT EXISTS (SELECT 1 FROM image WHERE name = NEW.image)
BEGIN
    SELECT RAISE(ABORT, 'template.image: there is no image of that name; see SELECT name FROM image');
END;

CREATE TRIGGER template_update BEFORE UPDATE OF image ON template
WHEN NEW.image IS NOT NULL AND NOT EXISTS (SELECT 1 FROM image WHERE name = NEW.image)
BEGIN
    SELECT RAISE(ABORT, 'template.image: there is no image of that name; see SELECT name FROM image');
END;

CREATE TRIGGER variable_insert BEFORE INSERT ON variable
WHEN NOT EXISTS (SELECT 1 FROM node WHERE serial = NEW.node)
BEGIN
    SELECT RAISE(ABORT, 'variable.node: there is no node of that serial; see SELECT serial FROM node');
END;

CREATE TRIGGER variable_update BEFORE UPDATE OF node ON variable
WHEN NOT EXISTS (SELECT 1 FROM node WHERE serial = NEW.node)
BEGIN
    SELECT RAISE(ABORT, 'variable.node: there is no node of that serial; see SELECT serial FROM node');
END;

CREATE TRIGGER template_image_deleted AFTER DELETE ON image
BEGIN
    DELETE FROM template WHERE image = OLD.name;
END;

CREATE TRIGGER variable_node_deleted AFTER DELETE ON node
BEGIN
    DELETE FROM variable WHERE node = OLD.serial;
END;

CREATE TRIGGER rendering_forgotten AFTER UPDATE OF serial ON identity WHEN NEW.serial IS NULL
BEGIN
    DELETE FROM rendering WHERE number = NEW.number;
END;

PRAGMA user_version = 2;
