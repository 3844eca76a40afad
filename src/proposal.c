#include "proposal.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "listing.h"
#include "proposal_text.h"
#include "rootdir.h"
#include "template_text.h"

#define FILE_MOST (1 << 20)
#define CONFIG_MOST (4 << 20)

struct making {
    struct proposals list;
    int root_fd;
    const char *boot;
    bool has_config, has_nfs, has_initrd, has_firmware; /* what kernels there are: see look_at_kernels() */
    bool in_kernel;                                     /* the kernel can mount an NFS root itself */
    int r;          /* the first failure: nothing more is done then */
};

static void add(struct making *m, const char *path, char *body, int mode, const char *why)
{
    void *grown = m->r < 0 ? NULL : reallocarray(m->list.items, m->list.count + 1, sizeof(*m->list.items));
    char *copy = grown ? strdup(path) : NULL;

    if (grown) m->list.items = grown;
    if (!copy) {
        if (m->r == 0) m->r = -ENOMEM;
        free(body);
        return;
    }
    m->list.items[m->list.count++] = (struct proposal){copy, body, mode, why};
}

static void add_new(struct making *m, const char *path, const char *body, const char *why)
{
    char *copy = strdup(body);

    if (copy) add(m, path, copy, 644, why);
    else m->r = -ENOMEM;
}

static void add_absent(struct making *m, const char *path, const char *why)
{
    add(m, path, NULL, -1, why);
}

/* The file as a body that would write it; NULL: there is none, or it is no text. */
static char *read_text(struct making *m, const char *path)
{
    _cleanup_free_ char *text = NULL;
    size_t size;

    if (rootdir_read(m->root_fd, path, FILE_MOST, &text, &size) < 0 || strlen(text) != size) return NULL;
    return template_escape(text, size, &size);
}

typedef char *(*rewrite_fn)(const char *text);

static void rewrite(struct making *m, const char *path, rewrite_fn fn, const char *why)
{
    _cleanup_free_ char *text = read_text(m, path), *body = text ? fn(text) : NULL;

    if (!text) return;
    if (!body) m->r = -ENOMEM;
    else if (strcmp(body, text) != 0) add(m, path, io_take(body), -1, why);
}

/* Calls back for each name in the directory that fits the pattern of fnmatch(3), with its path. */
typedef void (*entry_fn)(struct making *m, const char *path, const char *name);
static void each(struct making *m, const char *directory, const char *pattern, entry_fn fn)
{
    _cleanup_listing_ struct listing listing = {0};
    _cleanup_close_ int fd = rootdir_open(m->root_fd, directory, O_RDONLY | O_DIRECTORY);

    if (fd < 0 || listing_read(&listing, fd) < 0) return;
    for (size_t i = 0; i < listing.count; i++) {
        _cleanup_free_ char *path = io_format("%s/%s", directory, listing.items[i].name);

        if (!path) m->r = -ENOMEM;
        else if (fnmatch(pattern, listing.items[i].name, 0) == 0) fn(m, path, listing.items[i].name);
    }
}

/* ---- the kernel ---- */


static void look_at_config(struct making *m, const char *path, const char *name)
{
    _cleanup_free_ char *text = NULL;
    size_t size;

    (void)name;
    if (rootdir_read(m->root_fd, path, CONFIG_MOST, &text, &size) < 0) return;
    m->has_config = true;
    if (strstr(text, "\nCONFIG_ROOT_NFS=y\n")) m->has_nfs = true;
}

static void look_at_initrd(struct making *m, const char *path, const char *name)
{
    (void)path, (void)name;
    m->has_initrd = true;
}

static void look_at_firmware(struct making *m, const char *path, const char *name)
{
    (void)path, (void)name;
    m->has_firmware = true;
}

/* Its configuration tells. Without one, kernel*.img is the Raspberry Pi's own, which can, and a kernel with an initrd
 * beside it is a distribution's, which cannot. */
static void look_at_kernels(struct making *m)
{
    each(m, "boot", "config-*", look_at_config);
    if (strcmp(m->boot, "boot") != 0) each(m, m->boot, "config-*", look_at_config);
    each(m, m->boot, "kernel*.img", look_at_firmware);
    each(m, m->boot, "initrd.img-*", look_at_initrd);
    each(m, "boot", "initrd.img-*", look_at_initrd);
    m->in_kernel = m->has_config ? m->has_nfs : m->has_firmware || !m->has_initrd;
}

