/* SPDX-License-Identifier: MIT
 * Tasks: Lua coroutines that wait without blocking the loop. task.c is the only
 * caller of lua_resume and the only core file that knows Lua.
 *
 * One way to wait: np_task_park() with ops that say what is waited for and how
 * to undo it; it hands out a token. One way to wake: np_task_wake() with that
 * token. A stale token is a no-op, so a timeout, a cancel and a completion may
 * race freely. Waking never runs Lua: it puts the task on the ready list.
 *
 * A task is Lua userdata, anchored with its coroutine until it ends. Loop
 * thread only. */
#ifndef NP_TASK_H
#define NP_TASK_H

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "core/loop.h"

struct lua_State;
struct np_task;
struct np_scope;

struct np_wait_ops {
  const char *what; /* "semaphore", "queue.get": for reports and explain */
  /* Takes the task out of whatever it waits in, at once and for good: called
   * at most once a wait, when it is cancelled or its deadline passes, never
   * after a wake. May wake other tasks; must not touch Lua. NULL: nothing. */
  void (*undo)(struct np_task *t);
  /* A wait that a cancel does not end (a scope's for its children): called
   * instead of the undo, to pass the cancel on. NULL: the wait ends. */
  void (*cancel)(struct np_task *t);
};

/* Pushes the results of a finished wait; runs in the task's own coroutine, so
 * it may raise; the waiting function's first argument is at index 1. status is
 * what the wake said (NP_OK or NP_E_*). Returns the number of values. */
typedef int (*np_push_fn)(struct lua_State *L, struct np_task *t, int status);

enum np_task_state {
  NP_TASK_READY,
  NP_TASK_RUNNING,
  NP_TASK_WAITING,
  NP_TASK_DONE,
  NP_TASK_FAILED,
  NP_TASK_CANCELLED
};

struct np_task {
  struct np_list link;    /* ready list, or the list of what it waits in */
  struct np_list sibling; /* home->children */
  struct np_sched *sched;
  struct lua_State *co;   /* borrowed from the anchor; NULL once ended */
  struct np_scope *home;  /* the scope it belongs to; NULL once ended */
  struct np_scope *scope; /* the innermost scope it is in; home at first */
  struct np_timer timer;  /* the deadline of the current wait */
  const struct np_wait_ops *wait; /* NULL unless waiting */
  void *wait_ud;                  /* the waited-for object; free for ops' use */
  uint64_t wait_arg;              /* free for ops' use, e.g. a weight */
  np_push_fn push;
  struct np_list awaiters; /* tasks in task:await() on this one */
  uint32_t token;
  uint32_t number; /* in the order of spawning, from 1 */
  int status;      /* of the last wake */
  uint32_t anchor; /* anchors[anchor] is the coroutine, [anchor + 1] this */
  uint32_t site;   /* where it was spawned, see np_task_site */
  uint8_t state;   /* enum np_task_state */
  bool cancelled;  /* cancelled itself, or with its home scope */
  bool
      background; /* its scope does not wait for it but cancels it at its end */
  bool has_results; /* ended: the userdata's environment holds them */
};

struct np_sched {
  struct np_loop *loop; /* borrowed until fini */
  struct np_log *log;   /* borrowed until fini */
  struct lua_State *L;  /* the main state, borrowed */
  struct np_list ready;
  struct np_task *running; /* NULL outside tasks */
  struct np_scope *root;   /* owned; the scope of the main chunk */
  uint64_t hog_ns;         /* a slice longer than this is reported */
  uint64_t ready_count, waiting_count, alive_count;
  uint64_t spawned_count, switch_count;
  struct np_sites *sites; /* owned */
  uint64_t slice_start;   /* machine time at which the running slice began */
  int task_class;         /* registry reference of the tasks' metatable */
  int anchors;            /* registry reference: keeps running tasks alive */
  uint32_t *free_anchors; /* owned; a stack of indices that were given back */
  uint32_t free_count, free_capacity, next_anchor;
  int on_failure;      /* registry reference, see np_sched_on_failure */
  char *raise_message; /* owned; what a wake with NP_RAISE raises */
  /* An error that no scope of Lua takes: the root's. err is on L's top. */
  void (*uncaught)(void *ud, struct lua_State *L);
  void *uncaught_ud;
};

/* Sets s up on L with an empty root scope. Returns 0 or NP_E_LIMIT. */
int np_sched_init(struct np_sched *s, struct np_loop *loop, struct np_log *log,
                  struct lua_State *L);
/* Undoes every wait and forgets every task, without running Lua: before
 * lua_close. */
void np_sched_stop(struct np_sched *s);
/* Frees what is left: after lua_close. */
void np_sched_fini(struct np_sched *s);

/* Starts a task in scope from the function and its nargs arguments at the top
 * of L (they are moved to the task) and pushes its userdata. Raises on memory
 * errors only. */
struct np_task *np_task_spawn(struct np_sched *s, struct lua_State *L,
                              struct np_scope *scope, int nargs);
/* Pushes t's userdata onto L, or nil when t has ended. */
void np_task_push(struct np_task *t, struct lua_State *L);
/* A failed task's error, before anybody sees it, passes through the function at
 * the top of L: function(task, err, traceback) -> err. Pops it. */
void np_sched_on_failure(struct np_sched *s, struct lua_State *L);
/* A task whose wait can be ended, deepest in the tree first; NULL: none. The
 * error of a deadlock is raised there and climbs from scope to scope. */
struct np_task *np_sched_innermost_waiter(struct np_sched *s);
/* Makes a waiting task raise an error of kind "internal" with this message. */
void np_task_raise(struct np_task *t, const char *message);
/* What a waiting function yields with, and what its wait is resumed with. */
extern const char np_task_waits[], np_task_woken[];

typedef uint32_t np_token;

enum { NP_RAISE = 2 }; /* a wake's status: raise sched->raise_message */

/* Parks t (running) and returns the token that wakes it. deadline_ns:
 * NP_FOREVER for none; when it passes, the wait is undone and the task woken
 * with NP_E_TIMEOUT. The binding then ends in np_wait_end (bind.h). */
np_token np_task_park(struct np_task *t, const struct np_wait_ops *ops,
                      void *wait_ud, uint64_t deadline_ns);
/* Ends t's wait with status if token is still current: it will run. Returns
 * whether it was. The caller has taken t out of its own lists (t->link). */
bool np_task_wake(struct np_task *t, np_token token, int status);
/* Undoes t's wait, if it waits, and wakes it with status. */
void np_task_interrupt(struct np_task *t, int status);
/* Cancels t: its current and every later wait raises, but inside a shield. */
void np_task_cancel(struct np_task *t);
/* Whether t must not wait any more; unlike a checkpoint it tells nobody. */
bool np_task_is_cancelled(const struct np_task *t);
/* NP_E_CANCELLED when t must not wait any more (see np_task_cancel), else
 * NP_OK. Every wait begins with it; bind.h's np_wait_begin does. */
int np_task_checkpoint(struct np_task *t);

static inline bool np_task_ended(const struct np_task *t) {
  return t->state >= NP_TASK_DONE;
}

#endif
