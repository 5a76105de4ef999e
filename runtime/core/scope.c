/* SPDX-License-Identifier: MIT */
#include "core/scope.h"

/* Written as LUA_NOREF in Lua's headers, which this file does not see. */
enum { NO_REFERENCE = -2 };

static void cancel_children(struct np_scope *s) {
  for (struct np_list *n = s->children.next; n != &s->children; n = n->next)
    np_task_cancel(np_container_of(n, struct np_task, sibling));
}

static void on_deadline(struct np_timer *timer) {
  struct np_scope *s = np_container_of(timer, struct np_scope, deadline);
  s->expired = true;
  np_scope_cancel(s);
}

static void run_pass_cancel(struct np_post *p) {
  cancel_children(np_container_of(p, struct np_scope, pass_cancel));
}

void np_scope_init(struct np_scope *s, struct np_sched *sched) {
  *s = (struct np_scope){.sched = sched, .failures = NO_REFERENCE};
  np_list_init(&s->children);
  np_timer_init(&s->deadline, on_deadline);
  np_list_init(&s->pass_cancel.link);
  s->pass_cancel.run = run_pass_cancel;
}

int np_scope_enter(struct np_scope *s, struct np_task *t,
                   uint64_t deadline_ns) {
  int rc = np_timer_start(&s->sched->loop->timers, &s->deadline, deadline_ns);
  if (rc < 0) return rc;
  s->owner = t;
  s->parent = t->scope;
  s->entered = true;
  t->scope = s;
  return NP_OK;
}

void np_scope_leave(struct np_scope *s) {
  np_timer_stop(&s->sched->loop->timers, &s->deadline);
  np_list_remove(&s->pass_cancel.link);
  if (s->owner) s->owner->scope = s->parent;
  s->entered = false;
  s->owner = NULL;
}

/* The owner's wait ends unless a scope further in shields it from s. */
static bool owner_exposed(const struct np_scope *s) {
  for (const struct np_scope *i = s->owner->scope; i != s; i = i->parent)
    if (i->shield) return false;
  return true;
}

void np_scope_cancel(struct np_scope *s) {
  s->cancelled = true;
  cancel_children(s);
  if (s->owner && owner_exposed(s)) np_task_interrupt(s->owner, NP_E_CANCELLED);
}

bool np_scope_cancelled_outside(const struct np_scope *s,
                                const struct np_task *t) {
  for (const struct np_scope *i = s; i->owner == t; i = i->parent) {
    if (i->shield) return false;
    if (i->parent->owner == t && i->parent->cancelled) return true;
  }
  return t->cancelled;
}

void np_scope_abandon(struct np_scope *s, struct np_scope *heir) {
  struct np_list *n;
  s->waiter = NULL;
  cancel_children(s);
  while ((n = np_list_pop(&s->children)) != NULL) {
    struct np_task *child = np_container_of(n, struct np_task, sibling);
    child->home = heir;
    for (struct np_scope *i = child->scope; i; i = i->parent)
      if (i->parent == s) i->parent = heir;
    if (child->scope == s) child->scope = heir;
    np_scope_add(heir, child);
  }
  s->child_count = s->background_count = 0;
  np_scope_leave(s);
}

void np_scope_add(struct np_scope *s, struct np_task *child) {
  np_list_push_tail(&s->children, &child->sibling);
  s->child_count++;
  s->background_count += child->background;
}

void np_scope_set_background(struct np_task *child) {
  child->background = true;
  child->home->background_count++;
}

void np_scope_remove(struct np_scope *s, struct np_task *child) {
  np_list_remove(&child->sibling);
  s->child_count--;
  s->background_count -= child->background;
  bool ending = s->waiter || !s->owner; /* the root ends with its tasks */
  if (!ending || s->child_count > s->background_count) return;
  cancel_children(s);
  if (s->child_count == 0 && s->waiter) {
    struct np_task *t = s->waiter;
    s->waiter = NULL;
    (void)np_task_wake(t, t->token, NP_OK); /* it waits here: current */
  }
}

/* Not at once: scopes within tasks within scopes would recurse as deep as they
 * are nested. */
static void pass_cancel_on(struct np_task *t) {
  struct np_scope *s = t->wait_ud;
  s->cut = true;
  np_list_remove(&s->pass_cancel.link);
  np_loop_post(s->sched->loop, &s->pass_cancel);
}

static const struct np_wait_ops wait_children = {
    .what = "the tasks of its scope", .cancel = pass_cancel_on};

int np_scope_wait_children(struct np_scope *s, struct np_task *t) {
  if (s->child_count == 0) return NP_OK;
  s->waiter = t;
  (void)np_task_park(t, &wait_children, s, NP_FOREVER);
  if (np_task_is_cancelled(t)) {
    s->cut = true;
    cancel_children(s);
  } else if (s->child_count == s->background_count) {
    cancel_children(s);
  }
  return NP_PARKED;
}
