/* SPDX-License-Identifier: MIT
 * Time never goes backwards, virtual time stands still until it is moved, and
 * seconds become nanoseconds without surprises at the edges. */
#include "base/clock.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

static void virtual_time_moves_only_forward_and_only_when_told(void) {
  struct np_clock c;
  np_clock_init(&c);
  uint64_t real_ns = np_clock_now(&c);
  np_clock_set_virtual(&c, true, 5 * NP_NS_PER_S);
  uint64_t start_ns = np_clock_now(&c);
  assert(start_ns >= real_ns);
  assert(np_clock_now(&c) == start_ns);
  assert(np_clock_wall(&c) == 5 * NP_NS_PER_S);
  np_clock_advance(&c, start_ns + NP_NS_PER_S);
  assert(np_clock_now(&c) == start_ns + NP_NS_PER_S);
  assert(np_clock_wall(&c) == 6 * NP_NS_PER_S);
  np_clock_advance(&c, start_ns);
  assert(np_clock_now(&c) == start_ns + NP_NS_PER_S);
}

static void going_back_to_real_time_does_not_go_back_in_time(void) {
  struct np_clock c;
  np_clock_init(&c);
  np_clock_set_virtual(&c, true, 0);
  uint64_t later_ns = np_clock_now(&c) + 3600 * NP_NS_PER_S;
  np_clock_advance(&c, later_ns);
  np_clock_set_virtual(&c, false, 0);
  uint64_t real_ns = np_clock_now(&c);
  assert(real_ns >= later_ns);
  assert(np_clock_now(&c) >= real_ns);
}

static void seconds_become_nanoseconds(void) {
  assert(np_ns_of_seconds(0) == 0);
  assert(np_ns_of_seconds(-1) == 0);
  assert(np_ns_of_seconds(NAN) == 0);
  assert(np_ns_of_seconds(1.5) == 1500000000);
  assert(np_ns_of_seconds(1e-12) == 1); /* a wait is never short */
  assert(np_ns_of_seconds(1e300) == NP_FOREVER);
  assert(np_ns_of_seconds(INFINITY) == NP_FOREVER);
}

static void deadlines_do_not_overflow(void) {
  assert(np_deadline(10, 5) == 15);
  assert(np_deadline(10, NP_FOREVER) == NP_FOREVER);
  assert(np_deadline(NP_FOREVER - 3, 5) == NP_FOREVER);
}

int main(void) {
  virtual_time_moves_only_forward_and_only_when_told();
  going_back_to_real_time_does_not_go_back_in_time();
  seconds_become_nanoseconds();
  deadlines_do_not_overflow();
  puts("clock_test: ok");
  return 0;
}
