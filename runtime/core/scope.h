/* SPDX-License-Identifier: MIT
 * Scopes: a task enters one, its children belong to it, and it is left only
 * when they all have ended. Cancelling a scope interrupts its children and
 * whatever its owner waits for inside it; a shield keeps an outer cancel out.
 * A deadline is a cancel at a time. Embedded in Lua userdata
 * (bind/lua_scope.c). Loop thread only. */
#ifndef NP_SCOPE_H
#define NP_SCOPE_H

#include "core/task.h"

struct np_scope {
  struct np_scope *parent; /* NULL for the root */
  struct np_task *owner;   /* the task inside it; NULL for the root */
  struct np_list children; /* np_task.sibling */
  uint32_t child_count, background_count;
  struct np_timer deadline;
  struct np_post pass_cancel; /* to the children, in a turn of its own */
  struct np_sched *sched;
  struct np_task *waiter; /* owner while it waits for its children */
  int failures;           /* registry reference: list of children's errors */
  uint32_t failure_count;
  bool entered;
  bool cancelled; /* no wait inside may succeed any more */
  bool expired;   /* cancelled by its own deadline */
  bool delivered; /* a wait inside has raised because of it */
  bool cut;       /* its owner was cancelled while it waited for the children */
  bool shield;    /* outer cancels stop here */
  bool collect;   /* a child's error does not cancel the others */
};

/* Sets s up, not entered: safe to fini at once. */
void np_scope_init(struct np_scope *s, struct np_sched *sched);
/* Makes s the innermost scope of t. deadline_ns: NP_FOREVER for none. */
int np_scope_enter(struct np_scope *s, struct np_task *t, uint64_t deadline_ns);
/* Cancels s: its children, and its owner's wait unless shielded further in. */
void np_scope_cancel(struct np_scope *s);
/* Waits until no child is left. Not interrupted by cancels: the children are.
 * Returns NP_OK at once or NP_PARKED. */
int np_scope_wait_children(struct np_scope *s, struct np_task *t);
/* Whether a cancel from outside s (or of t itself) is pending for t. */
bool np_scope_cancelled_outside(const struct np_scope *s,
                                const struct np_task *t);
/* Leaves s, which must be t's innermost scope and have no children. */
void np_scope_leave(struct np_scope *s);

/* Makes a task that has just been spawned a background task: once its scope has
 * nothing else left, it is cancelled. */
void np_scope_set_background(struct np_task *child);
/* For task.c: the owner ends without leaving s (its coroutine was killed). The
 * children are cancelled and go to heir. */
void np_scope_abandon(struct np_scope *s, struct np_scope *heir);
/* For task.c: bookkeeping of children. */
void np_scope_add(struct np_scope *s, struct np_task *child);
void np_scope_remove(struct np_scope *s, struct np_task *child);

#endif
