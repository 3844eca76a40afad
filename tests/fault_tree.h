/* fault_tree: what a model of a tree is made of, for those who keep it (fault_model.c) and who choose what is done to it next
 * (fault_choose.c). */
#pragma once

#include "fault_model.h"

/* A unit of a file, or all of its size, as it may still be. */
struct old_unit {
    uint64_t start;
    unsigned char bytes[FAULT_PAGE];
};

struct file {
    mode_t mode; /* with its type; 0: gone */
    ino_t ino;   /* of a tree that was read */
    uint64_t size;
    bool is_large;        /* was longer than fits a row since it was last empty */
    char *target;         /* of a symlink */
    unsigned char *bytes; /* FAULT_FILE_MAX, zeros behind the end */
    unsigned char value[256];
    ssize_t value_length; /* -1: no attribute */
    struct old_unit *old;
    size_t old_count, old_room;
    uint64_t old_sizes[256];
    size_t old_sizes_count;
};

struct entry {
    int parent, file; /* file -1: free */
    char name[16];
};

struct fault_model {
    struct file *files; /* 0: the root */
    int count, room;
    struct entry *entries;
    int entries_count, entries_room;
    unsigned unit;
    bool knows_sizes; /* see fault_model_know_sizes() */
};

struct entry *fault_tree_find(const struct fault_model *m, int parent, const char *name);
/* The entry of the path, NULL if there is none; *ret_parent and *ret_name, as far as the way there exists. */
struct entry *fault_tree_resolve(const struct fault_model *m, const char *path, int *ret_parent, char ret_name[16]);
const struct entry *fault_tree_entry_of(const struct fault_model *m, int dir);
int fault_tree_depth(const struct fault_model *m, int dir);
void fault_tree_path(const struct fault_model *m, int dir, const char *name, char path[48]);
