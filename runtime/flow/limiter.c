/* SPDX-License-Identifier: MIT */
#include "flow/limiter.h"

#include <math.h>

/* -- One rate ----------------------------------------------------------------
 * GCRA: the bucket is full again at tat. A request of cost c passes at the
 * first instant d with max(d, tat) + c - d <= depth, and moves tat to
 * max(d, tat) + c. */

static np_ticks at_ns(const struct np_limiter_rate *r, uint64_t ns) {
  return (np_ticks)ns * r->ticks_per_ns;
}

/* The first nanosecond at which units pass; 0 for "whenever". */
static uint64_t rate_date(const struct np_limiter_rate *r, uint64_t units) {
  if (units == 0) return 0;
  np_ticks full = r->tat + units * r->unit, date = 0;
  if (full > r->depth)
    date = (full - r->depth + r->ticks_per_ns - 1) / r->ticks_per_ns;
  if (date >= NP_FOREVER) return NP_FOREVER;
  return date > r->hold_ns ? (uint64_t)date : r->hold_ns;
}

/* Two neighbours become one with the lower slack, where that loses least. */
static void merge_dips(struct np_limiter_rate *r) {
  uint32_t best = 0;
  np_ticks least = ~(np_ticks)0;
  for (uint32_t i = 0; i + 1 < r->dip_count; i++) {
    np_ticks step = r->dips[i + 1].slack - r->dips[i].slack;
    if (step >= least) continue;
    least = step;
    best = i;
  }
  r->dips[best].seq = r->dips[best + 1].seq;
  for (uint32_t i = best + 1; i + 1 < r->dip_count; i++)
    r->dips[i] = r->dips[i + 1];
  r->dip_count--;
}

/* Remembers how far from full the bucket was when grant seq came. */
static void note_dip(struct np_limiter_rate *r, uint64_t seq, np_ticks slack) {
  while (r->dip_count > 0 && r->dips[r->dip_count - 1].slack >= slack)
    r->dip_count--;
  if (r->dip_count == NP_LIMITER_DIPS) merge_dips(r);
  r->dips[r->dip_count++] = (struct np_limiter_dip){seq, slack};
}

/* A date is exact to the tick, where it came from this very rate; only the
 * wake-up is rounded up to the nanosecond. So no rounding adds up. */
static np_ticks exact_date(const struct np_limiter_rate *r, uint64_t date_ns,
                           np_ticks cost) {
  np_ticks date = at_ns(r, date_ns), full = r->tat + cost;
  if (full > r->depth + date - r->ticks_per_ns && full <= r->depth + date)
    return full - r->depth;
  return date;
}

static void charge(struct np_limiter_rate *r, uint64_t seq, uint64_t date_ns,
                   uint64_t units) {
  if (units == 0) return;
  np_ticks cost = units * r->unit, date = exact_date(r, date_ns, cost);
  note_dip(r, seq, r->tat > date ? r->tat - date : 0);
  r->tat = (r->tat > date ? r->tat : date) + cost;
}

/* Gives back what grant seq did not use. Had it never been taken, the bucket
 * would have been fuller by that much ever since, and would have spilled what
 * went over the rim: so no more comes back than the least room there was at any
 * later grant, else a late refund would break the bound. dips holds these
 * minima, ascending, each for the grants up to its seq; where they were merged
 * it is on the safe side. */
static void refund(struct np_limiter_rate *r, uint64_t seq, uint64_t units) {
  np_ticks back = units * r->unit;
  uint32_t first = 0;
  while (first < r->dip_count && r->dips[first].seq <= seq) first++;
  if (first < r->dip_count && r->dips[first].slack < back)
    back = r->dips[first].slack;
  for (uint32_t i = first; i < r->dip_count; i++) r->dips[i].slack -= back;
  r->tat -= back;
  /* Keep the minima ascending: earlier ones may not be the least any more. */
  uint32_t keep = first;
  while (first < r->dip_count && keep > 0 &&
         r->dips[keep - 1].slack >= r->dips[first].slack)
    keep--;
  if (keep == first) return;
  while (first < r->dip_count) r->dips[keep++] = r->dips[first++];
  r->dip_count = keep;
}

/* -- The line ----------------------------------------------------------------
 */

static uint64_t lease_date(const struct np_limiter *l,
                           const struct np_lease *lease) {
  uint64_t date_ns =
      lease->arrival_ns > l->last_ns ? lease->arrival_ns : l->last_ns;
  for (uint32_t i = 0; i < l->rate_count; i++) {
    uint64_t rate_ns = rate_date(&l->rates[i], lease->units[i]);
    if (rate_ns > date_ns) date_ns = rate_ns;
  }
  return date_ns;
}

