/* SPDX-License-Identifier: MIT
 * A FIFO of parked tasks with deadlines and cancellation: the one wait queue
 * under semaphore, limiter, queue, event and http admission. Who comes back to
 * finish something (a retry after its pause) may enter at the front; among
 * these it is a FIFO too. It decides the order and nothing else; the owner
 * decides who may go. Loop thread only. */
#ifndef NP_WAITQ_H
#define NP_WAITQ_H

#include "core/task.h"

struct np_waitq {
  struct np_list front; /* before all tasks; np_task.link, oldest first */
  struct np_list tasks;
  uint32_t count;
  uint32_t max; /* 0: unbounded */
};

void np_waitq_init(struct np_waitq *q, uint32_t max);
/* Parks t at the tail. timeout_ns: NP_FOREVER for no limit, 0 does not wait.
 * ops->undo must call np_waitq_leave. Returns NP_PARKED, NP_E_TIMEOUT when
 * timeout_ns is 0, or NP_E_QUEUE_FULL. */
int np_waitq_park(struct np_waitq *q, struct np_task *t,
                  const struct np_wait_ops *ops, void *wait_ud,
                  uint64_t timeout_ns);
/* As np_waitq_park, before everybody who did not come this way, and never
 * refused by max. */
int np_waitq_park_front(struct np_waitq *q, struct np_task *t,
                        const struct np_wait_ops *ops, void *wait_ud,
                        uint64_t timeout_ns);
/* The head of the line, or NULL. */
static inline struct np_task *np_waitq_first(const struct np_waitq *q) {
  const struct np_list *list = np_list_empty(&q->front) ? &q->tasks : &q->front;
  if (np_list_empty(list)) return NULL;
  return np_container_of(list->next, struct np_task, link);
}
/* The one behind t in line, or NULL. */
static inline struct np_task *np_waitq_next(const struct np_waitq *q,
                                            const struct np_task *t) {
  const struct np_list *node = t->link.next;
  if (node == &q->front) node = q->tasks.next;
  if (node == &q->tasks) return NULL;
  return np_container_of(node, struct np_task, link);
}
/* Takes t out without waking it: for undo. */
void np_waitq_leave(struct np_waitq *q, struct np_task *t);
/* Takes t out and wakes it with status. */
void np_waitq_wake(struct np_waitq *q, struct np_task *t, int status);
/* Wakes everybody, in order: a close, an event. */
void np_waitq_wake_all(struct np_waitq *q, int status);

#endif
