/* SPDX-License-Identifier: MIT
 * Scopes, as lua/neap/scope.lua drives them: enter, run the body, wait for the
 * children, leave. */
#include "bind/bind.h"

static const char scope_class[] = "neap.scope";

static struct np_scope *check_scope(lua_State *L, int idx) {
  return luaL_checkudata(L, idx, scope_class);
}

/* core.scope_enter(timeout, shield, collect) -> scope. timeout in seconds or
 * nil. Does not wait; raises kind "cancelled" like a wait does, unless shield:
 * nothing new begins in a cancelled task. */
static int l_enter(lua_State *L) {
  struct np_rt *rt = np_bind_rt(L);
  struct np_task *t = rt->sched.running;
  uint64_t timeout_ns = np_opt_timeout(L, 1), deadline_ns = NP_FOREVER;
  if (!t) return luaL_error(L, "a scope needs a task: none is running here");
  struct np_scope *s = np_bind_new(L, scope_class, sizeof *s);
  np_scope_init(s, &rt->sched);
  s->shield = lua_toboolean(L, 2);
  s->collect = lua_toboolean(L, 3);
  if (!s->shield && np_task_checkpoint(t) != NP_OK)
    return np_raise_cancelled(L);
  if (timeout_ns != NP_FOREVER)
    deadline_ns = np_deadline(np_loop_now(rt->loop), timeout_ns);
  if (np_scope_enter(s, t, deadline_ns) < 0)
    return luaL_error(L, "not enough memory for a scope");
  return 1;
}

static int l_spawn(lua_State *L) {
  struct np_scope *s = check_scope(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  if (!s->entered) return luaL_error(L, "the scope has been left");
  (void)np_task_spawn(s->sched, L, s, lua_gettop(L) - 2);
  return 1;
}

static int l_cancel(lua_State *L) {
  struct np_scope *s = check_scope(L, 1);
  if (s->entered) np_scope_cancel(s);
  return 0;
}

static int push_nothing(lua_State *L, struct np_task *t, int status) {
  (void)L;
  (void)t;
  (void)status;
  return 0;
}

/* scope:wait(): until the children have ended. Unlike every other wait it also
 * works in a cancelled task, which passes the cancel on to the children. */
static int l_wait(lua_State *L) {
  struct np_scope *s = check_scope(L, 1);
  struct np_task *t = np_bind_rt(L)->sched.running;
  if (!t || s->owner != t)
    return luaL_error(L, "only the task inside a scope can wait for it");
  return np_wait_end(L, t, np_scope_wait_children(s, t), push_nothing);
}

/* scope:leave() -> reason, failures, cancelled_outside, cut: reason is
 * "expired" or "cancelled" when a wait inside has raised because of this scope,
 * else nil; failures is the list of the children's errors, or nil; cut is nil
 * unless the children were cancelled while their scope waited for them, else
 * "expired" (by its deadline) or "cancelled". */
static int l_leave(lua_State *L) {
  struct np_scope *s = check_scope(L, 1);
  struct np_task *t = s->owner;
  if (!s->entered || t->scope != s || s->child_count > 0)
    return luaL_error(L, "not the innermost scope, or it still has tasks");
  np_scope_leave(s);
  if (s->delivered)
    lua_pushstring(L, s->expired ? "expired" : "cancelled");
  else
    lua_pushnil(L);
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->failures); /* nil for no reference */
  luaL_unref(L, LUA_REGISTRYINDEX, s->failures);
  s->failures = LUA_NOREF;
  /* scope.lua passes an outer cancel on only if this scope was disturbed: then
   * the outer one is told. */
  bool disturbed = s->cut || s->delivered;
  lua_pushboolean(L, disturbed ? np_task_checkpoint(t) != NP_OK
                               : np_task_is_cancelled(t));
  if (!s->cut) return 3;
  lua_pushstring(L, s->expired ? "expired" : "cancelled");
  return 4;
}

static int l_failed(lua_State *L) {
  lua_pushboolean(L, check_scope(L, 1)->failure_count > 0);
  return 1;
}

/* scope:tasks() -> array of the children that have not ended. */
static int l_tasks(lua_State *L) {
  struct np_scope *s = check_scope(L, 1);
  int i = 0;
  lua_createtable(L, (int)s->child_count, 0);
  for (struct np_list *n = s->children.next; n != &s->children; n = n->next) {
    np_task_push(np_container_of(n, struct np_task, sibling), L);
    lua_rawseti(L, -2, ++i);
  }
  return 1;
}

/* scope:take_failures() -> the errors of children that failed so far, or nil:
 * the scope forgets them. */
static int l_take_failures(lua_State *L) {
  struct np_scope *s = check_scope(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->failures); /* nil for no reference */
  luaL_unref(L, LUA_REGISTRYINDEX, s->failures);
  s->failures = LUA_NOREF;
  s->failure_count = 0;
  return 1;
}

static int l_gc(lua_State *L) {
  struct np_scope *s = lua_touserdata(L, 1);
  /* Only when the runtime closes: a task never ends inside a scope of its own
   * (see np_scope_abandon). */
  if (s->sched && s->sched->loop)
    np_timer_stop(&s->sched->loop->timers, &s->deadline);
  return 0;
}

static const luaL_Reg functions[] = {{"scope_enter", l_enter}, {NULL, NULL}};
static const luaL_Reg methods[] = {
    {"spawn", l_spawn}, {"cancel", l_cancel},
    {"leave", l_leave}, {"failed", l_failed},
    {"tasks", l_tasks}, {"take_failures", l_take_failures},
    {NULL, NULL}};
static const luaL_Reg waits[] = {{"wait", l_wait}, {NULL, NULL}};

void np_open_scope(lua_State *L, struct np_rt *rt) {
  np_bind_funcs(L, rt, functions);
  np_bind_class(L, rt, scope_class, methods, waits, l_gc);
}
