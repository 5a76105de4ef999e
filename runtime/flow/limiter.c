/* SPDX-License-Identifier: MIT */
#include "flow/limiter.h"

/* -- The line ----------------------------------------------------------------
 */

static uint64_t lease_date(const struct np_limiter *l,
                           const struct np_lease *lease) {
  uint64_t date_ns =
      lease->arrival_ns > l->last_ns ? lease->arrival_ns : l->last_ns;
  if (l->hold_ns > date_ns) date_ns = l->hold_ns;
  for (uint32_t i = 0; i < l->rate_count; i++) {
    uint64_t rate_ns = np_limiter_rate_date(&l->rates[i], lease->units[i]);
    if (rate_ns > date_ns) date_ns = rate_ns;
  }
  return date_ns;
}

static void grant(struct np_limiter *l, struct np_lease *lease,
                  uint64_t date_ns) {
  lease->granted = true;
  lease->date_ns = l->last_ns = date_ns;
  lease->seq = ++l->seq;
  for (uint32_t i = 0; i < l->rate_count; i++) {
    struct np_limiter_rate *r = &l->rates[i];
    np_limiter_rate_charge(r, lease->seq, date_ns, lease->units[i]);
    lease->taken[i] = r->taken;
  }
}

/* Sets the timer for date_ns, unless it stands there already. */
static void arm(struct np_limiter *l, uint64_t date_ns) {
  if (l->armed_ns == date_ns) return;
  l->armed_ns = date_ns;
  if (np_timer_start(&l->loop->timers, &l->timer, date_ns) < 0) {
    l->armed_ns = NP_FOREVER;
    np_waitq_wake_all(&l->waiters, NP_E_LIMIT);
  }
}

/* Nobody passes as of before a change that let him: dates go back behind the
 * clock only where a wake-up came late. What was due has been granted. */
static void changed(struct np_limiter *l) {
  uint64_t now_ns = np_loop_now(l->loop);
  if (now_ns > l->last_ns) l->last_ns = now_ns;
}

/* Grants whatever is due, in order, and sets the timer for the next. */
void np_limiter_serve(struct np_limiter *l) {
  uint64_t now_ns = np_loop_now(l->loop);
  struct np_task *t;
  while ((t = np_waitq_first(&l->waiters)) != NULL) {
    struct np_lease *lease = t->wait_ud;
    uint64_t date_ns = lease_date(l, lease);
    if (date_ns > now_ns) {
      arm(l, date_ns);
      return;
    }
    grant(l, lease, date_ns);
    np_waitq_wake(&l->waiters, t, NP_OK);
  }
  arm(l, NP_FOREVER);
}

static void on_date(struct np_timer *timer) {
  struct np_limiter *l = np_container_of(timer, struct np_limiter, timer);
  l->armed_ns = NP_FOREVER;
  np_limiter_serve(l);
}

/* Before t leaves the line with nothing. */
static void gives_up(struct np_limiter *l, const struct np_task *t) {
  if (np_waitq_first(&l->waiters) == t) changed(l);
}

/* A deadline: what is due by now is granted first. */
static void undo_acquire(struct np_task *t) {
  struct np_lease *lease = t->wait_ud;
  struct np_limiter *l = lease->limiter;
  if (t->wait) np_limiter_serve(l);
  if (lease->granted) return;
  gives_up(l, t);
  np_waitq_leave(&l->waiters, t);
  np_limiter_serve(l);
}

/* A cancel: it must not take anything any more, due or not. */
static void cancel_acquire(struct np_task *t) {
  struct np_limiter *l = ((struct np_lease *)t->wait_ud)->limiter;
  gives_up(l, t);
  np_waitq_wake(&l->waiters, t, NP_E_CANCELLED);
  np_limiter_serve(l);
}

static const struct np_wait_ops wait_acquire = {
    .what = "rate_limiter", .undo = undo_acquire, .cancel = cancel_acquire};

int np_limiter_above_burst(const struct np_limiter *l,
                           const struct np_lease *lease) {
  for (uint32_t i = 0; i < l->rate_count; i++)
    if (!l->rates[i].learned && lease->units[i] > l->rates[i].burst)
      return (int)i;
  return -1;
}

int np_limiter_acquire(struct np_limiter *l, struct np_task *t,
                       struct np_lease *lease, uint64_t timeout_ns,
                       bool front) {
  if (np_limiter_above_burst(l, lease) >= 0) return NP_E_INVALID;
  lease->limiter = l;
  lease->arrival_ns = np_loop_now(l->loop);
  lease->granted = false;
  np_limiter_serve(l);
  bool nobody_ahead =
      front ? np_list_empty(&l->waiters.front) : l->waiters.count == 0;
  if (nobody_ahead) {
    uint64_t date_ns = lease_date(l, lease);
    if (date_ns <= lease->arrival_ns) {
      grant(l, lease, date_ns);
      if (l->waiters.count > 0) np_limiter_serve(l);
      return NP_OK;
    }
  }
  int rc =
      front ? np_waitq_park_front(&l->waiters, t, &wait_acquire, lease,
                                  timeout_ns)
            : np_waitq_park(&l->waiters, t, &wait_acquire, lease, timeout_ns);
  if (rc == NP_PARKED && np_waitq_first(&l->waiters) == t) np_limiter_serve(l);
  return rc;
}

