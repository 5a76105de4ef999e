/* SPDX-License-Identifier: MIT
 * Deadlines in nanoseconds on the runtime's clock. Equal deadlines fire in the
 * order in which they were started. A timer is embedded in its owner, who
 * stops it before going away. Loop thread only. */
#ifndef NP_TIMER_H
#define NP_TIMER_H

#include "base/heap.h"
#include "base/list.h"

struct np_timer {
  struct np_heap_node node;
  void (*fire)(struct np_timer *t); /* may start or stop any timer */
};

struct np_timers {
  struct np_heap heap;
};

void np_timers_init(struct np_timers *ts);
void np_timers_fini(struct np_timers *ts);
void np_timer_init(struct np_timer *t, void (*fire)(struct np_timer *t));
/* (Re)starts t for deadline_ns; NP_FOREVER only stops it. Returns 0 or
 * NP_E_LIMIT without memory (t is then stopped). */
int np_timer_start(struct np_timers *ts, struct np_timer *t,
                   uint64_t deadline_ns);
void np_timer_stop(struct np_timers *ts, struct np_timer *t);
/* NP_FOREVER when it is not started. */
static inline uint64_t np_timer_deadline(const struct np_timers *ts,
                                         const struct np_timer *t) {
  if (!np_heap_has(&t->node)) return UINT64_MAX;
  return ts->heap.slots[t->node.index].key;
}
/* The earliest deadline, NP_FOREVER when there is none. */
uint64_t np_timers_next(const struct np_timers *ts);
/* Fires the earliest timer if it is due at now_ns; false when none is. */
bool np_timers_fire_one(struct np_timers *ts, uint64_t now_ns);

#endif
