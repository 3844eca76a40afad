#include "proposal_text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLANKS " \t"
#define INTERFACE "eth0"

/* The next line with its end, if it has one; NULL: there are no more. */
static const char *next_line(const char **at, size_t *ret_length)
{
    const char *line = *at, *end = strchr(line, '\n');

    if (!*line) return NULL;
    *ret_length = end ? (size_t)(end + 1 - line) : strlen(line);
    *at = line + *ret_length;
    return line;
}

/* The n-th word of a line, from 0. */
static const char *word_of(const char *line, size_t length, int n, size_t *ret_length)
{
    const char *at = line, *end = line + length;

    for (;; n--) {
        while (at < end && isspace((unsigned char)*at)) at++;
        *ret_length = 0;
        while (at + *ret_length < end && !isspace((unsigned char)at[*ret_length])) ++*ret_length;
        if (n == 0 || *ret_length == 0) return at;
        at += *ret_length;
    }
}

static bool is(const char *word, size_t length, const char *text)
{
    return strlen(text) == length && memcmp(word, text, length) == 0;
}

static bool begins(const char *word, size_t length, const char *text)
{
    return length >= strlen(text) && memcmp(word, text, strlen(text)) == 0;
}

static bool holds(const char *word, size_t length, const char *text)
{
    return memmem(word, length, text, strlen(text)) != NULL;
}

/* Opened with open_memstream(3) on *text. */
static char *finish(FILE *out, char **text)
{
    if (fclose(out) == 0) return *text;
    free(*text);
    return NULL;
}

/* ---- cmdline.txt ---- */

/* A space inside quotes does not end it (linux/lib/cmdline.c, next_arg). */
static size_t parameter_length(const char *at)
{
    bool quoted = false;
    size_t length = 0;

    for (; at[length] && (quoted || !isspace((unsigned char)at[length])); length++)
        if (at[length] == '"') quoted = !quoted;
    return length;
}

/* What speaks of a root on a disk, or would enlarge it, or stands in the new line. */
static bool is_dropped(const char *word, size_t length)
{
    static const char *const begun[] = {"root=", "rootfstype=", "fsck.repair=", "rootflags=", "nfsroot=", "ip=", "boot="};
    static const char *const whole[] = {"resize", "rootwait", "rw", "ro"};

    for (size_t i = 0; i < sizeof(begun) / sizeof(*begun); i++)
        if (begins(word, length, begun[i])) return true;
    for (size_t i = 0; i < sizeof(whole) / sizeof(*whole); i++)
        if (is(word, length, whole[i])) return true;
    /* Newer systems do it in an init called firstboot. */
    return begins(word, length, "init=") && (holds(word, length, "resize") || holds(word, length, "firstboot"));
}

/* What Raspberry Pi Imager puts in for its script of the first boot, which afterwards cuts the line off before it. */
static bool is_first_run(const char *word, size_t length)
{
    return begins(word, length, "systemd.run") || is(word, length, "systemd.unit=kernel-command-line.target");
}

typedef bool (*word_fn)(const char *word, size_t length);

/* Each word that is `wanted` or not, with a space after or before it. */
static void put_words(FILE *out, const char *text, word_fn is_wanted, const char *format)
{
    size_t length;

    for (const char *at = text + strspn(text, " \t\r\n"); *at; at += length, at += strspn(at, " \t\r\n")) {
        length = parameter_length(at);
        if (is_wanted(at, length)) fprintf(out, format, (int)length, at);
    }
}

static bool is_kept(const char *word, size_t length)
{
    return !is_dropped(word, length) && !is_first_run(word, length);
}

static void put_cmdline(FILE *out, const char *text, bool in_kernel)
{
    put_words(out, text, is_kept, "%.*s ");
    if (in_kernel) fputs("root=/dev/nfs nfsroot=${server}:${rootfs},vers=3,proto=tcp rw ip=dhcp rootwait", out);
    else fputs("boot=nfs root=/dev/nfs nfsroot=${server}:${rootfs},vers=3,tcp rw ip=dhcp rootwait", out);
    put_words(out, text, is_first_run, " %.*s");
    putc('\n', out);
}

char *proposal_cmdline(const char *text, bool in_kernel)
{
    char *body = NULL;
    size_t size;
    FILE *out = open_memstream(&body, &size);

    if (!out) return NULL;
    put_cmdline(out, text, in_kernel);
    return finish(out, &body);
}

