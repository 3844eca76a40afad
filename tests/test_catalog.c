#include "scratch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "catalog.h"
#include "db.h"
#include "schema.h"

/* A catalog of its own for each test: *state is the directory, the file is STATE/catalog.db. */
static int setup(void **state)
{
    return scratch_setup(state) < 0 ? -1 : catalog_create(scratch_path(state, "catalog.db"));
}

static struct catalog *catalog_of(void **state)
{
    struct catalog *catalog = NULL;

    assert_int_equal(catalog_open(&catalog, scratch_path(state, "catalog.db")), 0);
    return catalog;
}

static void close_catalog(struct catalog **catalog)
{
    catalog_close(*catalog);
}
#define _cleanup_catalog_ __attribute__((cleanup(close_catalog)))

static int add_image(struct catalog *catalog, const char *name, int64_t added)
{
    return catalog_add_image(catalog, &(struct catalog_image){.name = (char *)name, .added = added});
}

static int add_node(struct catalog *catalog, const char *serial, const char *image)
{
    return catalog_add_node(catalog, &(struct catalog_node){.serial = (char *)serial, .image = (char *)image});
}

static void assert_base(struct catalog *catalog, const char *serial, const char *base)
{
    struct catalog_node node;

    assert_int_equal(catalog_node(catalog, serial, &node), 0);
    if (base) assert_string_equal(node.base, base);
    else assert_null(node.base);
    catalog_node_free(&node);
}

static int64_t number_of(struct catalog *catalog, const char *serial)
{
    struct catalog_node node;
    int64_t number;

    assert_int_equal(catalog_node(catalog, serial, &node), 0);
    number = node.number;
    catalog_node_free(&node);
    return number;
}

static void assert_default(struct catalog *catalog, const char *name)
{
    char *value = NULL;

    assert_int_equal(catalog_setting(catalog, "default_image", &value), 0);
    if (name) assert_string_equal(value, name);
    else assert_null(value);
    free(value);
}

/* What the owner types. The exit status; what it said is in the static buffer. */
static char said[4096];
static int shell(void **state, const char *sql)
{
    return scratch_run(said, sizeof(said), "sqlite3 -bail %s <<'END'\n%s\nEND", scratch_path(state, "catalog.db"), sql);
}

static void assert_refused(void **state, const char *sql, const char *reason)
{
    int status = shell(state, sql);

    if (status == 0 || !strstr(said, reason))
        fail_msg("%s: exit %d, said \"%s\", not \"%s\"", sql, status, said, reason);
}

static void assert_done(void **state, const char *sql)
{
    int status = shell(state, sql);

    if (status != 0) fail_msg("%s: exit %d, said \"%s\"", sql, status, said);
}

static void assert_answer(void **state, const char *sql, const char *answer)
{
    assert_done(state, sql);
    if (strcmp(said, answer) != 0) fail_msg("%s: said \"%s\", not \"%s\"", sql, said, answer);
}

static void test_the_example_of_the_manual(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);
    struct catalog_node node;

    assert_done(state, "INSERT INTO node(serial, mac) VALUES('000000008a4232c8','b8:27:eb:42:32:c8');");
    assert_int_equal(catalog_node(catalog, "000000008a4232c8", &node), 0);
    assert_string_equal(node.mac, "b8:27:eb:42:32:c8");
    assert_null(node.ip);
    assert_null(node.hostname);
    assert_null(node.image);
    assert_null(node.base);
    assert_int_equal(node.number, 1);
    assert_true(node.added > 1600000000);
    catalog_node_free(&node);
}

