/* export: which machine may mount which part of the view: /etc/exports.d/coppice.exports, see exports(5). */
#pragma once

#include "catalog.h"

#define EXPORT_PATH "/etc/exports.d/coppice.exports"

/* The file's text. Every node with an address has a line for its root and that address alone; where no node has one, one
 * line gives all of system/ to `network` ("10.55.0.0/24"; NULL: the catalog's setting). *ret_lines: how many lines; 0:
 * neither is known. Caller frees. 0 or negative errno. */
int export_text(struct catalog *catalog, const char *mountpoint, const char *network, char **ret_text, int *ret_lines);

/* The options of a node's own line, without the parentheses. Caller frees; NULL: no memory, or no key. */
char *export_options(struct catalog *catalog, const struct catalog_node *node);
