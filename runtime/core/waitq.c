/* SPDX-License-Identifier: MIT */
#include "core/waitq.h"

void np_waitq_init(struct np_waitq *q, uint32_t max) {
  np_list_init(&q->front);
  np_list_init(&q->tasks);
  q->count = 0;
  q->max = max;
}

static int park(struct np_waitq *q, struct np_list *list, struct np_task *t,
                const struct np_wait_ops *ops, void *wait_ud,
                uint64_t timeout_ns) {
  if (timeout_ns == 0) return NP_E_TIMEOUT;
  uint64_t deadline_ns = NP_FOREVER;
  if (timeout_ns != NP_FOREVER)
    deadline_ns = np_deadline(np_loop_now(t->sched->loop), timeout_ns);
  (void)np_task_park(t, ops, wait_ud, deadline_ns);
  np_list_push_tail(list, &t->link);
  q->count++;
  return NP_PARKED;
}

int np_waitq_park(struct np_waitq *q, struct np_task *t,
                  const struct np_wait_ops *ops, void *wait_ud,
                  uint64_t timeout_ns) {
  if (timeout_ns != 0 && q->max != 0 && q->count >= q->max)
    return NP_E_QUEUE_FULL;
  return park(q, &q->tasks, t, ops, wait_ud, timeout_ns);
}

int np_waitq_park_front(struct np_waitq *q, struct np_task *t,
                        const struct np_wait_ops *ops, void *wait_ud,
                        uint64_t timeout_ns) {
  return park(q, &q->front, t, ops, wait_ud, timeout_ns);
}

void np_waitq_leave(struct np_waitq *q, struct np_task *t) {
  np_list_remove(&t->link);
  q->count--;
}

void np_waitq_wake(struct np_waitq *q, struct np_task *t, int status) {
  np_waitq_leave(q, t);
  (void)np_task_wake(t, t->token, status); /* parked here: always current */
}

void np_waitq_wake_all(struct np_waitq *q, int status) {
  struct np_task *t;
  while ((t = np_waitq_first(q)) != NULL) np_waitq_wake(q, t, status);
}
