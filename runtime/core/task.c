/* SPDX-License-Identifier: MIT */
#include "core/task.h"

#include "core/scope.h"
#include "core/site.h"
#include "core/task_trace.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

const char np_task_waits[] = "neap waits", np_task_woken[] = "neap woken";

/* -- Waiting and waking --------------------------------------------------- */

static void make_ready(struct np_task *t) {
  struct np_sched *s = t->sched;
  t->state = NP_TASK_READY;
  s->ready_count++;
  np_list_push_tail(&s->ready, &t->link);
  np_source_raise(&s->loop->ready);
}

static void on_deadline(struct np_timer *timer) {
  np_task_interrupt(np_container_of(timer, struct np_task, timer),
                    NP_E_TIMEOUT);
}

/* A wait that was registered but whose yield failed (a user's coroutine inside
 * table.sort, say) is still there: take it back. */
static void drop_wait(struct np_task *t) {
  const struct np_wait_ops *ops = t->wait;
  if (!ops) return;
  t->wait = NULL;
  t->token++;
  t->sched->waiting_count--;
  np_timer_stop(&t->sched->loop->timers, &t->timer);
  if (ops->undo) ops->undo(t);
}

np_token np_task_park(struct np_task *t, const struct np_wait_ops *ops,
                      void *wait_ud, uint64_t deadline_ns) {
  drop_wait(t);
  t->wait = ops;
  t->wait_ud = wait_ud;
  t->sched->waiting_count++;
  if (deadline_ns != NP_FOREVER &&
      np_timer_start(&t->sched->loop->timers, &t->timer, deadline_ns) < 0)
    np_logf(t->sched->log, NP_LOG_ERROR, "no memory for a timer: %s waits on",
            ops->what);
  return ++t->token;
}

bool np_task_wake(struct np_task *t, np_token token, int status) {
  if (!t->wait || t->token != token) return false;
  np_trace_task_wake(t, t->wait->what, status);
  np_timer_stop(&t->sched->loop->timers, &t->timer);
  t->sched->waiting_count--;
  t->wait = NULL;
  t->status = status;
  /* Still running: it parked and was woken before it could yield. */
  if (t->state == NP_TASK_WAITING) make_ready(t);
  return true;
}

void np_task_interrupt(struct np_task *t, int status) {
  const struct np_wait_ops *ops = t->wait;
  if (!ops) return;
  if (ops->cancel && status == NP_E_CANCELLED) {
    ops->cancel(t);
    return;
  }
  if (ops->undo) ops->undo(t);
  (void)np_task_wake(t, t->token, status);
}

void np_task_raise(struct np_task *t, const char *message) {
  free(t->sched->raise_message);
  t->sched->raise_message = strdup(message);
  np_task_interrupt(t, NP_RAISE);
}

/* -- Cancelling ------------------------------------------------------------ */

/* Whether a shield stands between t's waits and t itself. */
static bool shielded(const struct np_task *t) {
  for (const struct np_scope *s = t->scope; s->owner == t; s = s->parent)
    if (s->shield) return true;
  return false;
}

void np_task_cancel(struct np_task *t) {
  if (np_task_ended(t) || t->cancelled) return;
  t->cancelled = true;
  np_trace_task(t, "cancel");
  if (!shielded(t)) np_task_interrupt(t, NP_E_CANCELLED);
}

/* The scope whose cancel reaches t's waits; home for a cancel of t itself. */
static struct np_scope *cancelling_scope(const struct np_task *t) {
  struct np_scope *s = t->scope;
  for (; s->owner == t; s = s->parent) {
    if (s->cancelled) return s;
    if (s->shield) return NULL;
  }
  return t->cancelled ? s : NULL;
}

bool np_task_is_cancelled(const struct np_task *t) {
  return cancelling_scope(t) != NULL;
}

int np_task_checkpoint(struct np_task *t) {
  struct np_scope *s = cancelling_scope(t);
  if (!s) return NP_OK;
  if (s->owner == t) s->delivered = true;
  return NP_E_CANCELLED;
}

/* -- Birth ------------------------------------------------------------------
 */

/* Where the code that spawns stands: the first frame that is not neap's own. */
static uint32_t spawn_site(struct np_sched *s, lua_State *L) {
  lua_Debug ar;
  uint32_t parent = s->running ? s->running->site : 0;
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    if (!lua_getinfo(L, "Sl", &ar) || ar.currentline < 0) continue;
    if (strncmp(ar.source, "@neap/", 6) == 0) continue;
    return np_sites_intern(s->sites, ar.short_src, ar.currentline, parent);
  }
  return parent;
}

