/* doctor_boot: the node's own files: what the boot ROM, the kernel and the first services read. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "doctor.h"
#include "io.h"
#include "log.h"
#include "proposal_text.h"
#include "template_text.h"

/* ---- boot files ---- */

/* What a board asks for by TFTP: patterns, '|' between those of which one is enough. "KERNEL" and what config.txt names
 * instead; see raspberrypi.com/documentation/computers/configuration.html, "Boot folder contents". */
static const struct model {
    const char *name, *label;
    const char *section; /* of config.txt, besides [all] */
    const char *kernels;
    const char *files[6];
} models[] = {
    {"pi3", "Pi 3 and older", "pi3", "kernel8.img|kernel7.img|kernel.img",
     {"bootcode.bin", "start.elf", "fixup.dat", "bcm2710-rpi-3*.dtb|bcm2837-rpi-3*.dtb|bcm270*.dtb|bcm283*.dtb"}},
    {"pi4", "Pi 4", "pi4", "kernel8.img|kernel7l.img", {"start4.elf", "fixup4.dat", "bcm2711-rpi-*.dtb"}},
    {"pi5", "Pi 5", "pi5", "kernel_2712.img|kernel8.img", {"config.txt", "bcm2712*-rpi-5*.dtb|bcm2712*.dtb"}},
};
#define MODELS (sizeof(models) / sizeof(*models))

const char *doctor_models(void)
{
    return "pi3, pi4, pi5";
}

bool doctor_is_model(const char *name)
{
    for (size_t i = 0; i < MODELS; i++)
        if (strcmp(models[i].name, name) == 0) return true;
    return false;
}

static int open_boot(const struct doctor *d)
{
    int fd = io_open_beneath(d->root, d->boot, O_RDONLY | O_DIRECTORY, 0);

    return fd;
}

/* The first name in the directory that one of the patterns matches; "" when there is none. */
static void find_match(int boot, const char *patterns, char ret_name[256])
{
    _cleanup_free_ char *copy = io_format("%s", patterns);
    char *rest = copy;

    ret_name[0] = '\0';
    for (char *pattern; copy && !ret_name[0] && (pattern = strsep(&rest, "|"));) {
        int fd = io_open_beneath(boot, ".", O_RDONLY | O_DIRECTORY, 0);
        DIR *directory = fd < 0 ? NULL : fdopendir(fd);

        if (!directory) return;
        for (struct dirent *entry; !ret_name[0] && (entry = readdir(directory));)
            if (fnmatch(pattern, entry->d_name, 0) == 0) snprintf(ret_name, 256, "%s", entry->d_name);
        closedir(directory);
    }
}

/* "kernel=NAME" in effect for the model: the last one that no section of another model holds. Caller frees; NULL: none. */
static char *config_kernel(const struct doctor *d, const struct model *model)
{
    _cleanup_free_ char *path = io_format("%s/config.txt", d->boot), *text = NULL;
    char *kernel = NULL, *rest;
    bool in_effect = true;
    size_t size;

    if (!path || doctor_read(d, path, &text, &size) < 0) return NULL;
    rest = text;
    for (char *line; (line = strsep(&rest, "\n"));) {
        line[strcspn(line, "\r")] = '\0';
        if (line[0] == '[') in_effect = strncmp(line, "[all]", 5) == 0 || strncmp(line + 1, model->section, 3) == 0;
        if (!in_effect || strncmp(line, "kernel=", 7) != 0) continue;
        free(kernel);
        kernel = io_format("%.*s", (int)strcspn(line + 7, " \t"), line + 7);
    }
    return kernel;
}

/* What the model lacks, with commas; "" for nothing. */
static void list_missing(const struct doctor *d, int boot, const struct model *model, char *text, size_t size)
{
    _cleanup_free_ char *kernel = config_kernel(d, model);
    const char *wanted[8] = {kernel ? kernel : model->kernels};
    size_t used = 0;
    char found[256];

    for (int i = 0; i < 6; i++) wanted[i + 1] = model->files[i];
    text[0] = '\0';
    for (int i = 0; wanted[i] && used < size; i++) {
        find_match(boot, wanted[i], found);
        if (!found[0]) used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", wanted[i]);
    }
}

/* dnsmasq reads as a user of its own. */
static bool check_readable(struct doctor *d, int boot)
{
    static const char *const names = "bootcode.bin|start*.elf|fixup*.dat|config.txt|cmdline.txt|kernel*.img|*.dtb";
    _cleanup_free_ char *patterns = io_format("%s", names);
    char *rest = patterns;
    char found[256];
    struct stat st;

    for (char *pattern; patterns && (pattern = strsep(&rest, "|"));) {
        find_match(boot, pattern, found);
        if (!found[0] || fstatat(boot, found, &st, AT_SYMLINK_NOFOLLOW) < 0 || (st.st_mode & S_IROTH)) continue;
        _cleanup_free_ char *mend = io_format("chmod -R a+rX '%s/%s'", d->path, d->boot);
        doctor_say(d, DOCTOR_WRONG, mend, "%s may not be read by dnsmasq's user (mode %04o)", found,
                   (unsigned)st.st_mode & 07777);
        return false;
    }
    return true;
}

