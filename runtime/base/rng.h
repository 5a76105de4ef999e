/* SPDX-License-Identifier: MIT
 * The one place that draws randomness: xoshiro256** streams (Blackman and
 * Vigna, 2018) seeded through splitmix64, one stream per purpose so that a
 * draw in one never shifts another. Not for secrets. Loop thread only. */
#ifndef NP_RNG_H
#define NP_RNG_H

#include <stddef.h>
#include <stdint.h>

struct np_rng {
  uint64_t s[4];
};

/* Seeds the stream; equal (seed, stream) give equal draws on every machine. */
void np_rng_seed(struct np_rng *r, uint64_t seed, uint64_t stream);
uint64_t np_rng_u64(struct np_rng *r);
/* Uniform in [0, 1) with 53 random bits. */
double np_rng_double(struct np_rng *r);
/* A seed from the operating system. */
uint64_t np_rng_entropy(void);

#endif