/* "append - " takes no words over, and stays. */
static void put_menu_line(FILE *out, const char *line, size_t length, bool in_kernel)
{
    size_t size, begin;
    const char *word = word_of(line, length, 0, &size);
    char *words;

    begin = (size_t)(word_of(line, length, 1, &begin) - line);
    if (size != 6 || strncasecmp(word, "append", 6) != 0 || begin >= length || line[begin] == '-') {
        fwrite(line, 1, length, out);
        return;
    }
    words = strndup(line + begin, length - begin);
    fwrite(line, 1, begin, out);
    put_cmdline(out, words ? words : "", in_kernel);
    free(words);
}

char *proposal_pxelinux(const char *text, bool in_kernel)
{
    const char *line;
    char *body = NULL;
    size_t size, length;
    FILE *out = open_memstream(&body, &size);

    while (out && (line = next_line(&text, &length))) put_menu_line(out, line, length, in_kernel);
    return out ? finish(out, &body) : NULL;
}

/* ---- whole lines ---- */

/* What becomes of a line that `pick` picks. */
enum fate { KEPT, DROPPED, COMMENTED };
typedef enum fate (*pick_fn)(const char *line, size_t length);

static char *by_lines(const char *text, pick_fn pick)
{
    const char *line;
    char *body = NULL;
    size_t size, length;
    FILE *out = open_memstream(&body, &size);

    while (out && (line = next_line(&text, &length))) {
        enum fate fate = pick(line, length);

        if (fate == COMMENTED) putc('#', out);
        if (fate != DROPPED) fwrite(line, 1, length, out);
    }
    return out ? finish(out, &body) : NULL;
}

static enum fate pick_initramfs(const char *line, size_t length)
{
    size_t size;
    const char *word = word_of(line, length, 0, &size);

    return is(word, size, "initramfs") || begins(word, size, "auto_initramfs=1") ? COMMENTED : KEPT;
}

char *proposal_config(const char *text)
{
    return by_lines(text, pick_initramfs);
}

static enum fate pick_mount(const char *line, size_t length)
{
    size_t size;
    const char *word = word_of(line, length, 0, &size);

    if (size == 0 || *word == '#') return KEPT;
    word = word_of(line, length, 1, &size);
    while (size > 1 && word[size - 1] == '/') size--;
    return is(word, size, "/") || is(word, size, "/boot") || is(word, size, "/boot/firmware") ? DROPPED : KEPT;
}

char *proposal_fstab(const char *text)
{
    return by_lines(text, pick_mount);
}

/* ---- interfaces ---- */

static bool is_boot_interface(const char *word, size_t length)
{
    const char *colon = memchr(word, ':', length);

    return is(word, colon ? (size_t)(colon - word) : length, INTERFACE);
}

/* "auto lo eth0": is it named, and how many others are? */
static bool names_interface(const char *line, size_t length, int *ret_others)
{
    bool found = false;
    size_t size;

    *ret_others = 0;
    for (int i = 1;; i++) {
        const char *word = word_of(line, length, i, &size);

        if (size == 0) return found;
        if (is_boot_interface(word, size)) found = true;
        else ++*ret_others;
    }
}

/* The same line for the others alone. */
static void put_others(FILE *out, const char *line, size_t length)
{
    size_t size;
    const char *word = word_of(line, length, 0, &size);

    fwrite(word, 1, size, out);
    for (int i = 1;; i++) {
        word = word_of(line, length, i, &size);
        if (size == 0) break;
        if (!is_boot_interface(word, size)) fprintf(out, " %.*s", (int)size, word);
    }
    putc('\n', out);
}

static bool begins_stanza(const char *word, size_t length)
{
    static const char *const words[] = {"iface",     "mapping", "auto",   "no-auto-down",     "no-scripts",
                                        "template", "rename",  "source", "source-directory", "source-dir"};

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (is(word, length, words[i])) return true;
    return begins(word, length, "allow-");
}

/* Is the line one that lists interfaces? */
static bool is_list(const char *word, size_t length)
{
    return is(word, length, "auto") || begins(word, length, "allow-");
}

struct stanza {
    bool is_ours, goes_on; /* the last line ended with a backslash, which joins the next to it */
};

