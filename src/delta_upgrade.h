/* delta_upgrade: a delta.db of an older version becomes one of this version, step by step, before anything else reads it. */
#pragma once

#define DELTA_FORMAT 4 /* PRAGMA user_version of a delta.db that this program makes */

struct db;

/* Durable when it returns. -EPROTO: the file is of a newer version. */
int delta_upgrade(struct db *db);
