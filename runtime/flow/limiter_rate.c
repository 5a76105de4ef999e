/* SPDX-License-Identifier: MIT */
#include "flow/limiter_rate.h"

#include "base/clock.h"
#include "base/err.h"

#include <math.h>

static np_ticks at_ns(const struct np_limiter_rate *r, uint64_t ns) {
  return (np_ticks)ns * r->ticks_per_ns;
}

/* -- Dates -----------------------------------------------------------------
 */

/* What a request of units has to find: a learned rate lets more than its burst
 * pass when it is full, for the server may take it. */
static np_ticks needed(const struct np_limiter_rate *r, uint64_t units) {
  return (r->learned && units > r->burst ? r->burst : units) * r->unit;
}

uint64_t np_limiter_rate_date(const struct np_limiter_rate *r, uint64_t units) {
  if (units == 0 || r->ticks_per_ns == 0) return 0;
  np_ticks full = r->tat + needed(r, units), date = 0;
  if (full > r->depth)
    date = (full - r->depth + r->ticks_per_ns - 1) / r->ticks_per_ns;
  if (r->learned) {
    if (date > r->full_ns) date = r->full_ns;
    if (date > r->last_ns + r->longest_ns) date = r->last_ns + r->longest_ns;
  }
  return date >= NP_FOREVER ? NP_FOREVER : (uint64_t)date;
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

uint64_t np_limiter_rate_left(const struct np_limiter_rate *r,
                              uint64_t now_ns) {
  if (r->learned && now_ns >= r->full_ns) return r->burst;
  np_ticks now = at_ns(r, now_ns), used = r->tat > now ? r->tat - now : 0;
  return used >= r->depth ? 0 : (uint64_t)((r->depth - used) / r->unit);
}

/* -- Dips ------------------------------------------------------------------
 * dips holds the least room there was at any grant from a seq on: ascending in
 * both, each for the grants after the one before it up to its own seq. */

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

/* The first dip that concerns grants after seq; dip_count: none. */
static uint32_t first_dip_after(const struct np_limiter_rate *r, uint64_t seq) {
  uint32_t first = 0;
  while (first < r->dip_count && r->dips[first].seq <= seq) first++;
  return first;
}

/* Keeps the minima ascending after those from first on have sunk: earlier ones
 * may not be the least any more. */
static void ascend(struct np_limiter_rate *r, uint32_t first) {
  uint32_t keep = first;
  while (first < r->dip_count && keep > 0 &&
         r->dips[keep - 1].slack >= r->dips[first].slack)
    keep--;
  if (keep == first) return;
  while (first < r->dip_count) r->dips[keep++] = r->dips[first++];
  r->dip_count = keep;
}

/* -- Taking and giving back ------------------------------------------------
 */

/* A window that has ended filled the bucket, whatever was taken before. */
static void end_window(struct np_limiter_rate *r, uint64_t seq,
                       uint64_t now_ns) {
  if (!r->learned || now_ns < r->full_ns) return;
  uint64_t late_ns = now_ns - r->full_ns;
  r->full_ns += late_ns - late_ns % r->window_ns;
  if (r->tat > at_ns(r, r->full_ns)) r->tat = at_ns(r, r->full_ns);
  r->full_ns += r->window_ns;
  note_dip(r, seq, 0);
}

void np_limiter_rate_charge(struct np_limiter_rate *r, uint64_t seq,
                            uint64_t date_ns, uint64_t units) {
  r->taken += units;
  if (units == 0 || r->ticks_per_ns == 0) return;
  end_window(r, seq, date_ns);
  if (date_ns > r->last_ns) r->last_ns = date_ns;
  np_ticks date = exact_date(r, date_ns, needed(r, units));
  note_dip(r, seq, r->tat > date ? r->tat - date : 0);
  r->tat = (r->tat > date ? r->tat : date) + units * r->unit;
}

/* Had it never been taken, the bucket would have been fuller by that much ever
 * since, and would have spilled what went over the rim: so no more comes back
 * than the least room there was at any later grant, else a late refund would
 * break the bound. Where dips were merged it is on the safe side. */
void np_limiter_rate_refund(struct np_limiter_rate *r, uint64_t seq,
                            uint64_t units) {
  np_ticks back = units * r->unit;
  uint32_t first = first_dip_after(r, seq);
  if (first < r->dip_count && r->dips[first].slack < back)
    back = r->dips[first].slack;
  if (back > r->tat) back = r->tat; /* a slower rate made units dearer */
  for (uint32_t i = first; i < r->dip_count; i++) r->dips[i].slack -= back;
  r->tat -= back;
  ascend(r, first);
}

/* -- Learning --------------------------------------------------------------
 */

/* Sets the level as of an earlier grant and takes again what was taken since.
 * Had the bucket been full at any grant since, it would hold no more than it
 * does then: the least room since is as far as it can rise. Nobody kept this
 * room before the first word, so no refill from before that counts. */
static void rebase(struct np_limiter_rate *r,
                   const struct np_limiter_word *word) {
  uint64_t left = word->left < r->burst ? word->left : r->burst;
  uint64_t date_ns = word->date_ns > r->heard_ns ? word->date_ns : r->heard_ns;
  np_ticks tat = at_ns(r, date_ns) +
                 (r->burst - left + (r->taken - word->taken)) * r->unit;
  uint32_t first = first_dip_after(r, word->seq), count = 0;
  if (first < r->dip_count && tat + r->dips[first].slack < r->tat)
    tat = r->tat - r->dips[first].slack;
  /* Only later answers will be heard: what was before does not matter now. */
  for (uint32_t i = first; i < r->dip_count; i++)
    r->dips[count++] = (struct np_limiter_dip){r->dips[i].seq,
                                               r->dips[i].slack + tat - r->tat};
  r->dip_count = count;
  r->tat = tat;
}

int np_limiter_rate_learn(struct np_limiter_rate *r,
                          const struct np_limiter_word *word, uint64_t seq,
                          uint64_t now_ns) {
  if (word->answers && word->seq < r->based) return 0;
  bool new_rate = r->ticks_per_ns == 0;
  if (new_rate)
    r->heard_ns = now_ns;
  else
    end_window(r, seq, now_ns);
  int rc = np_limiter_rate_set(r, word->rate, word->period_ns, word->burst, seq,
                               now_ns);
  if (rc < 0) return rc;
  r->last_ns = now_ns;
  r->full_ns = word->window_ns != 0 ? word->full_ns : NP_FOREVER;
  r->window_ns = word->window_ns;
  if (word->answers) {
    r->based = word->seq;
    if (word->says_left) rebase(r, word);
  } else if (word->says_left && word->left < r->burst) {
    np_ticks now = at_ns(r, now_ns);
    np_ticks tat = now + r->depth - word->left * r->unit;
    if (tat > r->tat) {
      note_dip(r, seq, r->tat > now ? r->tat - now : 0);
      r->tat = tat;
    }
  }
  return 1;
}

/* -- Numbers ---------------------------------------------------------------
 */

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

/* Ticks of one rate as ticks of another that stand for as many units; what is
 * less than a unit is rounded up or down. */
static np_ticks convert(np_ticks ticks, np_ticks from, np_ticks to, bool up) {
  long double part =
      (long double)(ticks % from) * (long double)to / (long double)from;
  return ticks / from * to + (np_ticks)(up ? ceill(part) : floorl(part));
}

/* Gives old's level, debt and dips to r, which has other numbers. */
static void keep_level(struct np_limiter_rate *r,
                       const struct np_limiter_rate *old, uint64_t now_ns) {
  np_ticks now = at_ns(old, now_ns);
  np_ticks used = old->tat > now ? old->tat - now : 0;
  if (used > old->depth) {
    used = r->depth + convert(used - old->depth, old->unit, r->unit, true);
  } else {
    np_ticks left = convert(old->depth - used, old->unit, r->unit, false);
    used = left < r->depth ? r->depth - left : 0;
  }
  r->tat = at_ns(r, now_ns) + used;
  for (uint32_t i = 0; i < r->dip_count; i++)
    r->dips[i].slack = convert(old->dips[i].slack, old->unit, r->unit, false);
}

int np_limiter_rate_set(struct np_limiter_rate *r, double rate,
                        uint64_t period_ns, uint64_t burst, uint64_t seq,
                        uint64_t now_ns) {
  const uint64_t longest_ns = 366 * UINT64_C(86400) * NP_NS_PER_S;
  if (!(rate > 0 && rate <= 1e9) || period_ns == 0 || period_ns > longest_ns ||
      burst == 0 || burst > UINT64_C(1000000000000))
    return NP_E_INVALID;
  uint64_t scale = scale_of(rate);
  uint64_t count = (uint64_t)floor(rate * (double)scale * (1 + 1e-15));
  if (count == 0) return NP_E_INVALID;
  uint64_t common = gcd(count, scale);
  uint64_t whole = scale / common, ticks = count / common;
  common = gcd(ticks, period_ns);
  np_ticks unit = (np_ticks)(period_ns / common) * whole;
  if (r->ticks_per_ns == ticks / common && r->unit == unit && r->burst == burst)
    return NP_OK;
  bool known = r->ticks_per_ns != 0;
  np_ticks now = at_ns(r, now_ns);
  /* What the old bucket spilled does not come back in a larger one. */
  if (known) note_dip(r, seq, r->tat > now ? r->tat - now : 0);
  struct np_limiter_rate old = *r;
  r->ticks_per_ns = ticks / common;
  r->unit = unit;
  r->depth = burst * r->unit;
  r->burst = burst;
  if (known) keep_level(r, &old, now_ns);
  return NP_OK;
}
