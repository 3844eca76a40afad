/* The command table, and the way from the command line to one of its entries. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "io.h"
#include "log.h"

#define OPTION_VERSION 256

static const struct command commands[] = {
    {
        .name = "init",
        .usage = "[--server ADDR] [--network CIDR]",
        .summary = "make an empty store",
        .help = "Makes an empty store: in --store DIR, else $COPPICE_STORE, else /var/lib/coppice.\n"
                "  --server ADDR   this machine's IPv4 address as the nodes see it\n"
                "  --network CIDR  the nodes' network\n",
        .example = "init --server 10.55.0.1 --network 10.55.0.0/24",
        .run = cmd_init,
    },
    {
        .name = "image",
        .sub = "import",
        .usage = "NAME SOURCE [--partition N] [--no-templates]",
        .summary = "unpack an OS image into the store",
        .help = "Unpacks SOURCE into the store as image NAME: a disk image (.img), a directory, a tar archive, or '-'\n"
                "for an archive or a disk image on standard input; compressed or not. It appears whole or not at all.\n"
                "The boot partition of a disk image lands where the image's own fstab mounts it.\n"
                "The first image becomes the default image.\n"
                "Templates are made of the files that must differ for nodes to boot over NFS and to be told apart.\n"
                "  --partition N   the disk image's root file system is on partition N\n"
                "  --no-templates  leave the image's files as they are in each node\n",
        .example = "image import raspios raspios-lite.img.xz",
        .run = cmd_image_import,
    },
    {
        .name = "image",
        .sub = "promote",
        .usage = "NAME SERIAL[@SNAPSHOT]",
        .summary = "make an image of what a node's root shows",
        .help = "Makes image NAME of what the node's root shows now, or showed at the snapshot; the node goes on.\n"
                "What the node has not changed is shared with its image. What makes it itself is left out, and listed:\n"
                "host name, machine-id, ssh host keys, what templates write. Templates of its image are the new one's, too.\n",
        .example = "image promote debian-2 000000008a4232c8@after-upgrade",
        .run = cmd_image_promote,
    },
    {
        .name = "image",
        .sub = "list",
        .usage = "[--json]",
        .summary = "list the images",
        .help = "Lists the images. NODES is the number of nodes whose root stands on the image.\n"
                "  --json  print JSON\n",
        .example = "image list",
        .run = cmd_image_list,
    },
    {
        .name = "image",
        .sub = "show",
        .usage = "NAME [--json]",
        .summary = "show one image",
        .help = "Shows one image.\n"
                "  --json  print JSON\n",
        .example = "image show debian",
        .run = cmd_image_show,
    },
    {
        .name = "image",
        .sub = "default",
        .usage = "NAME",
        .summary = "choose the image of nodes that name none",
        .help = "Makes NAME the default image, for nodes that name no image.\n"
                "A node that has changes keeps the image they were made on.\n",
        .example = "image default debian",
        .run = cmd_image_default,
    },
    {
        .name = "image",
        .sub = "remove",
        .usage = "NAME",
        .summary = "delete an image that no node uses",
        .help = "Deletes an image. Refused while a node stands on it.\n",
        .example = "image remove debian-old",
        .run = cmd_image_remove,
    },
    {
        .name = "node",
        .sub = "add",
        .usage = "[SERIAL] [--pending MAC] [--mac MAC] [--ip IP] [--hostname NAME] [--image NAME] [--from SERIAL[@SNAPSHOT]] "
                 "[--from-file FILE]",
        .summary = "add a node",
        .help = "Adds a node, mounted or not. Its root is MOUNTPOINT/system/SERIAL/rootfs.\n"
                "  --pending MAC    one of 'coppice node pending'; without SERIAL it is named by the serial that the board\n"
                "                   has told, else by its MAC with dashes\n"
                "  --log FILE       with --pending: dnsmasq's log, as for 'coppice node pending'\n"
                "  --mac MAC        its network card: b8:27:eb:42:32:c8 or B8-27-EB-42-32-C8\n"
                "  --ip IP          its IPv4 address\n"
                "  --hostname NAME  its host name\n"
                "  --image NAME     its image; without it, the default image\n"
                "  --from NODE      with all that node NODE has changed by now, or at its snapshot with NODE@SNAPSHOT\n"
                "  --from-file FILE with what a tar of 'coppice node export --delta' has, from here or from another router that has\n"
                "                   the same image; '-': standard input. --image NAME: over this image, whatever the tar names\n",
        .example = "node add 000000008a4232c8 --mac b8:27:eb:42:32:c8",
        .run = cmd_node_add,
    },
    {
        .name = "node",
        .sub = "export",
        .usage = "SERIAL[@NAME] FILE [--delta]",
        .summary = "write a node's root into a tar",
        .help = "Writes what the node's root shows, in this instant or at snapshot NAME, into the tar FILE, or with '-' to standard\n"
                "output. A FILE that ends with .gz, .xz or .zst is compressed. 'coppice image import' makes an image of a\n"
                "whole one, here or on another router.\n"
                "  --delta  only what differs from the image, as a layer of an OCI image: .wh.NAME is a name that is gone,\n"
                "           .wh..wh..opq a directory that shows nothing of the image's; 'coppice node add NEW --from-file FILE' makes a node of it\n",
        .example = "node export 000000008a4232c8@before-upgrade node.tar.zst",
        .run = cmd_node_export,
    },
    {
        .name = "node",
        .sub = "list",
        .usage = "[--json]",
        .summary = "list the nodes",
        .help =
            "Lists the nodes. CHANGES is what a node's changes take on the disk.\n"
            "  --json  print JSON; image is null for a node that names none, base is the image its root stands on\n",
        .example = "node list",
        .run = cmd_node_list,
    },
    {
        .name = "node",
        .sub = "show",
        .usage = "SERIAL [--json]",
        .summary = "show one node",
        .help =
            "Shows one node.\n"
            "  --json  print JSON; image is null for a node that names none, base is the image its root stands on\n",
        .example = "node show 000000008a4232c8",
        .run = cmd_node_show,
    },
    {
        .name = "node",
        .sub = "set",
        .usage = "SERIAL [--mac MAC] [--ip IP] [--hostname NAME] [--image NAME]",
        .summary = "change what is known of a node",
        .help = "Changes the given values and leaves the others; '' clears one.\n"
                "  --mac MAC        its network card: b8:27:eb:42:32:c8 or B8-27-EB-42-32-C8\n"
                "  --ip IP          its IPv4 address\n"
                "  --hostname NAME  its host name\n"
                "  --image NAME     its image; '' is the default image\n",
        .example = "node set 000000008a4232c8 --hostname pi7 --ip ''",
        .run = cmd_node_set,
    },
    {
        .name = "node",
        .sub = "remove",
        .usage = "SERIAL [--purge]",
        .summary = "remove a node; its changes stay on the disk",
        .help = "Removes a node. Its changes stay on the disk: adding the same serial again finds them.\n"
                "  --purge  delete its changes too, for good; refused while the store is mounted\n",
        .example = "node remove 000000008a4232c8",
        .run = cmd_node_remove,
    },
    {
        .name = "node",
        .sub = "pending",
        .usage = "[--log FILE] [--json]",
        .summary = "list machines that asked to boot and have no row",
        .help = "Lists machines that asked dnsmasq to boot and have no row, from its log (log-dhcp). The serial is the end of\n"
                "the board's: a Pi 4 or 5 tells it in DHCP option 97 or in the files that it asks for; a Pi 3 does not.\n"
                "  --log FILE  dnsmasq's log; without it its log-facility, the journal, or /var/log/syslog and the like\n"
                "  --json      print JSON\n"
                "'coppice node add --pending MAC' adds one.\n",
        .example = "node pending",
        .run = cmd_node_pending,
    },
    {
        .name = "node",
        .sub = "render",
        .usage = "SERIAL [PATH]",
        .summary = "print the files that templates write into a node's root",
        .help = "Prints what templates write into the node's root when it is first looked into, or again after it was\n"
                "reset to its image; with PATH that one file, byte for byte. Writes nothing.\n",
        .example = "node render 000000008a4232c8 etc/hostname",
        .run = cmd_node_render,
    },
    {
        .name = "template",
        .sub = "list",
        .usage = "[--json]",
        .summary = "list the templates of nodes' own files",
        .help = "Lists the templates. IMAGE '-' is every image; ABSENT: the node does not have the file.\n"
                "  --json  print JSON\n",
        .example = "template list",
        .run = cmd_template_list,
    },
    {
        .name = "template",
        .sub = "show",
        .usage = "PATH [--image NAME]",
        .summary = "print a template",
        .help = "Prints the body of a template.\n"
                "  --image NAME  the image's own; without it, that of every image\n",
        .example = "template show etc/fstab --image raspios",
        .run = cmd_template_show,
    },
    {
        .name = "template",
        .sub = "set",
        .usage = "PATH FILE [--image NAME] [--mode MODE]",
        .summary = "have a file of its own in each node's root",
        .help = "Nodes that are looked into for the first time get FILE ('-': standard input) as PATH, with ${serial} ${mac}\n"
                "${ip} ${hostname} ${server} ${rootfs} and their rows of table variable filled in; $${ is a plain ${.\n"
                "  --image NAME  only nodes that stand on this image\n"
                "  --mode MODE   its permissions; without it those of the image's file, or 644\n",
        .example = "template set etc/motd motd.txt --image raspios",
        .run = cmd_template_set,
    },
    {
        .name = "template",
        .sub = "absent",
        .usage = "PATH [--image NAME]",
        .summary = "have a file of the image missing in each node's root",
        .help = "Nodes that are looked into for the first time do not have the image's PATH.\n"
                "  --image NAME  only nodes that stand on this image\n",
        .example = "template absent etc/ssh/ssh_host_rsa_key --image raspios",
        .run = cmd_template_absent,
    },
    {
        .name = "template",
        .sub = "remove",
        .usage = "PATH [--image NAME]",
        .summary = "remove a template; nodes keep what they have",
        .help = "Removes a template. What it wrote into nodes' roots stays.\n"
                "  --image NAME  the image's own; without it, that of every image\n",
        .example = "template remove etc/motd",
        .run = cmd_template_remove,
    },
    {
        .name = "snapshot",
        .sub = "create",
        .usage = "SERIAL NAME [--note TEXT]",
        .summary = "keep what a node's root shows now",
        .help = "Keeps what the node's root shows in this instant, mounted or not; the node goes on.\n"
                "It takes the room of the rows of its changes; contents are shared.\n"
                "  --note TEXT  for 'snapshot list'\n",
        .example = "snapshot create 000000008a4232c8 before-upgrade",
        .run = cmd_snapshot_create,
    },
    {
        .name = "snapshot",
        .sub = "list",
        .usage = "[SERIAL] [--json]",
        .summary = "list the snapshots",
        .help = "Lists the snapshots, of one node or of all, the oldest first.\n"
                "AUTOMATIC are those that reset and rebase take; MADE is empty for a row whose snapshot is still to be made.\n"
                "  --json  print JSON\n",
        .example = "snapshot list 000000008a4232c8",
        .run = cmd_snapshot_list,
    },
    {
        .name = "snapshot",
        .sub = "delete",
        .usage = "SERIAL NAME",
        .summary = "delete a snapshot",
        .help = "Deletes a snapshot. Nothing else needs it: clones and other snapshots have links of their own.\n",
        .example = "snapshot delete 000000008a4232c8 before-upgrade",
        .run = cmd_snapshot_delete,
    },
    {
        .name = "snapshot",
        .sub = "prune",
        .usage = "SERIAL [--keep N] [--keep-days N]",
        .summary = "delete old snapshots",
        .help = "Deletes the node's snapshots but for those that one of the rules keeps.\n"
                "  --keep N       the newest N\n"
                "  --keep-days N  those of the last N days\n",
        .example = "snapshot prune 000000008a4232c8 --keep 7",
        .run = cmd_snapshot_prune,
    },
    {
        .name = "reset",
        .usage = "SERIAL [--to NAME] [--force] [--discard]",
        .summary = "take a node back to its image or to a snapshot",
        .help = "Takes the node's root back to its image, or to a snapshot. Files that the node has open are stale then.\n"
                "What the root showed is kept as snapshot before-reset: 'reset SERIAL --to before-reset' undoes a reset.\n"
                "Setting keep_automatic says how many of these are kept, older ones with their date in the name (3; 0: none).\n"
                "A node that has mounted its root, or has used it in the last 10 seconds, is left alone.\n"
                "  --to NAME  to this snapshot\n"
                "  --force    also while it is in use\n"
                "  --discard  keep no snapshot of what there was\n",
        .example = "reset 000000008a4232c8",
        .run = cmd_reset,
    },
    {
        .name = "diff",
        .usage = "SERIAL[@NAME] [PATH] [--from NAME] [--stat] [--json]",
        .summary = "show what a node has changed",
        .help = "Shows in what the node's root differs from its image: now, or at snapshot NAME. One line for each path:\n"
                "A added, D deleted, M modified, T of another type. With PATH only that, and what is below it.\n"
                "A file whose contents, mode, owner, mtime and attributes are the image's is not listed, even if the node has\n"
                "written to it; nor is a directory in which only names have changed. A renamed directory is D and A of all in it.\n"
                "Bytes that end lines are shown as \\012, a backslash as \\\\.\n"
                "  --from NAME  from its snapshot NAME on, instead of from the image\n"
                "  --stat       with sizes, and what was modified\n"
                "  --json       print JSON, with what --stat has\n",
        .example = "diff 000000008a4232c8 --from before-upgrade /etc",
        .run = cmd_diff,
    },
    {
        .name = "rebase",
        .usage = "SERIAL IMAGE [--dry-run] [--force]",
        .summary = "take a node's own changes to another image",
        .help = "What the node has not changed comes from the new image, what it has changed stays. What both have changed is\n"
                "listed: the node's is kept, with the new image's version beside it as NAME.coppice-new.\n"
                "Files that the node has open are stale then. What its root showed is kept as snapshot before-rebase;\n"
                "'reset SERIAL --to before-rebase' undoes it. Setting keep_automatic: see 'reset --help'.\n"
                "A node that has mounted its root, or has used it in the last 10 seconds, is left alone.\n"
                "  --dry-run  only print what would be\n"
                "  --force    also while it is in use, unless it writes meanwhile\n",
        .example = "rebase 000000008a4232c8 debian-13.2 --dry-run",
        .run = cmd_rebase,
    },
    {
        .name = "mount",
        .usage = "[-f|-d] [-o OPTS] [--replace] MOUNTPOINT",
        .summary = "mount the nodes' roots",
        .help = "Mounts the store on the directory MOUNTPOINT and returns when it is usable.\n"
                "A supervisor stays with it: when the daemon dies, the next one takes over.\n"
                "  -f             stay in the foreground\n"
                "  -d             one process in the foreground, without supervisor, for a debugger\n"
                "  -o sync        changes are on the disk before they are answered, as NFS asks (the default)\n"
                "  -o async       changes reach the disk every 5 seconds; for local work, not for NFS\n"
                "  -o async=SECS  the same, every SECS seconds (1 to 3600)\n"
                "  -o apply       keep the exports and dnsmasq's configuration as the catalog says\n"
                "  --replace      let this program take over the mount from the one that serves it, after an upgrade\n"
                "Options of -o are joined by commas.\n",
        .example = "mount /mnt/cluster",
        .run = cmd_mount,
    },
    {
        .name = "umount",
        .usage = "MOUNTPOINT",
        .summary = "take the mount down",
        .help = "Takes the mount down and waits until the store is free to be mounted again.\n",
        .example = "umount /mnt/cluster",
        .run = cmd_umount,
    },
    {
        .name = "exports",
        .usage = "[--network CIDR] [--mountpoint DIR] [--install]",
        .summary = "print or install the exports for the NFS server",
        .help = "Prints the lines for exports(5): for every node with an ip its own root, for that address alone;\n"
                "while no node has one, all roots for the network.\n"
                "  --network CIDR    the nodes' network; without it the one of the catalog\n"
                "  --mountpoint DIR  where the view is, when it is not mounted now\n"
                "  --install         write /etc/exports.d/coppice.exports, tell the NFS server, remember the network\n"
                "'coppice mount -o apply' keeps what is installed as the catalog says.\n",
        .example = "exports --network 10.55.0.0/24 --install",
        .run = cmd_exports,
    },
    {
        .name = "dnsmasq",
        .usage = "[--network CIDR] [--dhcp KIND] [--mountpoint DIR] [--install]",
        .summary = "print or install the configuration of dnsmasq",
        .help = "Prints what dnsmasq needs to boot the nodes: TFTP out of the view, the answer that a Raspberry Pi's boot\n"
                "ROM waits for, and a lease for every node with mac and ip.\n"
                "  --network CIDR    the nodes' network; gives addresses there (--dhcp full) unless --dhcp says otherwise\n"
                "  --dhcp full       this is the network's DHCP server\n"
                "  --dhcp proxy      another machine is\n"
                "  --dhcp none       dhcp-range stands in another file of dnsmasq's\n"
                "  --mountpoint DIR  where the view is, when it is not mounted now\n"
                "  --install         write /etc/dnsmasq.d/coppice.conf and /etc/coppice/dhcp-hosts/, restart dnsmasq when\n"
                "                    need be, and remember --network and --dhcp\n"
                "'coppice mount -o apply' keeps what is installed as the catalog says.\n",
        .example = "dnsmasq --network 10.55.0.0/24 --dhcp proxy --install",
        .run = cmd_dnsmasq,
    },
    {
        .name = "fsck",
        .usage = "[--repair] [--contents] [--json] [SERIAL]",
        .summary = "check the store, and repair it",
        .help = "Checks the catalog, the images against their indexes, and every node's changes; with SERIAL\n"
                "that node's changes alone. Prints a line for each thing found, and what was done about it.\n"
                "Works on a mounted store, unless it is to repair.\n"
                "  --repair    repair what can be: nothing that can be kept is thrown away, files without a name\n"
                "              go to lost+found in the node's root; refused while the store is mounted\n"
                "  --contents  read every file of the images and compare it with the import's digest\n"
                "  --json      print JSON\n"
                "Exit status as fsck(8): 0 clean, 1 all repaired, 4 something left, 8 could not run, 16 wrong usage.\n",
        .example = "fsck --repair 000000008a4232c8",
        .run = cmd_fsck,
    },
    {
        .name = "doctor",
        .usage = "[SERIAL] [--model NAME] [--watch] [--log FILE] [--seconds N]",
        .summary = "tell whether a node would boot, and which step is wrong",
        .help = "Goes through every step of a boot: mount, image, boot files, kernel command line, fstab, interfaces, TFTP,\n"
                "NFS. Each is ok, wrong (with the command that mends it) or cannot be told (?). TFTP and NFS are asked as\n"
                "the board asks them. Exit status 1 when something is wrong. Without SERIAL, all nodes.\n"
                "  --model NAME  the board: pi3 (and older), pi4, pi5; without it, whichever the boot files are for\n"
                "  --watch       look on while a board boots, and say how far it came\n"
                "  --log FILE    with --watch: dnsmasq's log, as for 'coppice node pending'\n"
                "  --seconds N   with --watch: end after N seconds; without it at Ctrl-C\n",
        .example = "doctor 000000008a4232c8",
        .run = cmd_doctor,
    },
    {
        .name = "status",
        .usage = "[--json]",
        .summary = "show the store, its mount, its images and nodes",
        .help = "Shows where the store is, whether it is mounted, and what it holds.\n"
                "  --json  print JSON\n",
        .example = "status",
        .run = cmd_status,
    },
};
#define COMMANDS (sizeof commands / sizeof *commands)

static int usage_error(const char *about, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As cmd_usage_error(), before a command is known; `about` is the group whose help to read, or NULL. */
static int usage_error(const char *about, const char *format, ...)
{
    _cleanup_free_ char *message = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&message, format, arguments) < 0) message = NULL;
    va_end(arguments);
    log_error("%s", message ? message : "wrong usage");
    fprintf(stderr, "try 'coppice %s%s--help'\n", about ? about : "", about ? " " : "");
    return CMD_USAGE;
}

