/* SPDX-License-Identifier: MIT
 * A rate limiter: up to NP_LIMITER_RATES rates (limiter_rate.h), taken together
 * or not at all, first come, first served: in any window of length W no more
 * than burst + W * count / period units of a configured rate pass.
 *
 * Grants are dated at the instant they were computed for, not at the wake-up,
 * so that a late timer loses no rate; the bound holds for these dates, and a
 * date is that of the wake-up whenever this is in time. One timer stands at the
 * date of the head of the line. Loop thread only. */
#ifndef NP_LIMITER_H
#define NP_LIMITER_H

#include "core/waitq.h"
#include "flow/limiter_rate.h"

enum { NP_LIMITER_RATES = 9 };

struct np_limiter {
  struct np_waitq waiters; /* wait_ud is the lease */
  struct np_loop *loop;    /* borrowed until fini */
  struct np_timer timer;   /* at the head's date */
  uint64_t armed_ns;       /* where the timer stands; NP_FOREVER: nowhere */
  struct np_limiter_rate rates[NP_LIMITER_RATES];
  uint32_t rate_count;
  uint64_t hold_ns; /* nothing passes before */
  uint64_t seq;     /* grants and charges so far */
  uint64_t last_ns; /* date of the latest grant */
};

/* One request for units of every rate; valid from acquire to its last settle.
 * The limiter outlives it. */
struct np_lease {
  struct np_limiter *limiter;
  uint64_t units[NP_LIMITER_RATES];
  uint64_t taken[NP_LIMITER_RATES]; /* of each rate, this grant included */
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
/* Adds a configured rate of units per period_ns with a burst; its bucket is
 * full. Returns its index, or NP_E_INVALID as np_limiter_rate_set and when the
 * limiter has NP_LIMITER_RATES. Before the first acquire that counts. */
int np_limiter_add(struct np_limiter *l, double rate, uint64_t period_ns,
                   uint64_t burst);
/* Adds a rate that is learned and lets everything pass until then; nobody waits
 * longer than longest_ns for it. Returns as np_limiter_add. */
int np_limiter_add_learned(struct np_limiter *l, uint64_t longest_ns);
/* Changes a configured rate; the level and debt stay. Who waits for more than
 * the new burst is woken with NP_E_INVALID. Returns as np_limiter_rate_set. */
int np_limiter_set(struct np_limiter *l, uint32_t rate, double count,
                   uint64_t period_ns, uint64_t burst);
/* Sets a learned rate by a server's word, which answers lease (or NULL): see
 * np_limiter_rate_learn. Fills in what word says about the lease. Nobody passes
 * here: np_limiter_serve comes before and after all words of one answer. */
int np_limiter_learn(struct np_limiter *l, uint32_t rate,
                     const struct np_lease *lease,
                     struct np_limiter_word *word);
/* Grants whatever is due. */
void np_limiter_serve(struct np_limiter *l);
/* A learned rate lets everything pass again. */
void np_limiter_forget(struct np_limiter *l, uint32_t rate);
/* Asks for lease->units (set by the caller) for t. timeout_ns: 0 tries,
 * NP_FOREVER for no limit; a grant that is due at the very deadline counts.
 * front: before all who did not come this way, and never refused. Returns
 * NP_OK, NP_PARKED, NP_E_TIMEOUT, NP_E_QUEUE_FULL, or NP_E_INVALID above the
 * burst of a configured rate. */
int np_limiter_acquire(struct np_limiter *l, struct np_task *t,
                       struct np_lease *lease, uint64_t timeout_ns, bool front);
/* A rate whose burst the lease is above, or -1. */
int np_limiter_above_burst(const struct np_limiter *l,
                           const struct np_lease *lease);
/* Says that a granted lease used units[] in truth: gives the rest back as far
 * as the bucket did not overflow since, or charges more, even into debt. The
 * last word counts. To learned rates only what is charged matters: what else
 * they do not know, the next answer says. */
void np_lease_settle(struct np_lease *lease,
                     const uint64_t units[NP_LIMITER_RATES]);
/* Units of a rate that could pass now if nobody waited; 0 while in debt,
 * UINT64_MAX when it is not known. */
uint64_t np_limiter_available(const struct np_limiter *l, uint32_t rate);
/* Lets nothing pass before until_ns; never shortens an earlier hold. */
void np_limiter_hold(struct np_limiter *l, uint64_t until_ns);
/* When t, or the head of the line with NULL, will pass if nothing changes;
 * NP_FOREVER when it does not wait here. */
uint64_t np_limiter_eta(const struct np_limiter *l, const struct np_task *t);

#endif
