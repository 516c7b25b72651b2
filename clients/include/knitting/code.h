/* SPDX-License-Identifier: Apache-2.0 */
/* The codes of an error, the same at every distance: on the wire, in a lane, in the library.
 *
 * A code is never reused and never changes its meaning. The hundreds say who has to act: 1xx the
 * message was wrong, 2xx the pool cannot take the call now, 3xx the call was wrong or ran out, 4xx
 * its worker or result failed, 5xx the path failed, 6xx the task itself failed it.
 */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

/* The compiler warns when the result of such a function is not used. */
#define KNIT_MUST_CHECK __attribute__((warn_unused_result))

/* X(code, name, retryable, started): `retryable` = sending the same call again may succeed;
 * `started` = whether the task had begun, as far as the code alone tells (an error that has a
 * `started` of its own overrides it). */
#define KNIT_CODES(X)                                                                              \
    X(100, BAD_MESSAGE, 0, KNIT_STARTED_NO)                                                        \
    X(101, TOO_LARGE, 0, KNIT_STARTED_NO)                                                          \
    X(102, TOO_DEEP, 0, KNIT_STARTED_NO)                                                           \
    X(103, UNAUTHENTICATED, 0, KNIT_STARTED_NO)                                                    \
    X(200, OVERLOADED, 1, KNIT_STARTED_NO)                                                         \
    X(201, QUOTA, 1, KNIT_STARTED_NO)                                                              \
    X(202, DRAINING, 1, KNIT_STARTED_NO)                                                           \
    X(203, NO_WORKER, 1, KNIT_STARTED_NO)                                                          \
    X(204, QUARANTINED, 0, KNIT_STARTED_NO)                                                        \
    X(205, STALE_EPOCH, 1, KNIT_STARTED_NO)                                                        \
    X(300, UNKNOWN_TASK, 0, KNIT_STARTED_NO)                                                       \
    X(301, DENIED, 0, KNIT_STARTED_NO)                                                             \
    X(302, BAD_ARGUMENT, 0, KNIT_STARTED_NO)                                                       \
    X(303, TIMEOUT, 0, KNIT_STARTED_UNKNOWN)                                                       \
    X(304, CANCELLED, 0, KNIT_STARTED_UNKNOWN)                                                     \
    X(305, DEPENDENCY, 0, KNIT_STARTED_NO)                                                         \
    X(306, DUPLICATE, 0, KNIT_STARTED_NO)                                                          \
    X(400, WORKER_DIED, 0, KNIT_STARTED_YES)                                                       \
    X(401, HARD_TIMEOUT, 0, KNIT_STARTED_YES)                                                      \
    X(402, RESULT_TOO_LARGE, 0, KNIT_STARTED_YES)                                                  \
    X(403, BAD_RESULT, 0, KNIT_STARTED_YES)                                                        \
    X(500, INTERNAL, 0, KNIT_STARTED_UNKNOWN)                                                      \
    X(501, DISCONNECTED, 0, KNIT_STARTED_UNKNOWN)                                                  \
    X(502, SHUTDOWN, 1, KNIT_STARTED_UNKNOWN)                                                      \
    X(600, TASK_FAILED, 0, KNIT_STARTED_YES)

enum knit_code {
    KNIT_OK = 0,
#define KNIT_CODE_ENUM(code, name, retryable, started) KNIT_##name = code,
    KNIT_CODES(KNIT_CODE_ENUM)
#undef KNIT_CODE_ENUM
};

/* Whether the task of a failed call had begun to run. */
enum knit_started {
    KNIT_STARTED_NO = 0,
    KNIT_STARTED_YES = 1,
    KNIT_STARTED_UNKNOWN = 2,
};

/* Where an error arose. CLIENT is what the library itself found; it never travels. */
enum knit_origin {
    KNIT_ORIGIN_SERVER = 0,
    KNIT_ORIGIN_WORKER = 1,
    KNIT_ORIGIN_TASK = 2,
    KNIT_ORIGIN_CLIENT = 3,
};

#ifdef __cplusplus
}
#endif
