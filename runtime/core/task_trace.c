/* SPDX-License-Identifier: MIT */
#include "core/task_trace.h"

#include "core/site.h"

static uint32_t running_number(const struct np_sched *s) {
  return s->running ? s->running->number : 0; /* 0: the loop */
}

void np_write_task(const struct np_task *t, const char *what) {
  struct np_trace *trace = t->sched->loop->trace;
  np_trace_begin(trace, what);
  np_trace_number(trace, "task", t->number);
  np_trace_end(trace);
}

void np_write_task_spawn(const struct np_task *t) {
  struct np_trace *trace = t->sched->loop->trace;
  const struct np_site *site = np_sites_get(t->sched->sites, t->site);
  np_trace_begin(trace, "spawn");
  np_trace_number(trace, "task", t->number);
  np_trace_number(trace, "by", running_number(t->sched));
  np_trace_name(trace, "at", site ? site->file : NULL);
  if (site) np_trace_number(trace, "line", (uint64_t)site->line);
  np_trace_end(trace);
}

void np_write_task_wake(const struct np_task *t, const char *on, int status) {
  struct np_trace *trace = t->sched->loop->trace;
  np_trace_begin(trace, "wake");
  np_trace_number(trace, "task", t->number);
  np_trace_number(trace, "by", running_number(t->sched));
  np_trace_name(trace, "on", on);
  if (status < 0)
    np_trace_name(trace, "with", np_err_name(status));
  else if (status == NP_RAISE)
    np_trace_name(trace, "with", "deadlock");
  np_trace_end(trace);
}

void np_write_task_wait(const struct np_task *t) {
  struct np_trace *trace = t->sched->loop->trace;
  np_trace_begin(trace, "wait");
  np_trace_number(trace, "task", t->number);
  np_trace_name(trace, "on", t->wait ? t->wait->what : "its turn");
  uint64_t until_ns = np_timer_deadline(&t->sched->loop->timers, &t->timer);
  if (until_ns != NP_FOREVER) np_trace_number(trace, "until", until_ns);
  np_trace_end(trace);
}

void np_write_task_end(const struct np_task *t, enum np_task_state state) {
  struct np_trace *trace = t->sched->loop->trace;
  np_trace_begin(trace, "end");
  np_trace_number(trace, "task", t->number);
  np_trace_name(trace, "as",
                state == NP_TASK_DONE     ? "done"
                : state == NP_TASK_FAILED ? "failed"
                                          : "cancelled");
  np_trace_end(trace);
}
