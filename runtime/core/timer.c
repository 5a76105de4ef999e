/* SPDX-License-Identifier: MIT */
#include "core/timer.h"

#include "base/clock.h"
#include "base/err.h"

void np_timers_init(struct np_timers *ts) {
  np_heap_init(&ts->heap);
}

void np_timers_fini(struct np_timers *ts) {
  np_heap_fini(&ts->heap);
}

void np_timer_init(struct np_timer *t, void (*fire)(struct np_timer *t)) {
  np_heap_node_init(&t->node);
  t->fire = fire;
}

int np_timer_start(struct np_timers *ts, struct np_timer *t,
                   uint64_t deadline_ns) {
  np_heap_remove(&ts->heap, &t->node);
  if (deadline_ns == NP_FOREVER) return NP_OK;
  return np_heap_push(&ts->heap, &t->node, deadline_ns);
}

void np_timer_stop(struct np_timers *ts, struct np_timer *t) {
  np_heap_remove(&ts->heap, &t->node);
}

uint64_t np_timers_next(const struct np_timers *ts) {
  uint64_t deadline_ns;
  return np_heap_min(&ts->heap, &deadline_ns) ? deadline_ns : NP_FOREVER;
}

bool np_timers_fire_one(struct np_timers *ts, uint64_t now_ns) {
  uint64_t deadline_ns;
  struct np_heap_node *node = np_heap_min(&ts->heap, &deadline_ns);
  if (!node || deadline_ns > now_ns) return false;
  struct np_timer *t = np_container_of(node, struct np_timer, node);
  np_heap_remove(&ts->heap, node);
  t->fire(t);
  return true;
}