static void task_init(struct np_task *t, struct np_scope *scope) {
  t->home = t->scope = scope;
  np_list_init(&t->link);
  np_list_init(&t->awaiters);
  np_timer_init(&t->timer, on_deadline);
  t->cancelled =
      scope->cancelled ||
      (scope->owner && np_scope_cancelled_outside(scope, scope->owner));
  np_scope_add(scope, t);
}

/* Room to give one more anchor back, so that giving back cannot fail. */
static void reserve_free_anchor(struct np_sched *s, lua_State *L) {
  if (s->alive_count + s->free_count < s->free_capacity) return;
  uint32_t capacity = s->free_capacity ? s->free_capacity * 2 : 64;
  uint32_t *grown = realloc(s->free_anchors, capacity * sizeof *grown);
  if (!grown) (void)luaL_error(L, "not enough memory for another task");
  s->free_anchors = grown;
  s->free_capacity = capacity;
}

/* Anchors the coroutine and the userdata at the top of L; pops the former. */
static void anchor(struct np_task *t, lua_State *L) {
  struct np_sched *s = t->sched;
  uint32_t index = s->next_anchor;
  if (s->free_count > 0)
    index = s->free_anchors[--s->free_count];
  else
    s->next_anchor += 2;
  t->anchor = index;
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->anchors);
  lua_insert(L, -2);
  lua_rawseti(L, -2, (int)index);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, (int)index + 1);
  lua_pop(L, 1);
}

static void release_anchor(struct np_task *t) {
  struct np_sched *s = t->sched;
  lua_rawgeti(s->L, LUA_REGISTRYINDEX, s->anchors);
  lua_pushnil(s->L);
  lua_rawseti(s->L, -2, (int)t->anchor);
  lua_pushnil(s->L);
  lua_rawseti(s->L, -2, (int)t->anchor + 1);
  lua_pop(s->L, 1);
  s->free_anchors[s->free_count++] = t->anchor;
}

struct np_task *np_task_spawn(struct np_sched *s, lua_State *L,
                              struct np_scope *scope, int nargs) {
  uint32_t site = spawn_site(s, L);
  reserve_free_anchor(s, L);
  struct np_task *t = lua_newuserdata(L, sizeof *t);
  memset(t, 0, sizeof *t);
  t->state = NP_TASK_DONE; /* until all else is there */
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->task_class);
  lua_setmetatable(L, -2);
  lua_insert(L, -(nargs + 2)); /* userdata, function, arguments */
  lua_State *co = lua_newthread(L);
  lua_insert(L, -(nargs + 2)); /* userdata, thread, function, arguments */
  lua_xmove(L, co, nargs + 1);
  t->sched = s;
  anchor(t, L);
  task_init(t, scope);
  t->co = co;
  t->site = site;
  s->alive_count++;
  t->number = (uint32_t)++s->spawned_count;
  np_trace_task_spawn(t);
  make_ready(t);
  return t;
}

void np_task_push(struct np_task *t, lua_State *L) {
  if (np_task_ended(t)) {
    lua_pushnil(L);
    return;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->sched->anchors);
  lua_rawgeti(L, -1, (int)t->anchor + 1);
  lua_replace(L, -2);
}

/* -- Death ------------------------------------------------------------------
 */

/* Keeps the count values at the top of L as t's results: a table that is the
 * userdata's environment, so that a task without results costs nothing. */
static void keep_results(struct np_task *t, lua_State *L, int count) {
  t->has_results = true;
  lua_createtable(L, count, 1);
  lua_insert(L, -(count + 1));
  for (int i = count; i > 0; i--) lua_rawseti(L, -(i + 1), i);
  lua_pushinteger(L, count);
  lua_setfield(L, -2, "n");
  np_task_push(t, L);
  lua_insert(L, -2);
  (void)lua_setfenv(L, -2);
  lua_pop(L, 1);
}

static void wake_awaiters(struct np_task *t) {
  struct np_list *n;
  while ((n = np_list_pop(&t->awaiters)) != NULL) {
    struct np_task *waiter = np_container_of(n, struct np_task, link);
    (void)np_task_wake(waiter, waiter->token, NP_OK); /* waits here */
  }
}