static void test_serials(void **state)
{
    static const char rule[] =
        "CHECK constraint failed: serial must be 1-64 of A-Z a-z 0-9 . _ - and not start with . or -";
    static const char *const bad[] = {"''",
                                      "'.'",
                                      "'..'",
                                      "'-a'",
                                      "'.a'",
                                      "'a b'",
                                      "'a/b'",
                                      "'ä'",
                                      "'a'||char(10)",
                                      "'a'||char(0)||'b'",
                                      "char(0)",
                                      "'a:b'",
                                      "'a+b'",
                                      "'a*'",
                                      "'a]'",
                                      "'a^'",
                                      "hex(zeroblob(32))||'a'"};
    static const char *const good[] = {"'a'", "'_'", "'0'", "'a.-_Z9'", "'a..'", "hex(zeroblob(32))", "17"};
    char sql[200];

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        snprintf(sql, sizeof(sql), "INSERT INTO node(serial) VALUES(%s);", bad[i]);
        assert_refused(state, sql, rule);
        snprintf(sql, sizeof(sql), "INSERT INTO image(name) VALUES(%s);", bad[i]);
        assert_refused(state, sql, "CHECK constraint failed: name must be 1-64 of A-Z a-z 0-9 . _ -");
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        snprintf(sql, sizeof(sql), "INSERT INTO node(serial) VALUES(%s);", good[i]);
        assert_done(state, sql);
        snprintf(sql, sizeof(sql), "INSERT INTO image(name) VALUES(%s);", good[i]);
        assert_done(state, sql);
    }
    assert_refused(state, "INSERT INTO node(mac) VALUES('b8:27:eb:42:32:c8');",
                   "NOT NULL constraint failed: node.serial");
    assert_refused(state, "INSERT INTO node(serial) VALUES('a');", "UNIQUE constraint failed: node.serial");
    assert_refused(state, "INSERT INTO node(serial) VALUES(x'61');",
                   "cannot store BLOB value in TEXT column node.serial");
}

/* Tries the values in a column of node: each in a row of its own. */
static void assert_values(void **state, const char *column, const char *const *values, const char *reason)
{
    char sql[1000];

    for (; *values; values++) {
        snprintf(sql, sizeof(sql), "INSERT INTO node(serial, %s) VALUES('n'||hex(randomblob(8)), %s);", column,
                 *values);
        if (reason) assert_refused(state, sql, reason);
        else assert_done(state, sql);
    }
}

static void test_macs(void **state)
{
    static const char *const bad[] = {"''",
                                      "'B8:27:EB:42:32:C8'",
                                      "'b8-27-eb-42-32-c8'",
                                      "'b8:27:eb:42:32'",
                                      "'b8:27:eb:42:32:c8:00'",
                                      "'b827eb4232c8'",
                                      "'b8:27:eb:42:32:g8'",
                                      "' b8:27:eb:42:32:c8'",
                                      "'b8:27:eb:42:32:c8'||char(0)",
                                      "'b8:27:eb:42:32:c'",
                                      NULL};
    static const char *const good[] = {"'b8:27:eb:42:32:c8'", "'00:11:22:33:44:55'", "NULL", "NULL", NULL};

    assert_values(state, "mac", bad, "CHECK constraint failed: mac must be six lower-case hex pairs with colons, like");
    assert_values(state, "mac", good, NULL);
    assert_refused(state, "INSERT INTO node(serial, mac) VALUES('x', 'b8:27:eb:42:32:c8');",
                   "UNIQUE constraint failed: node.mac");
}

static void test_ips(void **state)
{
    static const char *const bad[] = {
        "''",        "'1.2.3'",  "'1.2.3.4.5'",  "'1.2.3.256'",        "'256.1.1.1'", "'1.2.3.04'", "'1..2.3'",
        "'.1.2.3'",  "'1.2.3.'", "'1.2.3.4 '",   "'1.2.3.-4'",         "'1,2,3,4'",   "'[].1.2.3'", "'1.2.3.1e1'",
        "'a.b.c.d'", "'::1'",    "'1.2.3.4/24'", "'1.2.3.4'||char(0)", "'...'",       "'.......'",  "'999999999999.1'",
        "12",        NULL};
    static const char *const good[] = {"'10.0.0.1'", "'192.168.1.255'", "'255.255.255.255'", "'0.0.0.0'", "NULL", NULL};

    assert_values(state, "ip", bad, "CHECK constraint failed: ip must be an IPv4 address, like 192.168.1.20");
    assert_values(state, "ip", good, NULL);
    assert_refused(state, "INSERT INTO node(serial, ip) VALUES('x', '10.0.0.1');", "UNIQUE constraint failed: node.ip");
}

#define SIXTYTHREE "replace(hex(zeroblob(31)),'0','a')||'a'"

