/* table: the same rows for people and for programs.
 *
 * A table has columns, and cells are added one after the other, row by row. It prints as aligned text or as
 * JSON. An allocation that fails is remembered and comes out when the table prints, so adding needs no checks. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum table_type {
    TABLE_TEXT,
    TABLE_NUMBER,
    TABLE_BYTES, /* people: "1.2 GiB"; JSON: bytes */
    TABLE_TIME,  /* people: "2026-11-22 16:03", local time; JSON: seconds since 1970 */
    TABLE_FLAG,  /* people: "yes" or "no"; JSON: true or false */
};

struct table_column {
    const char *key;   /* in JSON */
    const char *title; /* for people; NULL: in JSON only */
    enum table_type type;
    bool optional; /* table_show() for people leaves the line out when the cell is NULL, zero or false */
};

struct table;

/* `columns` ends with a key of NULL and must outlive the table. NULL when out of memory: all calls below accept it. */
struct table *table_new(const struct table_column *columns);
void table_free(struct table *table);
static inline void table_free_cleanup(struct table **table)
{
    table_free(*table);
}
#define _cleanup_table_ __attribute__((cleanup(table_free_cleanup)))

/* The next cell. Text is copied; NULL stays NULL: "-" for people, null in JSON. */
void table_text(struct table *table, const char *value);
void table_number(struct table *table, int64_t value); /* every type but TABLE_TEXT */
void table_null(struct table *table);

/* All rows: a heading and aligned columns, or a JSON array of objects. Without rows people read `none`.
 * -ENOMEM when memory ran out on the way here. */
int table_list(const struct table *table, bool json, const char *none);

/* The one row: "title: value" lines, or one JSON object. */
int table_show(const struct table *table, bool json);

/* A size for people. */
#define TABLE_BYTES_MAX 32
const char *table_bytes(int64_t bytes, char buffer[TABLE_BYTES_MAX]);
