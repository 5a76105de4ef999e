/* SPDX-License-Identifier: MIT
 * The one place that reads time. A clock is real, or virtual: then time stands
 * still until np_clock_advance moves it. Monotonic time never goes backwards,
 * not even when the clock changes its mode. Loop thread only. */
#ifndef NP_CLOCK_H
#define NP_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define NP_NS_PER_S UINT64_C(1000000000)
#define NP_FOREVER UINT64_MAX

struct np_clock {
  bool is_virtual;
  uint64_t frozen_ns;    /* the virtual now */
  int64_t offset_ns;     /* added to the real reading */
  uint64_t wall_base_ns; /* wall time at frozen_ns == 0 while virtual */
};

/* Starts real; now counts from the machine's monotonic clock. */
void np_clock_init(struct np_clock *c);
/* A virtual clock whose now is 0 and whose wall time is wall_ns. */
void np_clock_start_virtual(struct np_clock *c, uint64_t wall_ns);
/* Switches the mode. Going virtual keeps now where it is; wall_ns sets the wall
 * time of that instant (0: the real one). */
void np_clock_set_virtual(struct np_clock *c, bool on, uint64_t wall_ns);
/* Monotonic nanoseconds. */
uint64_t np_clock_now(const struct np_clock *c);
/* Nanoseconds since the Unix epoch. */
uint64_t np_clock_wall(const struct np_clock *c);
/* Virtual only: moves now forward to to_ns; never backwards. */
void np_clock_advance(struct np_clock *c, uint64_t to_ns);
/* The machine's monotonic clock whatever the mode: for budgets and the watch on
 * tasks that hog the loop, never for what a script can see. */
uint64_t np_clock_machine(void);
/* Processor time of this process, all threads: for measuring alone. */
uint64_t np_clock_cpu(void);

/* now + delay without overflow; NP_FOREVER stays NP_FOREVER. */
static inline uint64_t np_deadline(uint64_t now_ns, uint64_t delay_ns) {
  return delay_ns > NP_FOREVER - now_ns ? NP_FOREVER : now_ns + delay_ns;
}

/* Seconds (a script's number) to ns: negative and NaN are 0, huge is
 * NP_FOREVER. Rounded up, so that a wait is never short. */
uint64_t np_ns_of_seconds(double s);

#endif