static void test_hostnames(void **state)
{
    static const char *const bad[] = {"''",
                                      "'-a'",
                                      "'a-'",
                                      "'a.'",
                                      "'.a'",
                                      "'a..b'",
                                      "'a.-b'",
                                      "'a-.b'",
                                      "'a_b'",
                                      "'a b'",
                                      "'ä'",
                                      "'a'||char(0)",
                                      SIXTYTHREE "||'a'",
                                      "'x.'||" SIXTYTHREE "||'a.y'",
                                      SIXTYTHREE "||'.'||" SIXTYTHREE "||'.'||" SIXTYTHREE "||'.'||" SIXTYTHREE,
                                      NULL};
    static const char *const good[] = {"'a'",    "'7'",      "'Node-7.lan'",
                                       "'a--b'", SIXTYTHREE, SIXTYTHREE "||'.'||" SIXTYTHREE "||'.b'",
                                       "'a'",    "NULL",     NULL};

    assert_values(state, "hostname", bad, "CHECK constraint failed: hostname must be labels of 1-63 letters, digits");
    assert_values(state, "hostname", good, NULL);
}

static void test_boot_directories(void **state)
{
    static const char rule[] = "CHECK constraint failed: boot must be a path inside the image";

    assert_done(state, "INSERT INTO image(name, boot) VALUES('a', 'boot/firmware'), ('b', 'a..b');");
    assert_refused(state, "INSERT INTO image(name, boot) VALUES('c', '/boot');", rule);
    assert_refused(state, "INSERT INTO image(name, boot) VALUES('c', '');", rule);
    assert_refused(state, "INSERT INTO image(name, boot) VALUES('c', 'a/../..');", rule);
    assert_refused(state, "INSERT INTO image(name, boot) VALUES('c', '..');", rule);
    assert_refused(state, "INSERT INTO image(name, files) VALUES('c', -1);", "files must not be negative");
    assert_refused(state, "INSERT INTO image(name, bytes) VALUES('c', -1);", "bytes must not be negative");
    assert_refused(state, "INSERT INTO image(name, bytes) VALUES('c', 'many');", "cannot store TEXT value in INTEGER");
}

static void test_image_of_a_node_must_exist(void **state)
{
    static const char rule[] = "node.image: there is no image of that name";

    assert_refused(state, "INSERT INTO node(serial, image) VALUES('a', 'none');", rule);
    assert_refused(state, "INSERT OR IGNORE INTO node(serial, image) VALUES('a', 'none');", rule);
    assert_done(state, "INSERT INTO image(name) VALUES('i'); INSERT INTO node(serial, image) VALUES('a', 'i');");
    assert_refused(state, "UPDATE node SET image = 'none';", rule);
    assert_answer(state, "SELECT serial, image FROM node;", "a|i");
}

static void test_what_must_not_change(void **state)
{
    assert_done(state, "INSERT INTO image(name) VALUES('i'), ('j'); INSERT INTO node(serial) VALUES('a'), ('b');");
    assert_refused(state, "UPDATE node SET serial = 'c' WHERE serial = 'a';", "node.serial: cannot be changed");
    assert_refused(state, "UPDATE image SET name = 'c' WHERE name = 'i';", "image.name: cannot be changed");
    assert_refused(state, "UPDATE setting SET name = 'c';", "setting.name: cannot be changed");
    assert_refused(state, "DELETE FROM setting;", "setting default_image: cannot be removed while there are images");
    assert_refused(state, "DELETE FROM identity;", "identity: its rows must stay");
    assert_refused(state, "UPDATE identity SET number = 9 WHERE number = 1;", "identity.number: cannot be changed");
    assert_refused(state, "UPDATE identity SET serial = 'c' WHERE number = 1;", "identity.serial: cannot be changed");
    assert_refused(state, "UPDATE identity SET serial = NULL WHERE number = 1;", "the node still has a row");
    assert_refused(state, "UPDATE identity SET image = 'none' WHERE number = 1;", "there is no image of that name");
    assert_refused(state, "INSERT OR REPLACE INTO identity(serial) VALUES('a');", "is written by the program alone");
    assert_refused(state, "INSERT OR REPLACE INTO identity(number, serial) VALUES(1, 'z');", "by the program alone");
    assert_refused(state, "INSERT INTO identity(number, serial) VALUES(1048576, 'z');", "number must be 1-1048575");
    assert_refused(state, "INSERT INTO setting VALUES('', 'z');", "name must not be empty");
    assert_refused(state, "DELETE FROM store;", "store: its row holds the key of all file handles");
    assert_refused(state, "UPDATE store SET key = randomblob(32);", "the key of all file handles must stay");
    assert_refused(state, "INSERT OR REPLACE INTO store(key) VALUES(randomblob(32));", "has its one row already");
    assert_answer(state, "SELECT number, serial FROM identity;", "1|a\n2|b");
}

