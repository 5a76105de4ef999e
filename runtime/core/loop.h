/* SPDX-License-Identifier: MIT
 * The event loop: libuv underneath, our own lists on top. A libuv callback only
 * notes what happened (raises a source, adds a post); one turn then serves, in
 * this order and under the host's budget: sources (sockets), due timers, posts,
 * ready tasks. Each stage serves at least one item a turn, so none starves.
 * Loop thread only, but for np_loop_wakeup. */
#ifndef NP_LOOP_H
#define NP_LOOP_H

#include "base/clock.h"
#include "base/list.h"
#include "base/trace.h"
#include "core/timer.h"

struct uv_loop_s;
struct np_loop;
struct np_loop_uv;

/* Something with its own list of work, served once a turn while raised:
 * curl's sockets, the server's daemon. */
struct np_source {
  struct np_list link;
  bool raised;
  /* Does its work until done or np_loop_spent(l). Cleared before the call; a
   * source that stops early raises itself again. */
  void (*serve)(struct np_source *s, struct np_loop *l);
  void *ud; /* the owner's */
};

/* One call on the loop thread, in a later stage of this turn or in the next. */
struct np_post {
  struct np_list link;
  void (*run)(struct np_post *p); /* the post is in no list any more */
};

struct np_loop {
  struct np_clock *clock; /* borrowed until free */
  struct np_timers timers;
  struct np_list sources;
  struct np_list posts;
  /* Set by task.c: runs ready tasks until the budget is spent. */
  struct np_source ready;
  size_t holds;           /* work under way that can wake a task by itself */
  uint64_t next_poll_ns;  /* machine time; a busy loop does not poll earlier */
  uint64_t budget_end;    /* machine time; NP_FOREVER without a budget */
  struct np_trace *trace; /* borrowed; NULL: nobody wants to know */
  struct np_loop_uv *uv;  /* owned */
};

/* A loop on clock. NULL without memory or file descriptors. */
struct np_loop *np_loop_new(struct np_clock *clock);
/* Closes all libuv handles (also luv's) and frees l. Sources, posts and timers
 * must be gone. */
void np_loop_free(struct np_loop *l);
/* Waits until no libuv request (file, thread-pool job, look-up) is in flight,
 * and runs the posts that come of it: before what they point to goes away. */
void np_loop_drain(struct np_loop *l);
struct uv_loop_s *np_loop_uv(struct np_loop *l);

static inline uint64_t np_loop_now(const struct np_loop *l) {
  return np_clock_now(l->clock);
}

/* Serves whatever is there; with nothing to do and may_block, waits for the
 * first event or deadline (a virtual clock jumps to it instead, once holds is
 * 0). budget_ns: NP_FOREVER for none. Returns false when nothing is left that
 * could ever happen: no work, no deadline, no hold, no live libuv handle. */
bool np_loop_turn(struct np_loop *l, uint64_t budget_ns, bool may_block);
/* Whether a turn would find something to do right now. */
bool np_loop_busy(const struct np_loop *l);
/* Whether the turn's budget is used up; reads the machine's clock. */
bool np_loop_spent(const struct np_loop *l);

void np_source_add(struct np_loop *l, struct np_source *s,
                   void (*serve)(struct np_source *s, struct np_loop *l));
void np_source_remove(struct np_source *s);
static inline void np_source_raise(struct np_source *s) {
  s->raised = true;
}

/* Adds p (in no list) to the posts. */
void np_loop_post(struct np_loop *l, struct np_post *p);

/* A hold says "something outside will wake a task": a transfer, a thread-pool
 * job, a listening server. Without holds, timers and live libuv handles,
 * waiting tasks are a deadlock; with a hold a virtual clock does not jump. */
static inline void np_loop_hold(struct np_loop *l) {
  l->holds++;
}
static inline void np_loop_release(struct np_loop *l) {
  l->holds--;
}

/* Blocks until libuv has something, and takes note of it. For a post whose work
 * is under way and must not be overtaken (work.c); nothing else blocks. */
void np_loop_poll(struct np_loop *l);

/* Ends a blocking turn early. Any thread, also a signal handler. */
void np_loop_wakeup(struct np_loop *l);

#endif
