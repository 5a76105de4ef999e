/* SPDX-License-Identifier: MIT
 * What a trace tells of tasks. For task.c only. Without a trace each costs one
 * look at a pointer. */
#ifndef NP_TASK_TRACE_H
#define NP_TASK_TRACE_H

#include "core/task.h"

void np_write_task(const struct np_task *t, const char *what);
void np_write_task_spawn(const struct np_task *t);
void np_write_task_wake(const struct np_task *t, const char *on, int status);
void np_write_task_wait(const struct np_task *t);
void np_write_task_end(const struct np_task *t, enum np_task_state state);

static inline bool np_task_is_traced(const struct np_task *t) {
  return t->sched->loop->trace != NULL;
}
/* It runs, or was cancelled. */
static inline void np_trace_task(const struct np_task *t, const char *what) {
  if (np_task_is_traced(t)) np_write_task(t, what);
}
static inline void np_trace_task_spawn(const struct np_task *t) {
  if (np_task_is_traced(t)) np_write_task_spawn(t);
}
/* Its wait has ended, with status. */
static inline void np_trace_task_wake(const struct np_task *t, const char *on,
                                      int status) {
  if (np_task_is_traced(t)) np_write_task_wake(t, on, status);
}
/* It gave way: to wait, or (woken before it could) for its next turn. */
static inline void np_trace_task_wait(const struct np_task *t) {
  if (np_task_is_traced(t)) np_write_task_wait(t);
}
static inline void np_trace_task_end(const struct np_task *t,
                                     enum np_task_state state) {
  if (np_task_is_traced(t)) np_write_task_end(t, state);
}

#endif
