/* SPDX-License-Identifier: MIT
 * A weighted semaphore: permits that tasks hold, a limit that may change while
 * they do. Strictly first come, first served: nobody passes the head of the
 * line, however small the request, so a big one never starves; only who comes
 * back to finish something enters before it. Invariant: while somebody waits,
 * the head does not fit. Loop thread only. */
#ifndef NP_SEMAPHORE_H
#define NP_SEMAPHORE_H

#include "core/waitq.h"

struct np_semaphore {
  struct np_waitq waiters; /* wait_arg is the number of permits */
  uint32_t limit;
  uint32_t held; /* above limit after the limit was lowered */
};

/* max_waiting: 0 for no bound. */
void np_semaphore_init(struct np_semaphore *s, uint32_t limit,
                       uint32_t max_waiting);
/* Ends all waits with NP_E_CLOSED. */
void np_semaphore_fini(struct np_semaphore *s);
/* Takes n permits for t or parks it; more than the limit waits as well, for the
 * limit may grow. timeout_ns: 0 tries, NP_FOREVER for no limit. front: before
 * all who did not come this way, and never refused. Returns NP_OK, NP_PARKED,
 * NP_E_TIMEOUT or NP_E_QUEUE_FULL. */
int np_semaphore_acquire(struct np_semaphore *s, struct np_task *t, uint32_t n,
                         uint64_t timeout_ns, bool front);
/* Gives n permits back. NP_E_INVALID, and nothing happens, when fewer are
 * held. */
int np_semaphore_release(struct np_semaphore *s, uint32_t n);
/* Below what is held, nobody enters until enough came back. */
void np_semaphore_set_limit(struct np_semaphore *s, uint32_t limit);
/* Permits that are free now. */
static inline uint32_t np_semaphore_available(const struct np_semaphore *s) {
  return s->held < s->limit ? s->limit - s->held : 0;
}

#endif
