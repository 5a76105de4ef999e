/* SPDX-License-Identifier: MIT
 * One rate of a limiter: a GCRA (the virtual-scheduling form of the token
 * bucket: ITU-T I.371, annex A). The bucket is full again at tat, and a request
 * of cost c passes at the first instant d with max(d, tat) + c - d <= depth and
 * moves tat to max(d, tat) + c. Arithmetic is exact: time is kept in ticks of
 * 1/count ns. Pure: no loop, no tasks.
 *
 * A configured rate is a ceiling: nothing but time and refunds fills it. A
 * learned one follows a server's word: each word sets it anew, up or down. */
#ifndef NP_LIMITER_RATE_H
#define NP_LIMITER_RATE_H

#include <stdbool.h>
#include <stdint.h>

enum { NP_LIMITER_DIPS = 16 };

/* 2^113 at most: 292 years of ns times a count below 2^50. Aligned to no more
 * than 8 bytes, for that is what Lua's userdata are. */
typedef unsigned __int128 np_ticks __attribute__((aligned(8)));

/* How full the bucket has been since: see np_limiter_rate_refund. */
struct np_limiter_dip {
  uint64_t seq;
  np_ticks slack;
};

struct np_limiter_rate {
  uint64_t ticks_per_ns; /* 0: not known (yet), everything passes */
  np_ticks unit;         /* ticks that one unit costs */
  np_ticks depth;        /* ticks of the whole burst */
  np_ticks tat; /* theoretical arrival time: when the bucket is full again */
  uint64_t burst;
  struct np_limiter_dip dips[NP_LIMITER_DIPS];
  uint32_t dip_count;
  /* Learned rates only: */
  bool learned;
  uint64_t full_ns; /* the bucket is full at this instant; NP_FOREVER: never */
  uint64_t window_ns;  /* and then again every window_ns */
  uint64_t taken;      /* units that were ever taken */
  uint64_t based;      /* seq of the grant whose answer spoke last */
  uint64_t heard_ns;   /* when the first word came */
  uint64_t longest_ns; /* nobody waits longer than this for it */
  uint64_t last_ns;    /* since the latest word or grant */
};

/* A server's word about one of its limits, and the grant that it answers. */
struct np_limiter_word {
  double rate; /* units a period */
  uint64_t period_ns;
  uint64_t burst;
  bool says_left;
  uint64_t left;
  uint64_t full_ns, window_ns; /* 0: it refills steadily */
  bool answers;                /* a grant: this one */
  uint64_t seq, date_ns, taken;
};

/* Gives r (zeroed at first) units per period_ns with a burst; seq is fresh. A
 * new bucket is full, a known one keeps its level, debt included. A fractional
 * rate is exact to six decimal places. Returns NP_OK, or NP_E_INVALID and
 * nothing happens when the numbers are out of range (rate up to 1e9, period up
 * to 366 days, burst from 1 to 1e12). */
int np_limiter_rate_set(struct np_limiter_rate *r, double rate,
                        uint64_t period_ns, uint64_t burst, uint64_t seq,
                        uint64_t now_ns);
/* The first nanosecond at which units pass; 0 for "whenever". What is above the
 * burst passes a configured rate never (not asked here) and a learned one when
 * it is full. A learned rate lets one request pass longest_ns after its latest
 * word or grant, whatever is left: the answer tells more. */
uint64_t np_limiter_rate_date(const struct np_limiter_rate *r, uint64_t units);
/* Takes units at date_ns for grant or charge seq, even into debt. */
void np_limiter_rate_charge(struct np_limiter_rate *r, uint64_t seq,
                            uint64_t date_ns, uint64_t units);
/* Gives back units that grant seq took and did not use, as far as the bucket
 * did not overflow since. */
void np_limiter_rate_refund(struct np_limiter_rate *r, uint64_t seq,
                            uint64_t units);
/* Units that could pass now; 0 in debt. */
uint64_t np_limiter_rate_left(const struct np_limiter_rate *r, uint64_t now_ns);
/* Sets a learned rate by a server's word. A word that answers a grant says what
 * was left once that one was taken: the level is set there, and what was taken
 * since is taken again, with the refills between. An answer older than the
 * latest heard says nothing. A word that answers nobody only lowers. seq is a
 * fresh number. Returns whether it was heard, NP_E_INVALID as
 * np_limiter_rate_set. */
int np_limiter_rate_learn(struct np_limiter_rate *r,
                          const struct np_limiter_word *word, uint64_t seq,
                          uint64_t now_ns);

#endif