/* The commands of one group, or all of them. */
static void print_commands(const char *group)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        const struct command *command = &commands[i];
        char name[32];
        if (group && strcmp(group, command->name) != 0) continue;
        snprintf(name, sizeof name, "%s %s", command->name, command->sub ? command->sub : "");
        printf("    %-14s  %s\n", name, command->summary);
    }
}

static int help_program(void)
{
    puts("usage: coppice [--store DIR] COMMAND ...\n\n"
         "Gives every diskless node its own writable root file system, grown from one image.\n\n"
         "commands:");
    print_commands(NULL);
    puts("\noptions:\n"
         "    --store DIR     the store; without it $COPPICE_STORE, else /var/lib/coppice\n"
         "    --version       print the version\n"
         "    --help          print this, or a command's own help: coppice COMMAND --help\n\n"
         "example:\n"
         "    coppice init\n"
         "    coppice image import debian debian.tar.zst\n"
         "    coppice node add 000000008a4232c8 --mac b8:27:eb:42:32:c8\n"
         "    coppice mount /mnt/cluster\n"
         "    ls /mnt/cluster/system/000000008a4232c8/rootfs");
    return CMD_DONE;
}

static int help_group(const char *group)
{
    printf("usage: coppice [--store DIR] %s COMMAND ...\n\ncommands:\n", group);
    print_commands(group);
    printf("\nexample:\n    coppice %s list\n\n'coppice %s COMMAND --help' tells more.\n", group, group);
    return CMD_DONE;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Number of letters to insert, delete, replace or swap with their neighbour to turn `a` into `b`. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 24 };
    size_t m = strlen(a), n = strlen(b);
    size_t cost[LONGEST + 1][LONGEST + 1];
    if (m > LONGEST || n > LONGEST) return m > n ? m : n;
    for (size_t i = 0; i <= m; i++) {
        for (size_t j = 0; j <= n; j++) {
            if (i == 0 || j == 0) {
                cost[i][j] = i + j;
                continue;
            }
            cost[i][j] = least(cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]), least(cost[i - 1][j], cost[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                cost[i][j] = least(cost[i][j], cost[i - 2][j - 2] + 1);
        }
    }
    return cost[m][n];
}

