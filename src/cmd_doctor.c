/* cmd_doctor: doctor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "doctor.h"
#include "log.h"

static bool read_seconds(const char *text, int *ret_seconds)
{
    size_t length = strlen(text);
    if (length == 0 || length > 6 || strspn(text, "0123456789") != length) return false;
    *ret_seconds = atoi(text);
    return true;
}

int cmd_doctor(struct cmd *cmd)
{
    const char *model = NULL, *log = NULL, *seconds_text = NULL;
    bool watch = false;
    int seconds = 0, wrong;
    const struct cmd_option options[] = {{.name = "model", .value = &model},
                                         {.name = "watch", .flag = &watch},
                                         {.name = "log", .value = &log},
                                         {.name = "seconds", .value = &seconds_text},
                                         {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    if (model && !doctor_is_model(model))
        return cmd_usage_error(cmd, "--model: '%s' is none of %s", model, doctor_models());
    if (seconds_text && !read_seconds(seconds_text, &seconds))
        return cmd_usage_error(cmd, "--seconds: '%s' is not a number of seconds", seconds_text);
    if (!watch && (log || seconds_text)) return cmd_usage_error(cmd, "--log and --seconds go with --watch");

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    const struct doctor_options doctor = {
        .store = store, .program = cmd->program, .serial = cmd->operands[0], .model = model};
    if (watch) return doctor_watch(&doctor, log, seconds) < 0 ? CMD_FAILED : CMD_DONE;
    if (doctor_run(&doctor, &wrong) < 0) return CMD_FAILED;
    if (wrong) printf("%d wrong\n", wrong);
    return wrong ? CMD_FAILED : CMD_DONE;
}