static void test_numbers_run_out(void **state)
{
    static const char rule[] = "node: all 1048575 numbers have been given out";

    assert_done(state, "INSERT INTO node(serial) VALUES('a'); UPDATE sqlite_sequence SET seq = 1048574;"
                       "INSERT INTO node(serial) VALUES('last');");
    assert_answer(state, "SELECT number FROM identity WHERE serial = 'last';", "1048575");
    assert_refused(state, "INSERT INTO node(serial) VALUES('more');", rule);
    assert_refused(state, "INSERT OR IGNORE INTO node(serial) VALUES('more');", rule);
    assert_answer(state, "SELECT count(*) FROM node;", "2");
}

static void test_number_outlives_its_row(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);
    int64_t number;

    assert_int_equal(add_image(catalog, "i", 0), 0);
    assert_int_equal(add_node(catalog, "a", NULL), 0);
    assert_int_equal(add_node(catalog, "b", NULL), 0);
    number = number_of(catalog, "a");
    assert_int_equal(catalog_bind_node(catalog, number, "i"), 0);
    assert_done(state, "DELETE FROM node;");
    assert_done(state, "INSERT INTO node(serial) VALUES('c'), ('a');");
    assert_int_equal(number_of(catalog, "a"), number);
    assert_base(catalog, "a", "i");
    assert_int_equal(number_of(catalog, "c"), 3);
    /* A row replaced by hand is the same node, too. */
    assert_done(state, "INSERT OR REPLACE INTO node(serial, hostname) VALUES('a', 'new');");
    assert_int_equal(number_of(catalog, "a"), number);
}

static void test_forgotten_number_is_never_used_again(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);
    int64_t number;

    assert_int_equal(add_image(catalog, "i", 0), 0);
    assert_int_equal(add_image(catalog, "j", 0), 0);
    assert_int_equal(add_node(catalog, "a", "j"), 0);
    number = number_of(catalog, "a");
    assert_int_equal(catalog_bind_node(catalog, number, "j"), 0);
    assert_int_equal(catalog_forget_node(catalog, "a"), -EINVAL);
    assert_non_null(strstr(catalog_message(catalog), "still has a row"));
    assert_int_equal(catalog_remove_node(catalog, "a"), 0);
    assert_int_equal(catalog_forget_node(catalog, "a"), 0);
    assert_int_equal(catalog_forget_node(catalog, "a"), -ENOENT);
    assert_int_equal(add_node(catalog, "a", NULL), 0);
    assert_true(number_of(catalog, "a") > number);
    assert_base(catalog, "a", "i");
    assert_answer(state,
                  "VACUUM; INSERT INTO node(serial) VALUES('b');"
                  "SELECT count(*), count(DISTINCT number) FROM identity;",
                  "3|3");
}

static void test_bases(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);

    assert_int_equal(add_node(catalog, "plain", NULL), 0);
    assert_base(catalog, "plain", NULL);
    assert_int_equal(add_image(catalog, "one", 0), 0);
    assert_int_equal(add_image(catalog, "two", 0), 0);
    assert_base(catalog, "plain", "one");
    assert_int_equal(add_node(catalog, "own", "two"), 0);
    assert_base(catalog, "own", "two");
    assert_int_equal(catalog_set_setting(catalog, "default_image", "two"), 0);
    assert_base(catalog, "plain", "two");
    assert_int_equal(catalog_bind_node(catalog, number_of(catalog, "plain"), "two"), 0);
    assert_int_equal(catalog_set_setting(catalog, "default_image", "one"), 0);
    assert_base(catalog, "plain", "two");
    assert_int_equal(catalog_bind_node(catalog, 77, "one"), -ENOENT);
    assert_int_equal(catalog_bind_node(catalog, 1, "none"), -EINVAL);
}