/* A word that is no command is most often a command misspelt, or the second word without the first. */
static int unknown_command(const char *word)
{
    const struct command *nearest = NULL;
    const char *sub = NULL;
    size_t best = (size_t)-1;
    for (size_t i = 0; i < COMMANDS; i++) {
        size_t by_name = distance(word, commands[i].name);
        size_t by_sub = commands[i].sub ? distance(word, commands[i].sub) : by_name;
        if (least(by_name, by_sub) >= best) continue;
        best = least(by_name, by_sub);
        nearest = &commands[i];
        sub = by_sub < by_name ? nearest->sub : NULL;
    }
    return usage_error(NULL, "%s: no such command; the nearest is '%s%s%s'", word, nearest->name, sub ? " " : "",
                       sub ? sub : "");
}

static int unknown_sub(const char *group, const char *word)
{
    const char *nearest = NULL;
    size_t best = (size_t)-1;
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(group, commands[i].name) != 0) continue;
        size_t d = distance(word, commands[i].sub);
        if (d >= best) continue;
        best = d;
        nearest = commands[i].sub;
    }
    return usage_error(group, "%s %s: no such command; the nearest is '%s %s'", group, word, group, nearest);
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int run_group(struct cmd *cmd)
{
    const char *group = cmd->argv[0];
    if (cmd->argc < 2) return usage_error(group, "%s: COMMAND is missing", group);
    const char *sub = cmd->argv[1];
    if (is_help(sub)) return help_group(group);
    if (sub[0] == '-') return usage_error(group, "%s: %s: no such option", group, sub);
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(group, commands[i].name) != 0 || strcmp(sub, commands[i].sub) != 0) continue;
        cmd->command = &commands[i];
        cmd->argc--;
        cmd->argv++;
        return cmd->command->run(cmd);
    }
    return unknown_sub(group, sub);
}

