/* doctor_network: what would configure the interface of the root anew, of the services that the node starts: ifupdown,
 * dhcpcd, NetworkManager, systemd-networkd. */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doctor.h"
#include "io.h"
#include "listing.h"
#include "rootdir.h"

#define WANTS "etc/systemd/system/multi-user.target.wants/"

/* What the kernel calls the first wired interface: with net.ifnames=0 and without. */
static const char *const boot_interfaces[] = {"eth0", "end0"};
#define BOOT_INTERFACES (sizeof(boot_interfaces) / sizeof(*boot_interfaces))

static bool fits_boot_interface(const char *pattern)
{
    for (size_t i = 0; i < BOOT_INTERFACES; i++)
        if (fnmatch(pattern, boot_interfaces[i], 0) == 0) return true;
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct listing_item *)a)->name, ((const struct listing_item *)b)->name);
}

/* Calls back in the order of names with the path of each file that fits; false of `fn` ends it, and is returned. */
typedef bool (*file_fn)(struct doctor *d, const char *path, void *data);
static bool each_file(struct doctor *d, const char *directory, const char *pattern, file_fn fn, void *data)
{
    _cleanup_listing_ struct listing listing = {0};
    _cleanup_close_ int fd = rootdir_open(d->root, directory, O_RDONLY | O_DIRECTORY);
    bool goes_on = true;

    if (fd < 0 || listing_read(&listing, fd) < 0) return true;
    if (listing.count > 0) qsort(listing.items, listing.count, sizeof(*listing.items), by_name);
    for (size_t i = 0; i < listing.count && goes_on; i++) {
        _cleanup_free_ char *path = io_format("%s/%s", directory, listing.items[i].name);

        if (path && listing.items[i].name[0] != '.' && fnmatch(pattern, listing.items[i].name, 0) == 0)
            goes_on = fn(d, path, data);
    }
    return goes_on;
}

/* ---- ifupdown ---- */

/* The interface that a line would configure, if it is a wired one that the root may come through: "" for others. */
static void wired_of(const char *line, char ret_name[32])
{
    char word[32] = "", name[32] = "", family[16] = "", method[16] = "";

    ret_name[0] = '\0';
    if (sscanf(line, " %31s %31s %15s %15s", word, name, family, method) < 2) return;
    if (strcmp(word, "iface") != 0 && strcmp(word, "auto") != 0 && strcmp(word, "allow-hotplug") != 0) return;
    if (strcmp(word, "iface") == 0 && strcmp(method, "manual") == 0) return;
    if (strncmp(name, "eth", 3) == 0 || strncmp(name, "en", 2) == 0) memcpy(ret_name, name, sizeof(name));
}

/* False: it has said that something is wrong. */
static bool check_interfaces(struct doctor *d, const char *path, void *data)
{
    _cleanup_free_ char *text = NULL, *mend = NULL;
    char *rest, name[32];
    size_t size;

    (void)data;
    if (doctor_read(d, path, &text, &size) < 0) return true;
    rest = text;
    for (char *line; (line = strsep(&rest, "\n"));) {
        wired_of(line, name);
        if (!name[0]) continue;
        mend = io_format("sed -i -E '/^[[:space:]]*iface[[:space:]]+%s/,/^[[:space:]]*$/s/^/#/;"
                         "/^[[:space:]]*(auto|allow-hotplug)[[:space:]]+%s/s/^/#/' '%s/%s'",
                         name, name, d->path, path);
        doctor_say(d, DOCTOR_WRONG, mend, "%s configures %s anew, which the root comes through", path, name);
        return false;
    }
    return true;
}

/* ---- dhcpcd ---- */

/* Its last word on it: dhcpcd.conf(5), denyinterfaces and allowinterfaces with patterns. */
static bool dhcpcd_denies(char *text)
{
    bool denied = false;

    for (char *line; (line = strsep(&text, "\n"));) {
        char *word = strtok(line, " \t");
        bool deny = word && strcmp(word, "denyinterfaces") == 0;

        if (!deny && (!word || strcmp(word, "allowinterfaces") != 0)) continue;
        if (!deny) denied = true; /* but for those that follow */
        while ((word = strtok(NULL, " \t,")))
            if (fits_boot_interface(word)) denied = deny;
    }
    return denied;
}

static bool check_dhcpcd(struct doctor *d)
{
    _cleanup_free_ char *text = NULL, *mend = NULL;
    size_t size;

    if (!rootdir_has(d->root, WANTS "dhcpcd.service") && !rootdir_has(d->root, WANTS "dhcpcd5.service")) return true;
    if (doctor_read(d, "etc/dhcpcd.conf", &text, &size) == 0 && dhcpcd_denies(text)) return true;
    mend = io_format("echo 'denyinterfaces %s' >>'%s/etc/dhcpcd.conf'", boot_interfaces[0], d->path);
    doctor_say(d, DOCTOR_WRONG, mend, "dhcpcd configures %s anew, which the root comes through", boot_interfaces[0]);
    return false;
}

/* ---- NetworkManager ---- */

