/* check: assertions over system calls that tell errno by name of the call.
 *
 * For the main thread of a cmocka test or fixture only: a failure jumps out of the test. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The call succeeds; its value. */
#define must(call)                                                                            \
    ({                                                                                        \
        __typeof__(call) must_ = (call);                                                      \
        if (must_ < 0) fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, strerror(errno)); \
        must_;                                                                                \
    })

/* The call fails with exactly this errno. */
#define must_fail(expected, call)                                                                                 \
    do {                                                                                                          \
        errno = 0;                                                                                                \
        if ((call) >= 0) fail_msg("%s:%d: %s: succeeded, not %s", __FILE__, __LINE__, #call, strerror(expected)); \
        if (errno != (expected))                                                                                  \
            fail_msg("%s:%d: %s: %s, not %s", __FILE__, __LINE__, #call, strerror(errno), strerror(expected));    \
    } while (0)

/* The condition holds; the message says what was found instead. */
#define must_hold(condition, ...)                                           \
    do {                                                                    \
        if (!(condition)) {                                                 \
            print_error("%s:%d: not %s: ", __FILE__, __LINE__, #condition); \
            print_error(__VA_ARGS__);                                       \
            print_error("\n");                                              \
            fail();                                                         \
        }                                                                   \
    } while (0)