static void test_bound_node_keeps_its_image(void **state)
{
    static const char rule[] = "node.image: its changes stand on another image";
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);

    assert_int_equal(add_image(catalog, "one", 0), 0);
    assert_int_equal(add_image(catalog, "two", 0), 0);
    assert_int_equal(add_node(catalog, "a", NULL), 0);
    assert_done(state, "UPDATE node SET image = 'two'; UPDATE node SET image = 'one';");
    assert_int_equal(catalog_bind_node(catalog, 1, "one"), 0);
    assert_refused(state, "UPDATE node SET image = 'two';", rule);
    assert_done(state, "UPDATE node SET image = NULL; UPDATE node SET image = 'one'; DELETE FROM node;");
    assert_refused(state, "INSERT INTO node(serial, image) VALUES('a', 'two');", rule);
    assert_done(state, "INSERT INTO node(serial, image) VALUES('a', 'one');");
}

static void test_default_image(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);
    struct catalog_image image;
    char *users;

    assert_default(catalog, NULL);
    assert_int_equal(catalog_set_setting(catalog, "default_image", "none"), -EINVAL);
    assert_string_equal(catalog_message(catalog),
                        "setting default_image: there is no image of that name; see SELECT name FROM image");
    assert_int_equal(add_image(catalog, "first", 300), 0);
    assert_int_equal(add_image(catalog, "young", 200), 0);
    assert_int_equal(add_image(catalog, "old", 100), 0);
    assert_default(catalog, "first");
    assert_refused(state, "UPDATE setting SET value = 'none';",
                   "setting default_image: there is no image of that name");
    assert_refused(state, "INSERT OR REPLACE INTO setting VALUES('default_image', 'none');", "there is no image");
    assert_int_equal(catalog_remove_image(catalog, "first", &users), 0);
    assert_default(catalog, "old");
    assert_int_equal(catalog_image(catalog, "old", &image), 0);
    assert_true(image.is_default);
    catalog_image_free(&image);
    assert_int_equal(catalog_remove_image(catalog, "young", &users), 0);
    assert_default(catalog, "old");
    assert_int_equal(catalog_remove_image(catalog, "old", &users), 0);
    assert_default(catalog, NULL);
    assert_int_equal(catalog_remove_image(catalog, "old", &users), -ENOENT);
}

static void test_image_in_use_stays(void **state)
{
    static const char rule[] = "image: nodes stand on it; see SELECT * FROM image_user";
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);
    char *users;

    assert_done(state, "INSERT INTO image(name) VALUES('one'), ('two');"
                       "INSERT INTO node(serial, image) VALUES('c', 'two'), ('b', 'two'), ('a', NULL);");
    assert_refused(state, "DELETE FROM image WHERE name = 'one';", rule);
    assert_refused(state, "DELETE FROM image WHERE name = 'two';", rule);
    assert_refused(state, "DELETE FROM image;", rule);
    assert_int_equal(catalog_remove_image(catalog, "two", &users), -EBUSY);
    assert_string_equal(users, "b, c");
    free(users);
    /* Without a row its changes still stand on it. */
    assert_int_equal(catalog_bind_node(catalog, number_of(catalog, "b"), "two"), 0);
    assert_done(state, "DELETE FROM node WHERE image = 'two';");
    assert_int_equal(catalog_remove_image(catalog, "two", &users), -EBUSY);
    assert_string_equal(users, "b");
    free(users);
    assert_int_equal(catalog_forget_node(catalog, "b"), 0);
    assert_int_equal(catalog_remove_image(catalog, "two", &users), 0);
    assert_done(state, "INSERT INTO image(name) VALUES('two'); DELETE FROM node;"
                       "INSERT INTO node(serial) SELECT 'n'||value FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12]');");
    assert_int_equal(catalog_remove_image(catalog, "one", &users), -EBUSY);
    assert_string_equal(users, "n1, n10, n11, n12, n2, n3, n4, n5, n6, n7");
    free(users);
}

static int note(const struct catalog_node *node, void *data)
{
    char *list = data;

    sprintf(list + strlen(list), "%s:%d ", node->serial, (int)node->number);
    return strcmp(node->serial, "c") == 0 ? 42 : 0;
}

static int note_image(const struct catalog_image *image, void *data)
{
    char *list = data;

    sprintf(list + strlen(list), "%s:%s:%s:%d:%d:%d:%d ", image->name, image->source, image->boot, (int)image->added,
            (int)image->files, (int)image->bytes, image->is_default);
    return 0;
}

