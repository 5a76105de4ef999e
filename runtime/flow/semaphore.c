/* SPDX-License-Identifier: MIT */
#include "flow/semaphore.h"

/* Lets the waiters in, in order, as long as the head fits. */
static void admit(struct np_semaphore *s) {
  struct np_task *t;
  while ((t = np_waitq_first(&s->waiters)) != NULL &&
         t->wait_arg <= np_semaphore_available(s)) {
    s->held += (uint32_t)t->wait_arg;
    np_waitq_wake(&s->waiters, t, NP_OK);
  }
}

/* The one that leaves may have been the head that held up the others. */
static void undo_acquire(struct np_task *t) {
  struct np_semaphore *s = t->wait_ud;
  np_waitq_leave(&s->waiters, t);
  admit(s);
}

static const struct np_wait_ops wait_acquire = {.what = "semaphore",
                                                .undo = undo_acquire};

void np_semaphore_init(struct np_semaphore *s, uint32_t limit,
                       uint32_t max_waiting) {
  np_waitq_init(&s->waiters, max_waiting);
  s->limit = limit;
  s->held = 0;
}

void np_semaphore_fini(struct np_semaphore *s) {
  np_waitq_wake_all(&s->waiters, NP_E_CLOSED);
}

int np_semaphore_acquire(struct np_semaphore *s, struct np_task *t, uint32_t n,
                         uint64_t timeout_ns, bool front) {
  bool nobody_ahead =
      front ? np_list_empty(&s->waiters.front) : s->waiters.count == 0;
  if (nobody_ahead && n <= np_semaphore_available(s)) {
    s->held += n;
    return NP_OK;
  }
  int rc =
      front ? np_waitq_park_front(&s->waiters, t, &wait_acquire, s, timeout_ns)
            : np_waitq_park(&s->waiters, t, &wait_acquire, s, timeout_ns);
  if (rc == NP_PARKED) t->wait_arg = n;
  return rc;
}

int np_semaphore_release(struct np_semaphore *s, uint32_t n) {
  if (n > s->held) return NP_E_INVALID;
  s->held -= n;
  admit(s);
  return NP_OK;
}

void np_semaphore_set_limit(struct np_semaphore *s, uint32_t limit) {
  s->limit = limit;
  admit(s);
}