/* Unlinks t from everything; its coroutine becomes garbage. */
static void bury(struct np_task *t, enum np_task_state state) {
  struct np_scope *home = t->home;
  np_trace_task_end(t, state);
  drop_wait(t);
  while (t->scope != home) np_scope_abandon(t->scope, home);
  t->state = (uint8_t)state;
  t->home = t->scope = NULL;
  t->co = NULL;
  t->sched->alive_count--;
  release_anchor(t);
  wake_awaiters(t);
  np_scope_remove(home, t);
}

/* Makes the error value at L's top an error table with co's traceback. */
static void dress_error(struct np_task *t, lua_State *L, lua_State *co) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->sched->on_failure);
  np_task_push(t, L);
  lua_pushvalue(L, -3);
  luaL_traceback(L, co, NULL, 0);
  if (lua_pcall(L, 3, 1, 0) == 0)
    lua_replace(L, -2);
  else
    lua_pop(L, 1); /* the hook itself failed: keep the error as it was */
}

static bool is_cancelled_error(lua_State *L) {
  if (lua_type(L, -1) != LUA_TTABLE) return false;
  lua_pushliteral(L, "kind");
  lua_rawget(L, -2);
  const char *kind = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  bool is = strcmp(kind, np_err_name(NP_E_CANCELLED)) == 0;
  lua_pop(L, 1);
  return is;
}

/* Hands the error at L's top to the scope: the first one cancels the others,
 * unless the scope collects. At the root nobody takes it: it is uncaught. */
static void fail_into_scope(struct np_task *t, lua_State *L) {
  struct np_scope *home = t->home;
  struct np_sched *s = t->sched;
  if (home == s->root) {
    if (s->uncaught) s->uncaught(s->uncaught_ud, L);
  } else {
    if (home->failures == LUA_NOREF) {
      lua_newtable(L);
      home->failures = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, home->failures);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (int)++home->failure_count);
    lua_pop(L, 1);
  }
  if (!home->collect) np_scope_cancel(home);
}

/* co ended with the error at its top. */
static void fail(struct np_task *t, lua_State *co) {
  lua_State *L = t->sched->L;
  lua_xmove(co, L, 1);
  bool cancelled = t->cancelled && is_cancelled_error(L);
  if (!cancelled) dress_error(t, L, co);
  lua_pushnil(L);
  lua_pushvalue(L, -2);
  keep_results(t, L, 2);
  if (!cancelled) fail_into_scope(t, L);
  lua_pop(L, 1);
  bury(t, cancelled ? NP_TASK_CANCELLED : NP_TASK_FAILED);
}

static void finish(struct np_task *t, lua_State *co) {
  int count = lua_gettop(co);
  if (count > 0) keep_results(t, co, count);
  bury(t, NP_TASK_DONE);
}

/* -- Running ----------------------------------------------------------------
 */

/* Called after the slice and before t is buried. */
static void report_hog(struct np_task *t, lua_State *co, uint64_t slice_ns) {
  const char *trace = "";
  const struct np_site *site = np_sites_get(t->sched->sites, t->site);
  bool suspended = lua_status(co) == LUA_YIELD;
  (void)lua_checkstack(co, 4);
  if (suspended) {
    luaL_traceback(co, co, NULL, 0);
    trace = lua_tostring(co, -1);
  }
  np_logf(t->sched->log, NP_LOG_WARN,
          "a task held the loop for %.0f ms before %s (spawned at %s:%d)%s%s",
          (double)slice_ns / 1e6, suspended ? "this wait" : "it ended",
          site ? site->file : "the start", site ? site->line : 0,
          suspended ? "\n" : "", trace);
  if (suspended) lua_pop(co, 1);
}

static void end_slice(struct np_sched *s, struct np_task *t, lua_State *co) {
  uint64_t now_ns = np_clock_machine(), slice_ns = now_ns - s->slice_start;
  s->slice_start = now_ns;
  if (slice_ns > s->hog_ns) report_hog(t, co, slice_ns);
}

static bool yielded_to_wait(lua_State *co) {
  return lua_gettop(co) >= 1 && lua_touserdata(co, -1) == np_task_waits;
}

