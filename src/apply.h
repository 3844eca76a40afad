/* apply: keeps the exports and dnsmasq's configuration as the catalog says while it is mounted (mount -o apply).
 *
 * A thread of its own with its own connection to the catalog: exportfs looks into the mount, so whoever serves the mount
 * must not wait for it. */
#pragma once

struct apply;
struct catalog;

/* Copies its arguments. 0 or negative errno, logged. */
int apply_start(struct apply **ret_apply, const char *store, const char *mountpoint);

/* Waits for what is under way. The files stay. NULL is allowed. */
void apply_stop(struct apply *apply);

/* Writes EXPORT_PATH and tells nfsd when it has changed or `always`. -EBUSY: it belongs to another mount. */
int apply_exports(struct catalog *catalog, const char *mountpoint, const char *network, int always);

/* Removes it and tells nfsd, which otherwise holds the mount: 1 when it was there and this mount's, 0, or negative errno. */
int apply_unexport(const char *mountpoint);
