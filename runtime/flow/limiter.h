/* SPDX-License-Identifier: MIT
 * A rate limiter: up to NP_LIMITER_RATES rates, taken together or not at all,
 * first come, first served. Each rate is a GCRA (the virtual-scheduling form of
 * the token bucket: ITU-T I.371, annex A): in any window of length W no more
 * than burst + W * count / period units pass.
 *
 * Grants are dated at the instant they were computed for, not at the wake-up,
 * so that a late timer loses no rate; the bound holds for these dates. One
 * timer stands at the date of the head of the line. Arithmetic is exact: time
 * is kept in ticks of 1/count ns. Loop thread only. */
#ifndef NP_LIMITER_H
#define NP_LIMITER_H

#include "core/waitq.h"

enum { NP_LIMITER_RATES = 5, NP_LIMITER_DIPS = 16 };

/* 2^113 at most: 292 years of ns times a count below 2^50. Aligned to no more
 * than 8 bytes, for that is what Lua's userdata are. */
typedef unsigned __int128 np_ticks __attribute__((aligned(8)));

/* How full the bucket has been since: see refund() in limiter.c. */
struct np_limiter_dip {
  uint64_t seq;
  np_ticks slack;
};

struct np_limiter_rate {
  uint64_t ticks_per_ns;
  np_ticks unit;  /* ticks that one unit costs */
  np_ticks depth; /* ticks of the whole burst */
  np_ticks tat;   /* theoretical arrival time: when the bucket is full again */
  uint64_t burst;
  uint64_t hold_ns; /* nothing passes before */
  struct np_limiter_dip dips[NP_LIMITER_DIPS];
  uint32_t dip_count;
};

struct np_limiter {
  struct np_waitq waiters; /* wait_ud is the lease */
  struct np_loop *loop;    /* borrowed until fini */
  struct np_timer timer;   /* at the head's date */
  uint64_t armed_ns;       /* where the timer stands; NP_FOREVER: nowhere */
  struct np_limiter_rate rates[NP_LIMITER_RATES];
  uint32_t rate_count;
  uint64_t seq;     /* grants and charges so far */
  uint64_t last_ns; /* date of the latest grant */
};

/* One request for units of every rate; valid from acquire to its last settle.
 * The limiter outlives it. */
struct np_lease {
  struct np_limiter *limiter;
  uint64_t units[NP_LIMITER_RATES];
  uint64_t arrival_ns;
  uint64_t date_ns; /* of the grant */
  uint64_t seq;
  bool granted;
};

/* max_waiting: 0 for no bound. */
void np_limiter_init(struct np_limiter *l, struct np_loop *loop,
                     uint32_t max_waiting);
/* Ends all waits with NP_E_CLOSED. */
void np_limiter_fini(struct np_limiter *l);
/* Adds a rate of units per period_ns with a burst; its bucket is full. A
 * fractional rate is exact to six decimal places. Returns its index, or
 * NP_E_INVALID when the numbers are out of range (rate up to 1e9, period up to
 * 366 days, burst from 1 to 1e12) or the limiter has NP_LIMITER_RATES. */
int np_limiter_add(struct np_limiter *l, double rate, uint64_t period_ns,
                   uint64_t burst);
/* Asks for lease->units (set by the caller, each at most the burst) for t.
 * timeout_ns: 0 tries, NP_FOREVER for no limit; a grant that is due at the very
 * deadline counts. Returns NP_OK, NP_PARKED, NP_E_TIMEOUT, NP_E_QUEUE_FULL, or
 * NP_E_INVALID above a burst. */
int np_limiter_acquire(struct np_limiter *l, struct np_task *t,
                       struct np_lease *lease, uint64_t timeout_ns);
/* Says that a granted lease used units[] in truth: gives the rest back as far
 * as the bucket did not overflow since, or charges more, even into debt. The
 * last word counts. */
void np_lease_settle(struct np_lease *lease,
                     const uint64_t units[NP_LIMITER_RATES]);
/* Units of a rate that could pass now if nobody waited; 0 while in debt. */
uint64_t np_limiter_available(const struct np_limiter *l, uint32_t rate);
/* Leaves at most units in a bucket. */
void np_limiter_cap(struct np_limiter *l, uint32_t rate, uint64_t units);
/* Lets nothing of a rate pass before until_ns; never shortens an earlier hold.
 */
void np_limiter_hold(struct np_limiter *l, uint32_t rate, uint64_t until_ns);

#endif