/* A copy of the limiter serves the line up to t. */
uint64_t np_limiter_eta(const struct np_limiter *l, const struct np_task *t) {
  struct np_limiter ahead = *l;
  const struct np_task *waiter = np_waitq_first(&l->waiters);
  for (; waiter; waiter = np_waitq_next(&l->waiters, waiter)) {
    struct np_lease lease = *(const struct np_lease *)waiter->wait_ud;
    uint64_t date_ns = lease_date(&ahead, &lease);
    if (!t || waiter == t) return date_ns;
    grant(&ahead, &lease, date_ns);
  }
  return NP_FOREVER;
}

/* -- Corrections ------------------------------------------------------------
 */

void np_lease_settle(struct np_lease *lease,
                     const uint64_t units[NP_LIMITER_RATES]) {
  struct np_limiter *l = lease->limiter;
  uint64_t now_ns = np_loop_now(l->loop);
  np_limiter_serve(l);
  uint64_t seq = ++l->seq;
  for (uint32_t i = 0; i < l->rate_count; i++) {
    struct np_limiter_rate *r = &l->rates[i];
    if (units[i] > lease->units[i])
      np_limiter_rate_charge(r, seq, now_ns, units[i] - lease->units[i]);
    else if (units[i] == lease->units[i] || r->learned)
      continue;
    else
      np_limiter_rate_refund(r, lease->seq, lease->units[i] - units[i]);
    lease->units[i] = units[i];
  }
  changed(l);
  np_limiter_serve(l);
}

uint64_t np_limiter_available(const struct np_limiter *l, uint32_t rate) {
  uint64_t now_ns = np_loop_now(l->loop);
  if (now_ns < l->hold_ns) return 0;
  if (l->rates[rate].ticks_per_ns == 0) return UINT64_MAX;
  return np_limiter_rate_left(&l->rates[rate], now_ns);
}

void np_limiter_hold(struct np_limiter *l, uint64_t until_ns) {
  if (until_ns <= l->hold_ns) return;
  l->hold_ns = until_ns;
  np_limiter_serve(l);
}

int np_limiter_learn(struct np_limiter *l, uint32_t rate,
                     const struct np_lease *lease,
                     struct np_limiter_word *word) {
  word->answers = lease != NULL;
  if (lease) {
    word->seq = lease->seq;
    word->date_ns = lease->date_ns;
    word->taken = lease->taken[rate];
  }
  changed(l);
  return np_limiter_rate_learn(&l->rates[rate], word, ++l->seq,
                               np_loop_now(l->loop));
}

void np_limiter_forget(struct np_limiter *l, uint32_t rate) {
  np_limiter_serve(l);
  changed(l);
  struct np_limiter_rate *r = &l->rates[rate];
  *r = (struct np_limiter_rate){
      .learned = true, .taken = r->taken, .longest_ns = r->longest_ns};
  np_limiter_serve(l);
}

int np_limiter_set(struct np_limiter *l, uint32_t rate, double count,
                   uint64_t period_ns, uint64_t burst) {
  np_limiter_serve(l);
  changed(l);
  int rc = np_limiter_rate_set(&l->rates[rate], count, period_ns, burst,
                               ++l->seq, np_loop_now(l->loop));
  if (rc < 0) return rc;
  struct np_task *t = np_waitq_first(&l->waiters);
  while (t) {
    struct np_task *next = np_waitq_next(&l->waiters, t);
    if (np_limiter_above_burst(l, t->wait_ud) >= 0)
      np_waitq_wake(&l->waiters, t, NP_E_INVALID);
    t = next;
  }
  np_limiter_serve(l);
  return NP_OK;
}

/* -- Life -------------------------------------------------------------------
 */

void np_limiter_init(struct np_limiter *l, struct np_loop *loop,
                     uint32_t max_waiting) {
  *l = (struct np_limiter){.loop = loop, .armed_ns = NP_FOREVER};
  np_waitq_init(&l->waiters, max_waiting);
  np_timer_init(&l->timer, on_date);
}

void np_limiter_fini(struct np_limiter *l) {
  np_waitq_wake_all(&l->waiters, NP_E_CLOSED);
  arm(l, NP_FOREVER);
}

int np_limiter_add(struct np_limiter *l, double rate, uint64_t period_ns,
                   uint64_t burst) {
  if (l->rate_count == NP_LIMITER_RATES) return NP_E_INVALID;
  int rc = np_limiter_rate_set(&l->rates[l->rate_count], rate, period_ns, burst,
                               ++l->seq, np_loop_now(l->loop));
  return rc < 0 ? rc : (int)l->rate_count++;
}

int np_limiter_add_learned(struct np_limiter *l, uint64_t longest_ns) {
  if (l->rate_count == NP_LIMITER_RATES) return NP_E_INVALID;
  l->rates[l->rate_count].learned = true;
  l->rates[l->rate_count].longest_ns = longest_ns;
  return (int)l->rate_count++;
}
