/* db_wal: what SQLite writes into a WAL, in as few calls as can be.
 *
 * SQLite writes each frame of a commit by two calls of write(2): 24 bytes that tell which page it is, then the page. Here they
 * are gathered until the frame comes that ends the transaction (sqlite.org/walformat.html: bytes 4 to 7 of its header are
 * not 0), and written at once. Nobody reads frames before that, as the index tells of them afterwards; and a write that
 * fails fails the commit, as it did. */
#pragma once

struct db_wal;
struct sqlite3_file;

/* From here on, until db_wal_free(), what is written to the file goes this way; NULL: no memory, and it goes the old one. SQLite must not
 * write frames of an unfinished transaction (PRAGMA cache_spill = OFF), which would be kept here. */
struct db_wal *db_wal_gather(struct sqlite3_file *file);
/* To be called before the file is closed. */
void db_wal_free(struct db_wal *wal);

/* What was written is on the disk: SQLITE_OK or SQLite's number. Unlike all else it may be called while another thread writes. */
int db_wal_sync(struct db_wal *wal);
