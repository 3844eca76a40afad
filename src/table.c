#include "table.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io.h"

#define VALUE_MAX 64

struct cell {
    bool null;
    int64_t number;
    char *text;
};

struct table {
    const struct table_column *columns;
    size_t width; /* number of columns */
    struct cell *cells;
    size_t count, room;
    bool no_memory;
};

struct table *table_new(const struct table_column *columns)
{
    struct table *table = calloc(1, sizeof *table);
    if (!table) return NULL;
    table->columns = columns;
    while (columns[table->width].key) table->width++;
    return table;
}

void table_free(struct table *table)
{
    if (!table) return;
    for (size_t i = 0; i < table->count; i++) free(table->cells[i].text);
    free(table->cells);
    free(table);
}

static void add(struct table *table, struct cell cell)
{
    if (!table || table->no_memory) {
        free(cell.text);
        return;
    }
    if (table->count == table->room) {
        size_t room = table->room ? table->room * 2 : 64;
        struct cell *cells = reallocarray(table->cells, room, sizeof *cells);
        if (!cells) {
            table->no_memory = true;
            free(cell.text);
            return;
        }
        table->cells = cells;
        table->room = room;
    }
    table->cells[table->count++] = cell;
}

void table_text(struct table *table, const char *value)
{
    char *text = value ? strdup(value) : NULL;
    if (value && !text && table) table->no_memory = true;
    add(table, (struct cell){.null = !text, .text = text});
}

void table_number(struct table *table, int64_t value)
{
    add(table, (struct cell){.number = value});
}

void table_null(struct table *table)
{
    add(table, (struct cell){.null = true});
}

const char *table_bytes(int64_t bytes, char buffer[TABLE_BYTES_MAX])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(buffer, TABLE_BYTES_MAX, "%" PRId64 " B", bytes);
        return buffer;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    /* 1023.96 would be printed as 1024.0. */
    for (; value >= 1023.95; unit++) value /= 1024;
    snprintf(buffer, TABLE_BYTES_MAX, "%.1f %s", value, units[unit]);
    return buffer;
}

static const char *time_text(int64_t seconds, char buffer[VALUE_MAX])
{
    time_t when = (time_t)seconds;
    struct tm tm;
    if (!localtime_r(&when, &tm) || !strftime(buffer, VALUE_MAX, "%Y-%m-%d %H:%M", &tm)) return "-";
    return buffer;
}

/* What people read; belongs to the cell or lives in `buffer`. */
static const char *cell_text(enum table_type type, const struct cell *cell, char buffer[VALUE_MAX])
{
    if (cell->null) return "-";
    switch (type) {
    case TABLE_TEXT: return cell->text;
    case TABLE_BYTES: return table_bytes(cell->number, buffer);
    case TABLE_TIME: return time_text(cell->number, buffer);
    case TABLE_FLAG: return cell->number ? "yes" : "no";
    case TABLE_NUMBER: break;
    }
    snprintf(buffer, VALUE_MAX, "%" PRId64, cell->number);
    return buffer;
}

/* Length of the UTF-8 character at `s`, 0 when it is none. Good enough to keep JSON readable: it does not look for
 * surrogates and overlong forms of three bytes and more. */
static size_t utf8_length(const unsigned char *s)
{
    size_t length = s[0] < 0x80                   ? 1
                    : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                    : (s[0] & 0xf0) == 0xe0       ? 3
                    : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                                  : 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    return length;
}

/* JSON is UTF-8, names of files are bytes. */
static struct json_object *json_text(const char *text)
{
    _cleanup_free_ char *clean = strdup(text);
    if (!clean) return NULL;
    for (char *at = clean; *at;) {
        size_t length = utf8_length((unsigned char *)at);
        if (!length) *at = '?';
        at += length ? length : 1;
    }
    return json_object_new_string(clean);
}

static struct json_object *cell_json(enum table_type type, const struct cell *cell)
{
    if (type == TABLE_TEXT) return json_text(cell->text);
    if (type == TABLE_FLAG) return json_object_new_boolean(cell->number != 0);
    return json_object_new_int64(cell->number);
}

