/* SPDX-License-Identifier: MIT
 * An event: a flag that tasks can wait for. Setting it wakes all who wait, in
 * order; it stays set until cleared. Loop thread only. */
#ifndef NP_EVENT_H
#define NP_EVENT_H

#include "core/waitq.h"

struct np_event {
  struct np_waitq waiters;
  bool set;
};

void np_event_init(struct np_event *e);
/* Ends all waits with NP_E_CLOSED. */
void np_event_fini(struct np_event *e);
/* Who waited is woken even when the event is cleared before it runs. */
void np_event_set(struct np_event *e);
void np_event_clear(struct np_event *e);
/* Returns NP_OK when it is set, else parks t: NP_PARKED, or NP_E_TIMEOUT with
 * timeout_ns 0. */
int np_event_wait(struct np_event *e, struct np_task *t, uint64_t timeout_ns);

#endif