static int run_command(struct cmd *cmd)
{
    if (cmd->argc < 1) return usage_error(NULL, "COMMAND is missing");
    if (strcmp(cmd->argv[0], "help") == 0) return help_program();
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(cmd->argv[0], commands[i].name) != 0) continue;
        if (commands[i].sub) return run_group(cmd);
        cmd->command = &commands[i];
        return cmd->command->run(cmd);
    }
    return unknown_command(cmd->argv[0]);
}

static int option_error(char **argv, bool missing)
{
    const char *word = argv[optind - 1];
    if (missing) return usage_error(NULL, "--store: needs a value");
    return usage_error(NULL, "%.*s: no such option", (int)strcspn(word, "="), word);
}

/* A shell sees a full disk behind '>' only by the exit code. */
static int finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    log_error("standard output: %s", log_reason(errno));
    return status == CMD_DONE ? CMD_FAILED : status;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"store", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, OPTION_VERSION},
        {0},
    };
    const char *option = NULL;
    opterr = 0;
    for (int found; (found = getopt_long(argc, argv, "+:h", names, NULL)) != -1;) {
        switch (found) {
        case 's': option = optarg; break;
        case 'h': return finish(help_program());
        case OPTION_VERSION: puts("coppice " COPPICE_VERSION); return finish(CMD_DONE);
        default: return option_error(argv, found == ':');
        }
    }
    _cleanup_free_ char *program = option ? io_format("coppice --store %s", option) : NULL;
    struct cmd cmd = {
        .store = store_default_path(option),
        .program = program ? program : "coppice",
        .argc = argc - optind,
        .argv = argv + optind,
    };
    return finish(run_command(&cmd));
}