static struct json_object *row_json(const struct table *table, size_t row)
{
    struct json_object *object = json_object_new_object();
    if (!object) return NULL;
    for (size_t i = 0; i < table->width; i++) {
        const struct cell *cell = &table->cells[row * table->width + i];
        struct json_object *value = cell->null ? NULL : cell_json(table->columns[i].type, cell);
        if ((!value && !cell->null) || json_object_object_add(object, table->columns[i].key, value) < 0) {
            json_object_put(value);
            json_object_put(object);
            return NULL;
        }
    }
    return object;
}

/* Prints `json` and gives it back. */
static int json_print(struct json_object *json)
{
    const char *text =
        json ? json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE) : NULL;
    if (text) puts(text);
    json_object_put(json);
    return text ? 0 : -ENOMEM;
}

static int list_json(const struct table *table, size_t rows)
{
    struct json_object *array = json_object_new_array();
    for (size_t row = 0; array && row < rows; row++) {
        struct json_object *object = row_json(table, row);
        if (!object || json_object_array_add(array, object) < 0) {
            json_object_put(object);
            json_object_put(array);
            return -ENOMEM;
        }
    }
    return json_print(array);
}

/* One line that stays one line, whatever bytes a name is made of. */
static void print_clean(const char *text)
{
    for (; *text; text++) putchar((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
}

static void print_blanks(size_t count)
{
    while (count--) putchar(' ');
}

/* The blanks before a field are printed with the field, so that none trail. */
static void print_field(const char *text, size_t width, bool right, size_t *pending)
{
    size_t pad = width - strlen(text);
    print_blanks(*pending + (right ? pad : 0));
    print_clean(text);
    *pending = 2 + (right ? 0 : pad);
}

static bool is_right(enum table_type type)
{
    return type == TABLE_NUMBER || type == TABLE_BYTES;
}

static void print_line(const struct table *table, const struct cell *row, const size_t *widths)
{
    char buffer[VALUE_MAX];
    size_t pending = 0;
    for (size_t i = 0; i < table->width; i++) {
        const struct table_column *column = &table->columns[i];
        if (!column->title) continue;
        const char *text = row ? cell_text(column->type, &row[i], buffer) : column->title;
        print_field(text, widths[i], is_right(column->type), &pending);
    }
    putchar('\n');
}

static size_t column_width(const struct table *table, size_t column, size_t rows)
{
    char buffer[VALUE_MAX];
    size_t widest = table->columns[column].title ? strlen(table->columns[column].title) : 0;
    for (size_t row = 0; row < rows; row++) {
        const struct cell *cell = &table->cells[row * table->width + column];
        size_t length = strlen(cell_text(table->columns[column].type, cell, buffer));
        if (length > widest) widest = length;
    }
    return widest;
}

int table_list(const struct table *table, bool json, const char *none)
{
    if (!table || table->no_memory) return -ENOMEM;
    size_t rows = table->count / table->width;
    if (json) return list_json(table, rows);
    if (rows == 0) {
        puts(none);
        return 0;
    }
    _cleanup_free_ size_t *widths = calloc(table->width, sizeof *widths);
    if (!widths) return -ENOMEM;
    for (size_t i = 0; i < table->width; i++) widths[i] = column_width(table, i, rows);
    print_line(table, NULL, widths);
    for (size_t row = 0; row < rows; row++) print_line(table, &table->cells[row * table->width], widths);
    return 0;
}

static bool is_shown(const struct table_column *column, const struct cell *cell)
{
    if (!column->title) return false;
    return !column->optional || (!cell->null && (column->type == TABLE_TEXT || cell->number));
}

int table_show(const struct table *table, bool json)
{
    char buffer[VALUE_MAX];
    if (!table || table->no_memory) return -ENOMEM;
    if (json) return json_print(row_json(table, 0));
    size_t widest = 0;
    for (size_t i = 0; i < table->width; i++) {
        if (!is_shown(&table->columns[i], &table->cells[i])) continue;
        size_t length = strlen(table->columns[i].title);
        if (length > widest) widest = length;
    }
    for (size_t i = 0; i < table->width; i++) {
        const struct table_column *column = &table->columns[i];
        if (!is_shown(column, &table->cells[i])) continue;
        printf("%s:", column->title);
        print_blanks(widest - strlen(column->title) + 1);
        print_clean(cell_text(column->type, &table->cells[i], buffer));
        putchar('\n');
    }
    return 0;
}