static char *cmdline_in_kernel(const char *text)
{
    return proposal_cmdline(text, true);
}

static char *cmdline_in_initramfs(const char *text)
{
    return proposal_cmdline(text, false);
}

static char *pxelinux_in_kernel(const char *text)
{
    return proposal_pxelinux(text, true);
}

static char *pxelinux_in_initramfs(const char *text)
{
    return proposal_pxelinux(text, false);
}

static void propose_boot(struct making *m)
{
    _cleanup_free_ char *cmdline = io_format("%s/cmdline.txt", m->boot), *config = io_format("%s/config.txt", m->boot);
    _cleanup_free_ char *menu = io_format("%s/pxelinux.cfg/default", m->boot);

    if (!cmdline || !config || !menu) {
        m->r = -ENOMEM;
        return;
    }
    look_at_kernels(m);
    rewrite(m, cmdline, m->in_kernel ? cmdline_in_kernel : cmdline_in_initramfs, "the root over NFS");
    rewrite(m, menu, m->in_kernel ? pxelinux_in_kernel : pxelinux_in_initramfs, "the root over NFS");
    if (m->in_kernel && rootdir_has(m->root_fd, cmdline))
        rewrite(m, config, proposal_config, "no initramfs: the kernel mounts the root");
    rewrite(m, "etc/fstab", proposal_fstab, "no mounts of a disk");
}

/* ---- the network ---- */

static const char hands_off[] = "hands off the interface of the root";

static void rewrite_interfaces(struct making *m, const char *path, const char *name)
{
    (void)name;
    rewrite(m, path, proposal_interfaces, hands_off);
}

static void keep_configuration(struct making *m, const char *path, const char *name)
{
    _cleanup_free_ char *drop_in = io_format("%s.d/coppice.conf", path);

    (void)name;
    if (drop_in) add_new(m, drop_in, "[Network]\nKeepConfiguration=yes\n", "keeps the address of the root's interface");
    else m->r = -ENOMEM;
}

static void propose_network(struct making *m)
{
    rewrite(m, "etc/network/interfaces", proposal_interfaces, hands_off);
    each(m, "etc/network/interfaces.d", "*", rewrite_interfaces);
    rewrite(m, "etc/dhcpcd.conf", proposal_dhcpcd, hands_off);
    each(m, "etc/systemd/network", "*.network", keep_configuration);
    /* eth0 is end0 where names are the predictable ones. */
    if (rootdir_has(m->root_fd, "etc/NetworkManager"))
        add_new(m, "etc/NetworkManager/conf.d/coppice.conf",
                "# The root file system comes through it.\n"
                "[keyfile]\n"
                "unmanaged-devices=interface-name:eth0;interface-name:end0\n",
                hands_off);
}

/* ---- what each node has for itself ---- */

static const char own_identity[] = "each node its own";

static char *write_hostname(const char *text)
{
    (void)text;
    return strdup("${hostname}\n");
}

/* Empty, so that systemd makes one and keeps it (machine-id(5)). */
static char *empty(const char *text)
{
    (void)text;
    return strdup("");
}

static void drop_key(struct making *m, const char *path, const char *name)
{
    (void)name;
    add_absent(m, path, own_identity);
}

/* Without keys sshd does not start; Debian makes them when the package is installed, and never again. */
static void propose_ssh_keys(struct making *m)
{
    size_t before = m->list.count;
    bool has_server = rootdir_has(m->root_fd, "usr/sbin/sshd");

    /* An image without keys counts on its own first boot (Raspberry Pi OS: init=…firstboot), which enlarges a disk too. */
    each(m, "etc/ssh", "ssh_host_*key*", drop_key);
    if ((has_server || m->list.count > before) && rootdir_has(m->root_fd, "usr/bin/ssh-keygen"))
        add_new(m, "etc/systemd/system/ssh.service.d/coppice.conf",
                "[Service]\n"
                "ExecStartPre=\n"
                "ExecStartPre=/usr/bin/ssh-keygen -A\n"
                "ExecStartPre=/usr/sbin/sshd -t\n",
                "makes the node's own keys");
    before = m->list.count;
    each(m, "etc/dropbear", "dropbear_*_host_key", drop_key);
    if (m->list.count > before)
        add_new(m, "etc/systemd/system/dropbear.service.d/coppice.conf",
                "[Service]\n"
                "ExecStartPre=/bin/sh -c 'for t in rsa ecdsa ed25519; do "
                "f=/etc/dropbear/dropbear_\"$$t\"_host_key; [ -s \"$$f\" ] || dropbearkey -t $$t -f \"$$f\"; done; :'\n",
                "makes the node's own keys");
}

