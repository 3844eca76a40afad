#include "log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define REPEAT_SECONDS 3600

static atomic_int max_level = LOG_LEVEL_INFO;
static atomic_bool to_syslog, without_repeats;

void log_set_level(enum log_level level)
{
    max_level = level;
}

void log_to_syslog(void)
{
    openlog("coppice", LOG_PID, LOG_DAEMON);
    to_syslog = true;
}

void log_without_repeats(void)
{
    without_repeats = true;
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

/* A name made by a node must not pass for a line of its own, or for what moves a terminal's cursor. */
static void make_one_line(char *message)
{
    for (; *message; message++)
        if ((unsigned char)*message < ' ' || *message == 0x7f) *message = '?';
}

/* What somebody tries again and again goes wrong again and again. */
static bool is_repeated(const char *message)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the below; a leaf */
    static struct {
        uint64_t hash;
        time_t since;
    } written[64];
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    time_t now = time(NULL);
    bool repeated;

    for (; *message; message++) hash = (hash ^ (unsigned char)*message) * UINT64_C(0x100000001b3);
    pthread_mutex_lock(&lock);
    repeated = written[hash >> 58].hash == hash && now - written[hash >> 58].since < REPEAT_SECONDS;
    if (!repeated) {
        written[hash >> 58].hash = hash;
        written[hash >> 58].since = now;
    }
    pthread_mutex_unlock(&lock);
    return repeated;
}

void log_write(enum log_level level, const char *format, ...)
{
    char message[4096];
    va_list arguments;

    if ((int)level > max_level) return;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    make_one_line(message);
    if (level == LOG_LEVEL_ERROR && without_repeats && is_repeated(message)) return;
    write_to_stderr(level, message);
    if (to_syslog) syslog(syslog_priority(level), "%s%s", level_prefix(level), message);
}

const char *log_reason(int error)
{
    const char *text = strerrordesc_np(abs(error));

    return text ? text : "Unknown error";
}
