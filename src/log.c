#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static atomic_int max_level = LOG_LEVEL_INFO;
static atomic_bool to_syslog;

void log_set_level(enum log_level level)
{
    max_level = level;
}

void log_to_syslog(void)
{
    openlog("coppice", LOG_PID, LOG_DAEMON);
    to_syslog = true;
}

static int syslog_priority(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR: return LOG_ERR;
    case LOG_LEVEL_WARNING: return LOG_WARNING;
    case LOG_LEVEL_INFO: return LOG_INFO;
    case LOG_LEVEL_DEBUG: return LOG_DEBUG;
    }
    return LOG_ERR;
}

static const char *level_prefix(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_WARNING: return "warning: ";
    case LOG_LEVEL_DEBUG: return "debug: ";
    default: return "";
    }
}

static void time_stamp(char *buffer, size_t size)
{
    time_t now = time(NULL);
    struct tm local;

    buffer[0] = '\0';
    if (localtime_r(&now, &local)) strftime(buffer, size, "%Y-%m-%d %H:%M:%S ", &local);
}

static void write_to_stderr(enum log_level level, const char *message)
{
    char stamp[32] = "";
    char line[4200];
    int length;

    if (to_syslog) time_stamp(stamp, sizeof(stamp));
    length = snprintf(line, sizeof(line), "%scoppice: %s%s\n", stamp, level_prefix(level), message);
    if (length >= (int)sizeof(line)) length = sizeof(line) - 1;
    /* One write(2), so that lines of several threads do not mix. Nobody is left to tell when it fails. */
    if (write(STDERR_FILENO, line, length) < 0) return;
}

void log_write(enum log_level level, const char *format, ...)
{
    char message[4096];
    va_list arguments;

    if ((int)level > max_level) return;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    write_to_stderr(level, message);
    if (to_syslog) syslog(syslog_priority(level), "%s%s", level_prefix(level), message);
}

const char *log_reason(int error)
{
    const char *text = strerrordesc_np(abs(error));

    return text ? text : "Unknown error";
}
