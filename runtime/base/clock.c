/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <math.h>
#include <time.h>

static uint64_t read_clock(clockid_t id) {
  struct timespec ts;
  (void)clock_gettime(id, &ts); /* cannot fail for these ids */
  return (uint64_t)ts.tv_sec * NP_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t np_clock_machine(void) {
  return read_clock(CLOCK_MONOTONIC);
}

uint64_t np_clock_cpu(void) {
  return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void np_clock_init(struct np_clock *c) {
  *c = (struct np_clock){0};
}

void np_clock_start_virtual(struct np_clock *c, uint64_t wall_ns) {
  *c = (struct np_clock){.is_virtual = true, .wall_base_ns = wall_ns};
}

uint64_t np_clock_now(const struct np_clock *c) {
  if (c->is_virtual) return c->frozen_ns;
  return np_clock_machine() + (uint64_t)c->offset_ns;
}

uint64_t np_clock_wall(const struct np_clock *c) {
  if (c->is_virtual) return c->wall_base_ns + c->frozen_ns;
  return read_clock(CLOCK_REALTIME);
}

void np_clock_set_virtual(struct np_clock *c, bool on, uint64_t wall_ns) {
  uint64_t now = np_clock_now(c);
  if (on) {
    if (wall_ns == 0) wall_ns = np_clock_wall(c);
    c->frozen_ns = now;
    c->wall_base_ns = wall_ns - now;
  } else {
    c->offset_ns = (int64_t)(now - np_clock_machine());
  }
  c->is_virtual = on;
}

void np_clock_advance(struct np_clock *c, uint64_t to_ns) {
  if (c->is_virtual && to_ns > c->frozen_ns) c->frozen_ns = to_ns;
}

uint64_t np_ns_of_seconds(double s) {
  if (!(s > 0)) return 0;
  double ns = ceil(s * 1e9);
  return ns >= 9.2e18 ? NP_FOREVER : (uint64_t)ns;
}
