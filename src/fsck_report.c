#include "fsck_report.h"

#include <stdarg.h>
#include <stdio.h>

#include "io.h"

void fsck_report(struct fsck *fsck, const struct fsck_finding *finding)
{
    if (finding->done) fsck->result.repaired++;
    else fsck->result.left++;
    fsck->options->print(finding, fsck->options->data);
}

void fsck_complain(struct fsck *fsck, const char *where, const char *format, ...)
{
    _cleanup_free_ char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0) text = NULL;
    va_end(arguments);
    fsck_report(fsck, &(struct fsck_finding){.where = where, .what = text ? text : "?"});
}