static void say_models(struct doctor *d, const char *good, const char *best, const char *missing)
{
    _cleanup_free_ char *mend = io_format("cp /usr/lib/raspi-firmware/* '%s/%s/' # Debian's package raspi-firmware", d->path, d->boot);

    if (*good) doctor_say(d, DOCTOR_OK, NULL, "complete for %s", good);
    else doctor_say(d, DOCTOR_WRONG, mend, "for a %s there is no %s in %s", best, missing, d->boot);
}

void doctor_boot_files(struct doctor *d)
{
    _cleanup_close_ int boot = open_boot(d);
    char missing[512], least[512] = "", good[64] = "", firmware[256], kernel[256];
    const char *best = NULL;

    if (boot < 0) {
        _cleanup_free_ char *mend = io_format("%s reset %s", d->options->program, d->node->serial);
        doctor_say(d, DOCTOR_WRONG, mend, "%s/%s: %s", d->path, d->boot, log_reason(boot));
        return;
    }
    find_match(boot, "bootcode.bin|start*.elf|bcm2*.dtb", firmware);
    find_match(boot, "vmlinu[xz]*", kernel);
    if (!firmware[0] && kernel[0] && !d->options->model) {
        doctor_say(d, DOCTOR_UNKNOWN, NULL, "none of a Raspberry Pi's, but %s: what a PC's loader needs is not looked at", kernel);
        return;
    }
    for (size_t i = 0; i < MODELS; i++) {
        if (d->options->model && strcmp(d->options->model, models[i].name) != 0) continue;
        list_missing(d, boot, &models[i], missing, sizeof(missing));
        if (!missing[0]) {
            size_t used = strlen(good);
            snprintf(good + used, sizeof(good) - used, "%s%s", used ? ", " : "", models[i].label);
        } else if (!best || strlen(missing) < strlen(least)) {
            best = models[i].label;
            memcpy(least, missing, sizeof(least));
        }
    }
    if (check_readable(d, boot)) say_models(d, good, best, least);
}