/* Where a stanza begins: is it about the interface? */
static bool is_ours(const char *line, size_t length, int *ret_others)
{
    size_t size, name_size;
    const char *word = word_of(line, length, 0, &size), *name = word_of(line, length, 1, &name_size);

    if (is_list(word, size)) return names_interface(line, length, ret_others);
    return (is(word, size, "iface") || is(word, size, "mapping")) && is_boot_interface(name, name_size);
}

static void put_line(FILE *out, struct stanza *stanza, const char *line, size_t length)
{
    size_t size;
    const char *word = word_of(line, length, 0, &size);
    bool is_text = size > 0 && *word != '#';
    int others = 0;

    if (is_text && !stanza->goes_on && begins_stanza(word, size)) stanza->is_ours = is_ours(line, length, &others);
    if (is_text && stanza->is_ours) putc('#', out);
    fwrite(line, 1, length, out);
    if (is_text && stanza->is_ours && others > 0) put_others(out, line, length);
    stanza->goes_on = length > 1 && line[length - 1] == '\n' && line[length - 2] == '\\';
}

char *proposal_interfaces(const char *text)
{
    struct stanza stanza = {0};
    const char *line;
    char *body = NULL;
    size_t size, length;
    FILE *out = open_memstream(&body, &size);

    while (out && (line = next_line(&text, &length))) put_line(out, &stanza, line, length);
    return out ? finish(out, &body) : NULL;
}

/* ---- others ---- */

char *proposal_dhcpcd(const char *text)
{
    static const char line[] = "denyinterfaces " INTERFACE "\n";
    const char *found = strstr(text, line);
    size_t length = strlen(text);
    char *body = NULL;

    if (found && (found == text || found[-1] == '\n')) return strdup(text);
    if (asprintf(&body, "%s%s\n# The root file system comes through it, with the address that the kernel got.\n%s", text,
                 length && text[length - 1] != '\n' ? "\n" : "", line) < 0)
        return NULL;
    return body;
}

char *proposal_hosts(const char *text)
{
    static const char own[] = "127.0.1.1";
    const char *line;
    char *body = NULL;
    size_t size, length;
    FILE *out = open_memstream(&body, &size);

    while (out && (line = next_line(&text, &length))) {
        size_t blanks = begins(line, length, own) ? strspn(line + strlen(own), BLANKS) : 0;

        if (blanks) fprintf(out, "%.*s${hostname}\n", (int)(strlen(own) + blanks), line);
        else fwrite(line, 1, length, out);
    }
    return out ? finish(out, &body) : NULL;
}

/* The lines that begin so get that value; the rest byte for byte. */
struct key {
    const char *begin, *value;
};

static char *set_keys(const char *text, const struct key *keys, size_t count)
{
    const char *line;
    char *body = NULL;
    size_t size, length;
    FILE *out = open_memstream(&body, &size);

    while (out && (line = next_line(&text, &length))) {
        const struct key *key = keys;

        while (key < keys + count && !begins(line, length, key->begin)) key++;
        if (key < keys + count) fprintf(out, "%s%s\n", key->begin, key->value);
        else fwrite(line, 1, length, out);
    }
    return out ? finish(out, &body) : NULL;
}

/* dietpi-firstboot sets the host name from here. With ETHERNET_ENABLED its sed turns "#allow-hotplug eth0" of
 * /etc/network/interfaces back, with USESTATIC the address below it; DHCP_TO_STATIC makes one of a lease. */
char *proposal_dietpi(const char *text)
{
    static const struct key keys[] = {
        {"AUTO_SETUP_SWAPFILE_SIZE=", "0"},      {"AUTO_SETUP_NET_HOSTNAME=", "${hostname}"},
        {"AUTO_SETUP_NET_ETHERNET_ENABLED=", "0"}, {"AUTO_SETUP_NET_USESTATIC=", "0"},
        {"AUTO_SETUP_DHCP_TO_STATIC=", "0"},
    };

    return set_keys(text, keys, sizeof(keys) / sizeof(*keys));
}

char *proposal_user_data(const char *text)
{
    static const struct key keys[] = {{"hostname: ", "${hostname}"}};

    return set_keys(text, keys, sizeof(keys) / sizeof(*keys));
}
