/* SPDX-License-Identifier: MIT */
#include "base/rng.h"

#include "base/clock.h"

#include <sys/random.h>

static uint64_t splitmix64(uint64_t *x) {
  uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

void np_rng_seed(struct np_rng *r, uint64_t seed, uint64_t stream) {
  uint64_t x = seed ^ splitmix64(&stream);
  for (int i = 0; i < 4; i++) r->s[i] = splitmix64(&x);
}

static uint64_t rotl(uint64_t x, int k) {
  return (x << k) | (x >> (64 - k));
}

uint64_t np_rng_u64(struct np_rng *r) {
  uint64_t *s = r->s;
  uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotl(s[3], 45);
  return result;
}

double np_rng_double(struct np_rng *r) {
  return (double)(np_rng_u64(r) >> 11) * 0x1.0p-53;
}

uint64_t np_rng_entropy(void) {
  uint64_t seed;
  /* Early in boot the pool may refuse; the clock is good enough for jitter. */
  if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
    seed = np_clock_machine() ^ (uint64_t)(uintptr_t)&seed;
  return seed;
}