static void run(struct np_sched *s, struct np_task *t) {
  lua_State *co = t->co;
  int nargs = 1;
  s->running = t;
  s->switch_count++;
  t->state = NP_TASK_RUNNING;
  np_trace_task(t, "run");
  if (lua_status(co) == LUA_YIELD)
    lua_pushlightuserdata(co, (void *)np_task_woken);
  else
    nargs = lua_gettop(co) - 1;
  int rc = lua_resume(co, nargs);
  s->running = NULL;
  end_slice(s, t, co);
  if (rc == LUA_YIELD && yielded_to_wait(co)) {
    lua_pop(co, 1);
    t->state = NP_TASK_WAITING;
    np_trace_task_wait(t);
    if (!t->wait) make_ready(t); /* woken before it could yield */
    return;
  }
  if (rc == 0) {
    finish(t, co);
    return;
  }
  if (rc == LUA_YIELD)
    lua_pushliteral(co, "coroutine.yield called outside a coroutine: a neap "
                        "task gives way with neap.sleep(0)");
  fail(t, co);
}

/* One pass over the tasks that are ready now; those that become ready meanwhile
 * wait for the next turn, so that timers and sockets get theirs. */
static void serve_ready(struct np_source *source, struct np_loop *l) {
  struct np_sched *s = source->ud;
  struct np_list batch, *n;
  np_list_take(&batch, &s->ready);
  s->slice_start = np_clock_machine();
  while ((n = np_list_pop(&batch)) != NULL) {
    s->ready_count--;
    run(s, np_container_of(n, struct np_task, link));
    if (l->budget_end != NP_FOREVER && s->slice_start >= l->budget_end) break;
  }
  while (!np_list_empty(&batch)) {
    n = batch.prev;
    np_list_remove(n);
    np_list_push_head(&s->ready, n);
  }
  if (!np_list_empty(&s->ready)) np_source_raise(&l->ready);
}

/* -- The scheduler -----------------------------------------------------------
 */

int np_sched_init(struct np_sched *s, struct np_loop *loop, struct np_log *log,
                  lua_State *L) {
  memset(s, 0, sizeof *s);
  s->loop = loop;
  s->log = log;
  s->L = L;
  s->task_class = s->on_failure = LUA_NOREF;
  s->next_anchor = 1;
  lua_newtable(L);
  s->anchors = luaL_ref(L, LUA_REGISTRYINDEX);
  np_list_init(&s->ready);
  s->root = malloc(sizeof *s->root);
  s->sites = np_sites_new();
  if (!s->root || !s->sites) {
    np_sched_fini(s);
    return NP_E_LIMIT;
  }
  np_scope_init(s->root, s);
  loop->ready.serve = serve_ready;
  loop->ready.ud = s;
  return NP_OK;
}

void np_sched_on_failure(struct np_sched *s, lua_State *L) {
  s->on_failure = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void adopt(struct np_list *all, struct np_scope *s) {
  struct np_list *n;
  while ((n = np_list_pop(&s->children)) != NULL) np_list_push_tail(all, n);
  s->child_count = s->background_count = 0;
  s->waiter = NULL;
}

void np_sched_stop(struct np_sched *s) {
  struct np_list all, *n;
  np_list_init(&all);
  adopt(&all, s->root);
  while ((n = np_list_pop(&all)) != NULL) {
    struct np_task *t = np_container_of(n, struct np_task, sibling);
    for (struct np_scope *i = t->scope; i->owner == t; i = i->parent) {
      adopt(&all, i);
      np_timer_stop(&s->loop->timers, &i->deadline);
      np_list_remove(&i->pass_cancel.link);
    }
    drop_wait(t);
    np_list_remove(&t->link);
    t->state = NP_TASK_CANCELLED;
    t->co = NULL;
    t->home = t->scope = NULL;
  }
}

static struct np_task *waiter_in(struct np_scope *scope) {
  for (struct np_list *n = scope->children.next; n != &scope->children;
       n = n->next) {
    struct np_task *t = np_container_of(n, struct np_task, sibling);
    for (struct np_scope *i = t->scope; i->owner == t; i = i->parent) {
      struct np_task *found = waiter_in(i);
      if (found) return found;
    }
    if (t->wait && !t->wait->cancel) return t;
  }
  return NULL;
}

struct np_task *np_sched_innermost_waiter(struct np_sched *s) {
  return waiter_in(s->root);
}

void np_sched_fini(struct np_sched *s) {
  np_sites_free(s->sites);
  free(s->free_anchors);
  free(s->root);
  free(s->raise_message);
  memset(s, 0, sizeof *s);
}