static void test_walks(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);
    const struct catalog_image image = {
        .name = "z",
        .source = "/srv/tree",
        .boot = "boot/firmware",
        .added = 5,
        .files = 7,
        .bytes = 9,
    };
    char list[200] = "";

    assert_int_equal(add_node(catalog, "b", NULL), 0);
    assert_int_equal(add_node(catalog, "a", NULL), 0);
    assert_int_equal(catalog_nodes(catalog, note, list), 0);
    assert_string_equal(list, "a:2 b:1 ");
    assert_int_equal(add_node(catalog, "c", NULL), 0);
    assert_int_equal(add_node(catalog, "d", NULL), 0);
    list[0] = '\0';
    assert_int_equal(catalog_nodes(catalog, note, list), 42);
    assert_string_equal(list, "a:2 b:1 c:3 ");
    assert_int_equal(catalog_add_image(catalog, &image), 0);
    assert_int_equal(add_image(catalog, "y", 6), 0);
    list[0] = '\0';
    assert_int_equal(catalog_images(catalog, note_image, list), 0);
    assert_string_equal(list, "y::boot:6:0:0:0 z:/srv/tree:boot/firmware:5:7:9:1 ");
}

static void test_setting_a_node(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);
    struct catalog_node node = {.serial = "a", .mac = "00:11:22:33:44:55", .ip = "10.0.0.1", .hostname = "h"};
    struct catalog_node other = {.serial = "b"};

    assert_int_equal(catalog_set_node(catalog, &node), -ENOENT);
    assert_int_equal(catalog_remove_node(catalog, "a"), -ENOENT);
    assert_int_equal(catalog_node(catalog, "a", &other), -ENOENT);
    assert_int_equal(catalog_add_node(catalog, &node), 0);
    assert_int_equal(catalog_add_node(catalog, &node), -EEXIST);
    assert_string_equal(catalog_message(catalog), "serial is already in use");
    assert_int_equal(catalog_add_node(catalog, &other), 0);
    other.mac = node.mac;
    assert_int_equal(catalog_set_node(catalog, &other), -EEXIST);
    assert_string_equal(catalog_message(catalog), "mac is already in use");
    other.mac = "nonsense";
    assert_int_equal(catalog_set_node(catalog, &other), -EINVAL);
    assert_string_equal(catalog_message(catalog),
                        "mac must be six lower-case hex pairs with colons, like b8:27:eb:42:32:c8");
    other.serial = NULL;
    assert_int_equal(catalog_add_node(catalog, &other), -EINVAL);
    assert_string_equal(catalog_message(catalog), "serial must be given");
    node.mac = node.ip = node.hostname = NULL;
    assert_int_equal(catalog_set_node(catalog, &node), 0);
    assert_answer(state, "SELECT mac IS NULL AND ip IS NULL AND hostname IS NULL FROM node WHERE serial = 'a';", "1");
}

static void test_settings(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);
    char *value;

    assert_int_equal(catalog_setting(catalog, "server", &value), 0);
    assert_null(value);
    assert_int_equal(catalog_set_setting(catalog, "server", "10.0.0.1"), 0);
    assert_int_equal(catalog_set_setting(catalog, "server", "10.0.0.2"), 0);
    assert_int_equal(catalog_setting(catalog, "server", &value), 0);
    assert_string_equal(value, "10.0.0.2");
    free(value);
    assert_int_equal(catalog_set_setting(catalog, "server", NULL), -EINVAL);
}

static void test_version_follows_everyone(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);
    int64_t before, still, own, others;

    assert_int_equal(catalog_version(catalog, &before), 0);
    assert_int_equal(catalog_version(catalog, &still), 0);
    assert_int_equal(before, still);
    assert_int_equal(add_node(catalog, "a", NULL), 0);
    assert_int_equal(catalog_version(catalog, &own), 0);
    assert_true(own != before);
    assert_done(state, "UPDATE node SET hostname = 'h';");
    assert_int_equal(catalog_version(catalog, &others), 0);
    assert_true(others != own && others != before);
}

