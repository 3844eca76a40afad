#include "tree_rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "io.h"
#include "log.h"
#include "store.h"

static void replace(char **to, char *text)
{
    free(*to);
    *to = text;
}

static struct tree_node *node_new(struct tree *t, uint32_t number)
{
    struct tree_node *node = calloc(1, sizeof(*node));

    if (!node) return NULL;
    node->tree = t;
    node->number = number;
    pthread_mutex_init(&node->open_lock, NULL);
    return node;
}

static void node_free(struct tree_node *node)
{
    if (!node) return;
    pthread_mutex_destroy(&node->open_lock);
    free(node->serial);
    free(node->mac_name);
    free(node->image);
    free(node->boot);
    free(node);
}

static int table_grow(struct tree *t, uint32_t number)
{
    uint32_t room = t->room ? t->room : 64;
    struct tree_node **nodes;

    if (number < t->room) return 0;
    while (room <= number) room *= 2;
    nodes = reallocarray(t->nodes, room, sizeof(*nodes));
    if (!nodes) return -ENOMEM;
    memset(nodes + t->room, 0, (room - t->room) * sizeof(*nodes));
    t->nodes = nodes;
    t->room = room;
    return 0;
}

/* The catalog's rows as they are read, before the table learns of them: no request waits for the catalog. */
struct rows {
    struct tree *tree;
    struct row {
        uint32_t number;
        char *serial, *mac_name, *image, *boot;
    } *row;
    size_t count, room;
};

static void rows_free(struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        free(rows->row[i].serial);
        free(rows->row[i].mac_name);
        free(rows->row[i].image);
        free(rows->row[i].boot);
    }
    free(rows->row);
}

static int read_row(const struct catalog_node *node, void *data)
{
    struct rows *rows = data;
    struct catalog_image image = {0};
    int r = node->base ? catalog_image(rows->tree->store->catalog, node->base, &image) : -ENOENT;

    if (r < 0 && r != -ENOENT) return r;
    if (node->number <= 0 || node->number >= TREE_MAX_NODES) r = -EIO;
    if (rows->count == rows->room) {
        size_t room = rows->room ? rows->room * 2 : 64;
        struct row *row = reallocarray(rows->row, room, sizeof(*row));

        if (!row) return -ENOMEM;
        rows->row = row;
        rows->room = room;
    }
    rows->row[rows->count++] = (struct row){
        .number = node->number,
        .serial = io_format("%s", node->serial),
        .mac_name = bootname_mac(node->mac),
        .image = node->base ? io_format("%s", node->base) : NULL,
        .boot = r == 0 ? io_format("%s", image.boot ? image.boot : "boot") : NULL,
    };
    catalog_image_free(&image);
    return r == -EIO ? r : 0;
}

/* The table owns the row's texts afterwards. lock held. */
static int take_row(struct tree *t, struct row *row)
{
    struct tree_node *node;
    int r = table_grow(t, row->number);

    if (r < 0) return r;
    node = t->nodes[row->number];
    if (!node) node = t->nodes[row->number] = node_new(t, row->number);
    if (!node) return -ENOMEM;
    node->seen = true;
    node->gone = false;
    if (!node->boot || !row->boot || strcmp(node->boot, row->boot) != 0) node->link_changed = true;
    /* Read without the lock by whoever holds the node: so the text stays where it is. It stays the same, too (catalog.sql, node_rename). */
    if (row->serial && (!node->serial || strcmp(node->serial, row->serial) != 0)) replace(&node->serial, io_take(row->serial));
    replace(&node->mac_name, io_take(row->mac_name));
    replace(&node->image, io_take(row->image));
    replace(&node->boot, io_take(row->boot));
    return 0;
}

static int compare_tails(const void *a, const void *b)
{
    const struct tree_node *x = *(struct tree_node *const *)a, *y = *(struct tree_node *const *)b;
    int r = strcmp(x->tail, y->tail);

    return r ? r : (int)x->number - (int)y->number;
}

/* Of two serials with one end, the older node has the link. lock held. */
static int share_tails(struct tree *t)
{
    _cleanup_free_ struct tree_node **nodes = calloc(t->room + 1, sizeof(*nodes));
    size_t count = 0;

    if (!nodes) return -ENOMEM;
    for (uint32_t i = 0; i < t->room; i++) {
        if (!t->nodes[i] || t->nodes[i]->gone) continue;
        bootname_tail(t->nodes[i]->serial, t->nodes[i]->tail);
        if (t->nodes[i]->tail[0]) nodes[count++] = t->nodes[i];
    }
    qsort(nodes, count, sizeof(*nodes), compare_tails);
    for (size_t i = count; i-- > 1;)
        if (strcmp(nodes[i]->tail, nodes[i - 1]->tail) == 0) nodes[i]->tail[0] = '\0';
    return 0;
}

/* lock held. */
static int take_rows(struct tree *t, struct rows *rows)
{
    int r = 0;

    for (uint32_t i = 0; i < t->room; i++)
        if (t->nodes[i]) t->nodes[i]->seen = false;
    for (size_t i = 0; i < rows->count && r == 0; i++) r = take_row(t, &rows->row[i]);
    for (uint32_t i = 0; i < t->room && r == 0; i++)
        if (t->nodes[i] && !t->nodes[i]->seen) t->nodes[i]->gone = true;
    if (r == 0) r = share_tails(t);
    t->changed = io_now();
    return r;
}

/* catalog_lock held. */
static int reload(struct tree *t)
{
    struct rows rows = {.tree = t};
    int r = catalog_nodes(t->store->catalog, read_row, &rows);

    if (r == 0) {
        pthread_rwlock_wrlock(&t->lock);
        r = take_rows(t, &rows);
        pthread_rwlock_unlock(&t->lock);
    }
    rows_free(&rows);
    return r;
}

int tree_refresh(struct tree *t)
{
    int64_t version;
    int r;

    pthread_mutex_lock(&t->catalog_lock);
    r = catalog_version(t->store->catalog, &version);
    if (r == 0 && version != t->version) {
        r = reload(t);
        if (r == 0) t->version = version;
        if (r == 0) r = 1;
    }
    pthread_mutex_unlock(&t->catalog_lock);
    if (r < 0) log_error("catalog: %s: %s", log_reason(r), catalog_message(t->store->catalog));
    return r;
}

void tree_rows_free(struct tree *t)
{
    for (uint32_t i = 0; i < t->room; i++) node_free(t->nodes[i]);
    free(t->nodes);
}
