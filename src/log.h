/* log: the one place where messages leave the program.
 *
 * Commands print one line on standard error, "coppice: what: why"; the daemon
 * adds a time stamp and, when it has let go of its terminal, writes to syslog.
 * A failure is logged once, where its context is richest: whoever logs returns
 * the negative errno, whoever receives it passes it on in silence. */
#pragma once

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Messages above `level` are dropped. Default: LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/* From now on messages go to syslog(3) as well named "coppice"; standard error stays in use while it is open. */
void log_to_syslog(void);

/* From now on an error that comes again within the hour, word for word, is not written again: for the daemon, which is asked
 * again and again. */
void log_without_repeats(void);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* strerror(3) for a negative (or positive) errno; thread-safe. */
const char *log_reason(int error);