const char *doctor_first_file(const struct doctor *d)
{
    static const char *const names[] = {"bootcode.bin", "start4.elf"};
    _cleanup_close_ int boot = d->root < 0 ? -1 : open_boot(d);

    for (int i = 0; boot >= 0 && i < 2; i++) {
        if (d->options->model && (strcmp(d->options->model, "pi3") == 0) != (i == 0)) continue;
        if (faccessat(boot, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0) return names[i];
    }
    return NULL;
}

/* ---- the kernel's command line ---- */

/* The value of the last word "NAME=…"; NULL: there is none. Points into the line. */
static const char *word_value(const char *line, const char *name, size_t *ret_length)
{
    size_t length = strlen(name);
    const char *found = NULL;

    for (const char *word = line; *word;) {
        size_t size = strcspn(word, " \t\n");

        if (size > length && strncmp(word, name, length) == 0 && word[length] == '=') {
            found = word + length + 1;
            *ret_length = size - length - 1;
        }
        word += size;
        word += strspn(word, " \t\n");
    }
    return found;
}

static bool has_word(const char *line, const char *wanted)
{
    size_t length = strlen(wanted);

    for (const char *word = line; *word; word += strspn(word, " \t\n")) {
        size_t size = strcspn(word, " \t\n");

        if (size == length && strncmp(word, wanted, length) == 0) return true;
        word += size;
    }
    return false;
}

static bool is(const char *value, size_t length, const char *wanted)
{
    return value && strlen(wanted) == length && strncmp(value, wanted, length) == 0;
}

/* Does the kernel hand the root over to an initramfs? Its nfsmount (klibc) does not know proto=tcp, and hangs. */
static bool has_initramfs(const struct doctor *d)
{
    _cleanup_free_ char *path = io_format("%s/config.txt", d->boot), *text = NULL;
    char *rest;
    size_t size;
    bool found = false;

    if (!path || doctor_read(d, path, &text, &size) < 0) return false;
    rest = text;
    for (char *line; (line = strsep(&rest, "\n"));)
        found = found || strncmp(line, "initramfs ", 10) == 0 || strncmp(line, "auto_initramfs=1", 16) == 0;
    return found;
}

/* What is wrong with nfsroot=; NULL: nothing. */
static char *nfsroot_fault(const struct doctor *d, const char *value, size_t length)
{
    _cleanup_free_ char *copy = io_format("%.*s", (int)length, value);
    char *rest = copy, *where = copy ? strsep(&rest, ",") : NULL;
    char *path = where ? strchr(where, ':') : NULL;
    bool v3 = false, tcp = false, proto = false;

    if (!path) return io_format("nfsroot= names no server: '%.*s'", (int)length, value);
    *path++ = '\0';
    if (d->server && strcmp(where, d->server) != 0) return io_format("nfsroot= is on %s, not on %s", where, d->server);
    if (strcmp(path, d->path) != 0) return io_format("nfsroot= is %s, not %s", path, d->path);
    for (char *option; rest && (option = strsep(&rest, ","));) {
        v3 = v3 || strcmp(option, "vers=3") == 0 || strcmp(option, "v3") == 0 || strcmp(option, "nfsvers=3") == 0;
        tcp = tcp || strcmp(option, "tcp") == 0;
        proto = proto || strcmp(option, "proto=tcp") == 0;
    }
    if (!v3) return io_format("nfsroot= has no vers=3");
    if (!tcp && !proto) return io_format("nfsroot= has neither proto=tcp nor tcp");
    if (proto && has_initramfs(d)) return io_format("an initramfs is used, whose nfsmount hangs on proto=tcp: it wants tcp");
    return NULL;
}

static char *cmdline_fault(const struct doctor *d, const char *line)
{
    size_t length = 0;
    const char *root = word_value(line, "root", &length);

    if (strchr(line, '\n') && strchr(line, '\n')[1 + strspn(strchr(line, '\n') + 1, "\n\r \t")])
        return io_format("it has more than one line");
    if (!is(root, length, "/dev/nfs"))
        return io_format("root=%.*s, not /dev/nfs", root ? (int)length : 0, root ? root : "");
    root = word_value(line, "nfsroot", &length);
    if (!root) return io_format("nfsroot= is missing");
    char *fault = nfsroot_fault(d, root, length);
    if (fault) return fault;
    root = word_value(line, "ip", &length);
    if (!root) return io_format("ip=dhcp is missing");
    if (!has_word(line, "rw")) return io_format("rw is missing");
    return NULL;
}

static const char *value_of(const char *name, size_t length, void *data)
{
    const struct doctor *d = data;

    if (length == 6 && memcmp(name, "server", 6) == 0) return d->server ? d->server : "SERVER";
    return length == 6 && memcmp(name, "rootfs", 6) == 0 ? d->path : NULL;
}

/* The line as an import would propose it, without its end of line. */
static char *right_cmdline(struct doctor *d, const char *line)
{
    size_t size, length;
    const char *name;
    _cleanup_free_ char *escaped = template_escape(line, strlen(line), &size);
    _cleanup_free_ char *body = escaped ? proposal_cmdline(escaped, !has_initramfs(d)) : NULL;
    char *text = NULL;

    if (!body || template_expand(body, strlen(body), value_of, d, &text, &size, &name, &length) < 0) return NULL;
    text[strcspn(text, "\n")] = '\0';
    return text;
}

void doctor_cmdline(struct doctor *d)
{
    _cleanup_free_ char *path = io_format("%s/cmdline.txt", d->boot), *line = NULL, *fault = NULL, *right = NULL, *mend = NULL;
    size_t size;
    int r = path ? doctor_read(d, path, &line, &size) : -ENOMEM;

    if (r == -ENOENT && !doctor_first_file(d)) {
        doctor_say(d, DOCTOR_UNKNOWN, NULL, "there is none, as there is no Raspberry Pi's firmware; the boot loader's is not looked at");
        return;
    }
    if (r == 0) fault = cmdline_fault(d, line);
    if (r == 0 && !fault && !d->server)
        doctor_say(d, DOCTOR_UNKNOWN, NULL, "right, if its server is this machine; see 'server'");
    else if (r == 0 && !fault)
        doctor_say(d, DOCTOR_OK, NULL, "root by NFS from %s:%s", doctor_server(d), d->path);
    if (r == 0 && !fault) return;
    right = right_cmdline(d, line ? line : "");
    mend = io_format("echo '%s' >'%s/%s'", right ? right : "", d->path, path);
    doctor_say(d, DOCTOR_WRONG, mend, "%s", fault ? fault : log_reason(r));
}

/* ---- fstab ---- */

static bool is_local_mount(const char *line, char ret_target[64])
{
    char device[256], type[64] = "";

    if (line[strspn(line, " \t")] == '#' || sscanf(line, "%255s %63s %63s", device, ret_target, type) < 2) return false;
    if (strncmp(type, "nfs", 3) == 0 || strcmp(type, "tmpfs") == 0) return false;
    return strcmp(ret_target, "/") == 0 || strcmp(ret_target, "/boot") == 0 || strcmp(ret_target, "/boot/firmware") == 0;
}

void doctor_fstab(struct doctor *d)
{
    _cleanup_free_ char *text = NULL, *mend = NULL;
    char *rest, target[64];
    size_t size;
    int r = doctor_read(d, "etc/fstab", &text, &size);

    if (r == -ENOENT) {
        doctor_say(d, DOCTOR_OK, NULL, "there is none");
        return;
    }
    if (r < 0) {
        doctor_say(d, DOCTOR_UNKNOWN, NULL, "%s", log_reason(r));
        return;
    }
    rest = text;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (!is_local_mount(line, target)) continue;
        mend = io_format("sed -i -E '/^[[:space:]]*[^#[:space:]]+[[:space:]]+\\/(boot(\\/firmware)?)?[[:space:]]/s/^/#/' '%s/etc/fstab'", d->path);
        doctor_say(d, DOCTOR_WRONG, mend, "it mounts %s from a disk that is not there", target);
        return;
    }
    doctor_say(d, DOCTOR_OK, NULL, "nothing in the root's way");
}
