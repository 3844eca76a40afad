/* fuzz_bootlog: the log of dnsmasq and mountd, and the machines that pending takes out of it. */
#include "../../src/pending.c"

#include "fuzz.h"

static void check_text(const char *text, size_t size)
{
    fuzz_must(strnlen(text, size) < size);
}

static void take_line(struct reader *reader, const char *line)
{
    struct bootlog_event event;
    char serial[9];

    bootlog_path_serial(line, serial);
    check_text(serial, sizeof(serial));
    bootlog_uuid_serial(line, serial);
    check_text(serial, sizeof(serial));
    if (!bootlog_parse(line, &event)) return;
    check_text(event.when, sizeof(event.when));
    check_text(event.xid, sizeof(event.xid));
    check_text(event.mac, sizeof(event.mac));
    check_text(event.ip, sizeof(event.ip));
    check_text(event.text, sizeof(event.text));
    fuzz_must(take_event(reader, &event) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_pending_ struct pending pending = {0};
    struct reader reader = {.pending = &pending};
    char *text = strndup((const char *)data, size), *rest = text, *line;

    fuzz_must(text);
    while ((line = strsep(&rest, "\n"))) take_line(&reader, line);
    for (size_t i = 0; i < pending.count; i++) {
        check_text(pending.machine[i].mac, sizeof(pending.machine[i].mac));
        check_text(pending.machine[i].file, sizeof(pending.machine[i].file));
    }
    free(text);
    return 0;
}
