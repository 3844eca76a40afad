#include "import_log.h"

#include <stdarg.h>
#include <stdio.h>

#include "log.h"

int import_failed(struct progress *progress, int error, const char *format, ...)
{
    char line[4000];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = '?';
    progress_erase(progress);
    log_error("%s", line);
    return error;
}
