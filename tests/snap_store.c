#include "snap_store.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "fault_store.h"
#include "harness.h"

const char *snap_store_where(void)
{
    return fault_store_beside("s");
}

const char *snap_store_binary(void)
{
    const char *path = getenv("COPPICE");
    return path ? path : "coppice";
}

const char *snap_store_ask(const char *format, ...)
{
    static char answer[4096];
    char sql[512], *output = NULL;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sql, sizeof(sql), format, arguments);
    va_end(arguments);
    harness_run(&output, "sqlite3", "-cmd", ".timeout 5000", fault_store_beside("s/store/catalog.db"), sql, NULL);
    snprintf(answer, sizeof(answer), "%s", output ? output : "");
    answer[strcspn(answer, "\n")] = '\0';
    free(output);
    return answer;
}

bool snap_store_has(const char *format, ...)
{
    char below[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(below, sizeof(below), format, arguments);
    va_end(arguments);
    return access(fault_store_beside("s/store/nodes/%s", below), F_OK) == 0;
}

void snap_store_coppice(const char *a, const char *b, const char *c, const char *d, const char *e)
{
    char *output = NULL;
    int status = harness_run(&output, snap_store_binary(), "--store", fault_store_beside("s/store"), a, b, c, d, e, NULL);

    must_hold(status == 0, "coppice %s %s %s: %s", a, b, c, output);
    free(output);
}

void snap_store_look_into(const char *snapshot, const char *serial)
{
    char from[64];

    snprintf(from, sizeof(from), SNAP_NODE "@%s", snapshot);
    snap_store_coppice("node", "add", serial, "--from", from);
}

void snap_store_wait_until_swept(int round)
{
    char *output = NULL;

    for (int i = 0; i < 200; i++) {
        free(output);
        output = NULL;
        harness_run(&output, "find", fault_store_beside("s/store/nodes"), "-mindepth", "1", "-maxdepth", "3", "(", "-name", ".*", "-o",
                    "-name", "switch*", ")", NULL);
        if (output && !*output && !*snap_store_ask("SELECT 1 FROM snapshot WHERE made IS NULL UNION SELECT 1 FROM snapshot_removal")) break;
        usleep(25000);
    }
    must_hold(output && !*output, "%d: left: %s", round, output);
    free(output);
}
