/* SPDX-License-Identifier: MIT */
#include "flow/event.h"

static void undo_wait(struct np_task *t) {
  struct np_event *e = t->wait_ud;
  np_waitq_leave(&e->waiters, t);
}

static const struct np_wait_ops wait_event = {.what = "event",
                                              .undo = undo_wait};

void np_event_init(struct np_event *e) {
  np_waitq_init(&e->waiters, 0);
  e->set = false;
}

void np_event_fini(struct np_event *e) {
  np_waitq_wake_all(&e->waiters, NP_E_CLOSED);
}

void np_event_set(struct np_event *e) {
  e->set = true;
  np_waitq_wake_all(&e->waiters, NP_OK);
}

void np_event_clear(struct np_event *e) {
  e->set = false;
}

int np_event_wait(struct np_event *e, struct np_task *t, uint64_t timeout_ns) {
  if (e->set) return NP_OK;
  return np_waitq_park(&e->waiters, t, &wait_event, e, timeout_ns);
}