static void propose_identity(struct making *m)
{
    struct stat st;

    rewrite(m, "etc/hostname", write_hostname, own_identity);
    rewrite(m, "etc/hosts", proposal_hosts, own_identity);
    rewrite(m, "etc/machine-id", empty, own_identity);
    if (fstatat(m->root_fd, "var/lib/dbus/machine-id", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
        add_absent(m, "var/lib/dbus/machine-id", own_identity);
    propose_ssh_keys(m);
}

/* ---- services of a disk ---- */

static void drop_service(struct making *m, const char *path, const char *name)
{
    static const struct {
        const char *name, *why;
    } services[] = {
        {"dphys-swapfile", "no swap file"},
        {"resize2fs_once", "no disk to resize"},
        {"rpi-resize", "no disk to resize"},
        {"rpi-resizerootfs", "no disk to resize"},
        {"dietpi-fs_partition_resize", "no disk to resize"},
        {"fstrim", "no disk to trim"},
    };
    const char *end = strrchr(name, '.');
    size_t length = end ? (size_t)(end - name) : strlen(name);

    /* S01resize2fs_once of sysvinit */
    if (!end && length > 3 && name[0] == 'S') name += 3, length -= 3;
    for (size_t i = 0; i < sizeof(services) / sizeof(*services); i++)
        if (strlen(services[i].name) == length && strncmp(name, services[i].name, length) == 0)
            add_absent(m, path, services[i].why);
}

static void look_into_wants(struct making *m, const char *path, const char *name)
{
    (void)name;
    each(m, path, "*.service", drop_service);
    each(m, path, "*.timer", drop_service);
}

static void look_into_runlevel(struct making *m, const char *path, const char *name)
{
    (void)name;
    each(m, path, "S[0-9][0-9]*", drop_service);
}

static void propose_services(struct making *m)
{
    /* /lib is a symlink in newer systems: through usr/lib then. */
    const char *lib = rootdir_has(m->root_fd, "usr/lib/systemd/system") ? "usr/lib/systemd/system" : "lib/systemd/system";
    const char *const places[] = {"etc/systemd/system", lib};

    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        each(m, places[i], "*.wants", look_into_wants);
        each(m, places[i], "*.requires", look_into_wants);
    }
    each(m, "etc", "rc[2-5S].d", look_into_runlevel);
    /* swap.conf(5) of rpi-swap */
    if (rootdir_has(m->root_fd, "usr/lib/systemd/system-generators/rpi-swap-generator"))
        add_new(m, "etc/rpi/swap.conf.d/90-coppice.conf", "[Main]\nMechanism=zram\n", "no swap file");
}

/* What the systems' own first boot reads from the boot partition. */
static void propose_first_boot(struct making *m)
{
    _cleanup_free_ char *dietpi = io_format("%s/dietpi.txt", m->boot), *user_data = io_format("%s/user-data", m->boot);

    if (!dietpi || !user_data) {
        m->r = -ENOMEM;
        return;
    }
    rewrite(m, dietpi, proposal_dietpi, "its first boot: no swap file, no network, its own name");
    rewrite(m, user_data, proposal_user_data, own_identity);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct proposal *)a)->path, ((const struct proposal *)b)->path);
}

int proposals_make(struct proposals *ret_proposals, int rootfs_fd, const char *boot)
{
    struct making making = {.root_fd = rootfs_fd, .boot = boot};

    propose_boot(&making);
    propose_network(&making);
    propose_identity(&making);
    propose_services(&making);
    propose_first_boot(&making);
    if (making.list.count > 0)
        qsort(making.list.items, making.list.count, sizeof(*making.list.items), by_path);
    if (making.r < 0) proposals_free(&making.list);
    else *ret_proposals = making.list;
    return making.r;
}

void proposals_free(struct proposals *proposals)
{
    for (size_t i = 0; i < proposals->count; i++) {
        free(proposals->items[i].path);
        free(proposals->items[i].body);
    }
    free(proposals->items);
    *proposals = (struct proposals){0};
}