static void test_every_change_of_a_row_by_its_owner_is_durable(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);

    assert_int_equal(add_image(catalog, "i", 0), 0);
    scratch_wal_syncs = 0;
    assert_int_equal(add_node(catalog, "a", NULL), 0);
    assert_int_equal(scratch_wal_syncs, 1);
    assert_int_equal(catalog_bind_node(catalog, 1, "i"), 0); /* need not be: see catalog.h */
    assert_int_equal(catalog_set_setting(catalog, "default_image", "i"), 0);
    assert_int_equal(scratch_wal_syncs, 2);
    scratch_fail_sync = true;
    assert_int_equal(add_node(catalog, "b", NULL), -EDQUOT);
    scratch_fail_sync = false;
}

static void test_key(void **state)
{
    _cleanup_catalog_ struct catalog *one = catalog_of(state);
    _cleanup_catalog_ struct catalog *two = NULL;
    uint8_t key[32], again[32], other[32];

    assert_int_equal(catalog_key(one, key), 0);
    assert_int_equal(catalog_key(one, again), 0);
    assert_memory_equal(key, again, 32);
    assert_int_equal(catalog_create(scratch_path(state, "other.db")), 0);
    assert_int_equal(catalog_open(&two, scratch_path(state, "other.db")), 0);
    assert_int_equal(catalog_key(two, other), 0);
    assert_memory_not_equal(key, other, 32);
}

static void test_a_thousand_nodes_at_once(void **state)
{
    _cleanup_catalog_ struct catalog *catalog = catalog_of(state);
    double start = scratch_seconds();

    assert_done(
        state,
        "BEGIN; INSERT INTO node(serial, mac) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 1000) SELECT 'node' || i, printf('02:00:00:00:%02x:%02x', i / 256, i % 256) FROM n; COMMIT;");
    assert_true(scratch_seconds() - start < 1);
    assert_int_equal(number_of(catalog, "node1000"), 1000);
    /* And undone as one. */
    assert_refused(state, "BEGIN; INSERT INTO node(serial) VALUES('x'); INSERT INTO node(serial) VALUES('-x'); COMMIT;",
                   "serial must be");
    assert_answer(state, "SELECT count(*) FROM node;", "1000");
}

static void test_opening_what_is_no_catalog(void **state)
{
    struct catalog *catalog = NULL;
    struct db *db;

    assert_int_equal(catalog_create(scratch_path(state, "catalog.db")), -EEXIST);
    assert_int_equal(catalog_create(scratch_path(state, "none/catalog.db")), -ENOENT);
    assert_int_equal(catalog_open(&catalog, scratch_path(state, "none.db")), -ENOENT);
    scratch_write(scratch_path(state, "empty.db"), "");
    assert_int_equal(catalog_open(&catalog, scratch_path(state, "empty.db")), -EINVAL);
    scratch_write(scratch_path(state, "text.db"), "not at all a database, but some text that is long enough for one");
    assert_int_equal(catalog_open(&catalog, scratch_path(state, "text.db")), -EIO);
    assert_int_equal(db_open(&db, scratch_path(state, "some.db"), DB_CREATE), 0);
    assert_int_equal(db_exec(db, "CREATE TABLE node(serial)"), 0);
    db_close(db);
    assert_int_equal(catalog_open(&catalog, scratch_path(state, "some.db")), -EINVAL);
    assert_done(state, "PRAGMA user_version = 99;");
    assert_int_equal(catalog_open(&catalog, scratch_path(state, "catalog.db")), -EPROTO);
    assert_done(state, "PRAGMA user_version = 2; UPDATE store SET format = 2;");
    assert_int_equal(catalog_open(&catalog, scratch_path(state, "catalog.db")), -EPROTO);
    assert_null(catalog);
}

/* As version 1 made it; its file has not changed since but for comments. */
static void make_old(void **state, int version)
{
    struct db *db;

    assert_int_equal(unlink(scratch_path(state, "catalog.db")), 0);
    assert_int_equal(db_open(&db, scratch_path(state, "catalog.db"), DB_CREATE), 0);
    assert_int_equal(db_exec(db, schema_catalog), 0);
    if (version >= 2) assert_int_equal(db_exec(db, schema_template), 0);
    assert_int_equal(db_exec(db, "INSERT INTO store(key) "
                                 "VALUES(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f')"), 0);
    assert_int_equal(db_exec(db, "INSERT INTO image(name, boot) VALUES('debian', 'boot/firmware'), ('other', 'boot');"
                                 "INSERT INTO setting VALUES('server', '10.0.0.1');"
                                 "INSERT INTO node(serial, mac, ip) VALUES('used', 'b8:27:eb:42:32:c8', '10.0.0.2'), ('fresh', NULL, NULL);"
                                 "UPDATE identity SET image = 'other' WHERE serial = 'used'"), 0);
    if (version >= 2)
        assert_int_equal(db_exec(db, "INSERT INTO template(path, body) VALUES('etc/motd', 'x');"
                                     "INSERT INTO variable VALUES('used', 'rack', '7');"
                                     "INSERT INTO rendering(number, path) VALUES(1, '')"), 0);
    db_close(db);
}

