/* SPDX-License-Identifier: MIT
 * A queue between tasks: bounded or not, by order of arrival or by priority
 * (lowest number first, arrival among equals). With aging a priority number
 * sinks by so much a second from the put on; since all sink alike, the order of
 * priority + aging * time of the put never changes. It carries handles (numbers
 * of the caller's) and owns none of them: a handle comes back through get,
 * through a put that failed, or through np_queue_reap. Getters wait only while
 * it is empty, putters only while it is full. Loop thread only. */
#ifndef NP_QUEUE_H
#define NP_QUEUE_H

#include "core/waitq.h"

enum { NP_QUEUE_NONE = -1 };

struct np_queue_item;

struct np_queue {
  struct np_waitq getters; /* wait_arg becomes the handle */
  struct np_waitq putters; /* wait_ud is the item */
  struct np_waitq joiners;
  struct np_heap items;
  struct np_queue_item *dead; /* owned; of puts that were given up */
  uint32_t max;               /* 0: unbounded */
  double aging;               /* priority a second */
  uint64_t start_ns;          /* ages count from here */
  bool closed;
  uint64_t unfinished; /* put and not yet done */
  uint64_t taken;      /* got and not yet done */
};

void np_queue_init(struct np_queue *q, uint32_t max, double aging,
                   uint64_t now_ns);
/* Ends all waits with NP_E_CLOSED and forgets all handles. */
void np_queue_fini(struct np_queue *q);
/* Puts handle or parks t until there is room. timeout_ns: 0 tries, NP_FOREVER
 * for no limit. Returns NP_OK, NP_PARKED, NP_E_CLOSED, NP_E_TIMEOUT or
 * NP_E_LIMIT; on an error the handle is the caller's again. A wait that fails
 * later leaves the handle to np_queue_reap. priority is not NaN. */
int np_queue_put(struct np_queue *q, struct np_task *t, int handle,
                 double priority, uint64_t timeout_ns);
/* Takes the first handle, into t->wait_arg, or parks t until there is one.
 * Returns as put; NP_E_CLOSED once q is closed and drained. */
int np_queue_get(struct np_queue *q, struct np_task *t, uint64_t timeout_ns);
/* One item that was got is done. NP_E_INVALID when none is outstanding. */
int np_queue_task_done(struct np_queue *q);
/* Waits until every item that was put is done. */
int np_queue_join(struct np_queue *q, struct np_task *t, uint64_t timeout_ns);
/* No more puts: whoever waits in put or get is woken with NP_E_CLOSED, what is
 * in the queue can still be got. Twice is as good as once. */
void np_queue_close(struct np_queue *q);
/* A handle of a put that was given up while it waited, NP_QUEUE_NONE when there
 * is none (any more). */
int np_queue_reap(struct np_queue *q);

#endif