/* One list of devices of NetworkManager.conf(5): does it name the interface? */
static bool names_device(char *list)
{
    for (char *spec; (spec = strsep(&list, ";,"));) {
        spec += strspn(spec, " \t");
        spec[strcspn(spec, " \t\r")] = '\0';
        if (strcmp(spec, "*") == 0 || strcmp(spec, "type:ethernet") == 0) return true;
        if (strncmp(spec, "interface-name:", 15) == 0) spec += 15 + (spec[15] == '=');
        if (*spec && fits_boot_interface(spec)) return true;
    }
    return false;
}

/* data: is it unmanaged? Later files win; "+=" adds. */
static bool take_unmanaged(struct doctor *d, const char *path, void *data)
{
    _cleanup_free_ char *text = NULL;
    bool *unmanaged = data, in_keyfile = false;
    char *rest;
    size_t size;

    if (doctor_read(d, path, &text, &size) < 0) return true;
    rest = text;
    for (char *line; (line = strsep(&rest, "\n"));) {
        static const char key[] = "unmanaged-devices";
        char *value = line + strlen(key);

        if (line[0] == '[') in_keyfile = strncmp(line, "[keyfile]", 9) == 0;
        if (!in_keyfile || strncmp(line, key, strlen(key)) != 0) continue;
        if (*value == '=') *unmanaged = names_device(value + 1);
        else if (strncmp(value, "+=", 2) == 0) *unmanaged = *unmanaged || names_device(value + 2);
    }
    return true;
}

static bool check_network_manager(struct doctor *d)
{
    _cleanup_free_ char *mend = NULL;
    bool unmanaged = false;

    if (!rootdir_has(d->root, WANTS "NetworkManager.service")) return true;
    each_file(d, "usr/lib/NetworkManager/conf.d", "*.conf", take_unmanaged, &unmanaged);
    take_unmanaged(d, "etc/NetworkManager/NetworkManager.conf", &unmanaged);
    each_file(d, "etc/NetworkManager/conf.d", "*.conf", take_unmanaged, &unmanaged);
    if (unmanaged) return true;
    mend = io_format("mkdir -p '%s/etc/NetworkManager/conf.d' && printf "
                     "'[keyfile]\\nunmanaged-devices+=interface-name:%s;interface-name:%s\\n' "
                     ">'%s/etc/NetworkManager/conf.d/zz-coppice.conf'",
                     d->path, boot_interfaces[0], boot_interfaces[1], d->path);
    doctor_say(d, DOCTOR_WRONG, mend, "NetworkManager configures %s anew, which the root comes through",
               boot_interfaces[0]);
    return false;
}

/* ---- systemd-networkd ---- */

struct networkd_file {
    bool matches; /* the interface, as far as names and types tell */
    bool keeps;   /* its configuration */
};

/* systemd.network(5): names, and KeepConfiguration, which is "yes" by itself only in newer versions. */
static bool take_network(struct doctor *d, const char *path, void *data)
{
    _cleanup_free_ char *text = NULL;
    struct networkd_file *file = data;
    char *rest;
    size_t size;

    if (doctor_read(d, path, &text, &size) < 0) return true;
    rest = text;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, "KeepConfiguration=", 18) == 0)
            file->keeps = strcmp(line + 18, "no") != 0 && strcmp(line + 18, "false") != 0;
        if (strncmp(line, "Type=", 5) == 0 && !strstr(line, "ether")) file->matches = false;
        if (strncmp(line, "Name=", 5) != 0) continue;
        file->matches = false;
        line += 5;
        for (char *name; (name = strsep(&line, " \t"));)
            if (*name && fits_boot_interface(name)) file->matches = true;
    }
    return true;
}

/* The first file that matches is the interface's. */
static bool check_network_file(struct doctor *d, const char *path, void *data)
{
    struct networkd_file file = {.matches = true};
    _cleanup_free_ char *drop_ins = io_format("%s.d", path), *mend = NULL;

    (void)data;
    take_network(d, path, &file);
    if (!file.matches || !drop_ins) return true;
    each_file(d, drop_ins, "*.conf", take_network, &file);
    if (file.keeps) return false;
    mend = io_format("mkdir -p '%s/%s' && printf '[Network]\\nKeepConfiguration=yes\\n' >'%s/%s/coppice.conf'", d->path,
                     drop_ins, d->path, drop_ins);
    doctor_say(d, DOCTOR_WRONG, mend, "%s: systemd-networkd drops the root's address without KeepConfiguration=yes",
               path);
    return false;
}

/* The callback ends the walk at the first that matches, whether good or not. */
static bool check_networkd(struct doctor *d)
{
    int wrong = d->wrong;

    if (!rootdir_has(d->root, WANTS "systemd-networkd.service") &&
        !rootdir_has(d->root, "etc/systemd/system/dbus-org.freedesktop.network1.service"))
        return true;
    each_file(d, "etc/systemd/network", "*.network", check_network_file, NULL);
    return d->wrong == wrong;
}

void doctor_interfaces(struct doctor *d)
{
    if (check_interfaces(d, "etc/network/interfaces", NULL) &&
        each_file(d, "etc/network/interfaces.d", "*", check_interfaces, NULL) && check_dhcpcd(d) &&
        check_network_manager(d) && check_networkd(d))
        doctor_say(d, DOCTOR_OK, NULL, "the interface of the root is left alone");
}