static void grant(struct np_limiter *l, struct np_lease *lease,
                  uint64_t date_ns) {
  lease->granted = true;
  lease->date_ns = l->last_ns = date_ns;
  lease->seq = ++l->seq;
  for (uint32_t i = 0; i < l->rate_count; i++)
    charge(&l->rates[i], lease->seq, date_ns, lease->units[i]);
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

/* Grants whatever is due, in order, and sets the timer for the next. */
static void serve(struct np_limiter *l) {
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
  serve(l);
}

/* A deadline: what is due by now is granted first. */
static void undo_acquire(struct np_task *t) {
  struct np_lease *lease = t->wait_ud;
  struct np_limiter *l = lease->limiter;
  if (t->wait) serve(l);
  if (lease->granted) return;
  np_waitq_leave(&l->waiters, t);
  serve(l);
}

/* A cancel: it must not take anything any more, due or not. */
static void cancel_acquire(struct np_task *t) {
  struct np_limiter *l = ((struct np_lease *)t->wait_ud)->limiter;
  np_waitq_wake(&l->waiters, t, NP_E_CANCELLED);
  serve(l);
}

static const struct np_wait_ops wait_acquire = {
    .what = "rate_limiter", .undo = undo_acquire, .cancel = cancel_acquire};

int np_limiter_acquire(struct np_limiter *l, struct np_task *t,
                       struct np_lease *lease, uint64_t timeout_ns) {
  for (uint32_t i = 0; i < l->rate_count; i++)
    if (lease->units[i] > l->rates[i].burst) return NP_E_INVALID;
  lease->limiter = l;
  lease->arrival_ns = np_loop_now(l->loop);
  lease->granted = false;
  serve(l);
  if (l->waiters.count == 0) {
    uint64_t date_ns = lease_date(l, lease);
    if (date_ns <= lease->arrival_ns) {
      grant(l, lease, date_ns);
      return NP_OK;
    }
  }
  int rc = np_waitq_park(&l->waiters, t, &wait_acquire, lease, timeout_ns);
  if (rc == NP_PARKED && l->waiters.count == 1) serve(l);
  return rc;
}

/* -- Corrections ------------------------------------------------------------
 */

void np_lease_settle(struct np_lease *lease,
                     const uint64_t units[NP_LIMITER_RATES]) {
  struct np_limiter *l = lease->limiter;
  uint64_t now_ns = np_loop_now(l->loop), seq = ++l->seq;
  for (uint32_t i = 0; i < l->rate_count; i++) {
    struct np_limiter_rate *r = &l->rates[i];
    if (units[i] < lease->units[i])
      refund(r, lease->seq, lease->units[i] - units[i]);
    else
      charge(r, seq, now_ns, units[i] - lease->units[i]);
    lease->units[i] = units[i];
  }
  serve(l);
}

uint64_t np_limiter_available(const struct np_limiter *l, uint32_t rate) {
  const struct np_limiter_rate *r = &l->rates[rate];
  uint64_t now_ns = np_loop_now(l->loop);
  np_ticks now = at_ns(r, now_ns), used = r->tat > now ? r->tat - now : 0;
  if (now_ns < r->hold_ns || used >= r->depth) return 0;
  return (uint64_t)((r->depth - used) / r->unit);
}

void np_limiter_cap(struct np_limiter *l, uint32_t rate, uint64_t units) {
  struct np_limiter_rate *r = &l->rates[rate];
  if (units >= r->burst) return;
  np_ticks now = at_ns(r, np_loop_now(l->loop));
  np_ticks tat = now + r->depth - units * r->unit;
  if (tat <= r->tat) return;
  note_dip(r, ++l->seq, r->tat > now ? r->tat - now : 0);
  r->tat = tat;
  serve(l);
}

void np_limiter_hold(struct np_limiter *l, uint32_t rate, uint64_t until_ns) {
  if (until_ns <= l->rates[rate].hold_ns) return;
  l->rates[rate].hold_ns = until_ns;
  serve(l);
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

static uint64_t gcd(uint64_t a, uint64_t b) {
  while (b != 0) {
    uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

/* The smallest power of ten up to 1e6 that makes rate a whole number. */
static uint64_t scale_of(double rate) {
  uint64_t scale = 1;
  while (scale < 1000000) {
    double scaled = rate * (double)scale;
    if (fabs(scaled - round(scaled)) <= scaled * 1e-15) break;
    scale *= 10;
  }
  return scale;
}

int np_limiter_add(struct np_limiter *l, double rate, uint64_t period_ns,
                   uint64_t burst) {
  const uint64_t longest_ns = 366 * UINT64_C(86400) * NP_NS_PER_S;
  if (l->rate_count == NP_LIMITER_RATES || !(rate > 0 && rate <= 1e9) ||
      period_ns == 0 || period_ns > longest_ns || burst == 0 ||
      burst > UINT64_C(1000000000000))
    return NP_E_INVALID;
  uint64_t scale = scale_of(rate);
  uint64_t count = (uint64_t)floor(rate * (double)scale * (1 + 1e-15));
  if (count == 0) return NP_E_INVALID;
  uint64_t common = gcd(count, scale);
  uint64_t whole = scale / common, ticks = count / common;
  common = gcd(ticks, period_ns);
  struct np_limiter_rate *r = &l->rates[l->rate_count];
  r->ticks_per_ns = ticks / common;
  r->unit = (np_ticks)(period_ns / common) * whole;
  r->depth = burst * r->unit;
  r->burst = burst;
  return (int)l->rate_count++;
}