/* What is in it, and what a new one is made of. */
static void check_upgraded(void **state, int version)
{
    static const char schema[] = "SELECT type, name, length(sql) FROM sqlite_schema ORDER BY type, name;";
    struct catalog *catalog = catalog_of(state);
    static char expected[sizeof(said)];
    uint8_t key[32];

    assert_int_equal(catalog_key(catalog, key), 0);
    for (int i = 0; i < 32; i++) assert_int_equal(key[i], i);
    assert_int_equal(number_of(catalog, "used"), 1);
    assert_base(catalog, "used", "other");
    assert_base(catalog, "fresh", "debian");
    catalog_close(catalog);
    assert_answer(state, "PRAGMA user_version;", "3");
    /* Who was there before there were templates keeps what it has. */
    assert_answer(state, "SELECT group_concat(number || path) FROM rendering;", "1");
    assert_answer(state, "SELECT count(*) FROM template;", version >= 2 ? "1" : "0");
    assert_answer(state, "INSERT INTO snapshot(node, name) VALUES('used', 'a'); SELECT count(*) FROM snapshot;", "1");
    assert_int_equal(shell(state, schema), 0);
    memcpy(expected, said, sizeof(said));
    assert_int_equal(unlink(scratch_path(state, "catalog.db")), 0);
    assert_int_equal(catalog_create(scratch_path(state, "catalog.db")), 0);
    assert_int_equal(shell(state, schema), 0);
    assert_string_equal(said, expected);
}

static void test_older_catalogs_are_upgraded(void **state)
{
    for (int version = 1; version <= 2; version++) {
        make_old(state, version);
        check_upgraded(state, version);
    }
}

static void test_new_catalog_needs_no_wal(void **state)
{
    struct catalog *catalog;

    assert_int_equal(catalog_create(scratch_path(state, "new.db")), 0);
    assert_int_equal(rename(scratch_path(state, "new.db"), scratch_path(state, "moved.db")), 0);
    assert_int_equal(catalog_open(&catalog, scratch_path(state, "moved.db")), 0);
    catalog_close(catalog);
}

static void test_close_leaves_all_in_the_file(void **state)
{
    struct catalog *catalog = catalog_of(state);

    assert_int_equal(add_node(catalog, "a", NULL), 0);
    catalog_close(catalog);
    assert_int_equal(unlink(scratch_path(state, "catalog.db-wal")), 0);
    assert_answer(state, "SELECT serial FROM node;", "a");
}

#define catalog_test(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        catalog_test(test_the_example_of_the_manual),
        catalog_test(test_serials),
        catalog_test(test_macs),
        catalog_test(test_ips),
        catalog_test(test_hostnames),
        catalog_test(test_boot_directories),
        catalog_test(test_image_of_a_node_must_exist),
        catalog_test(test_what_must_not_change),
        catalog_test(test_numbers_run_out),
        catalog_test(test_number_outlives_its_row),
        catalog_test(test_forgotten_number_is_never_used_again),
        catalog_test(test_bases),
        catalog_test(test_bound_node_keeps_its_image),
        catalog_test(test_default_image),
        catalog_test(test_image_in_use_stays),
        catalog_test(test_walks),
        catalog_test(test_setting_a_node),
        catalog_test(test_settings),
        catalog_test(test_version_follows_everyone),
        catalog_test(test_every_change_of_a_row_by_its_owner_is_durable),
        catalog_test(test_key),
        catalog_test(test_a_thousand_nodes_at_once),
        catalog_test(test_opening_what_is_no_catalog),
        catalog_test(test_older_catalogs_are_upgraded),
        catalog_test(test_new_catalog_needs_no_wal),
        catalog_test(test_close_leaves_all_in_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
