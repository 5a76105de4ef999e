/* SPDX-License-Identifier: MIT
 * Tasks: spawn, await, cancel, names. */
#include "bind/bind.h"

#include "core/site.h"

static const char task_class[] = "neap.task";

static struct np_task *check_task(lua_State *L, int idx) {
  return luaL_checkudata(L, idx, task_class);
}

/* core.spawn(fn, ...) -> task: joins the running task's innermost scope, the
 * root scope outside tasks. */
static int l_spawn(lua_State *L) {
  struct np_sched *s = &np_bind_rt(L)->sched;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  struct np_scope *scope = s->running ? s->running->scope : s->root;
  (void)np_task_spawn(s, L, scope, lua_gettop(L) - 1);
  return 1;
}

/* core.spawn_background(fn, ...) -> task: one that its scope does not wait for
 * but cancels once nothing else is left. */
static int l_spawn_background(lua_State *L) {
  struct np_sched *s = &np_bind_rt(L)->sched;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  struct np_scope *scope = s->running ? s->running->scope : s->root;
  np_scope_set_background(np_task_spawn(s, L, scope, lua_gettop(L) - 1));
  return 1;
}

/* core.spawn_detached(fn, ...) -> task: a background task of the root, for work
 * that tasks of several scopes wait for. Whoever starts it cancels it when
 * nobody waits any more. */
static int l_spawn_detached(lua_State *L) {
  struct np_sched *s = &np_bind_rt(L)->sched;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  np_scope_set_background(np_task_spawn(s, L, s->root, lua_gettop(L) - 1));
  return 1;
}

static int push_results(lua_State *L, struct np_task *t, int status) {
  struct np_task *awaited = check_task(L, 1);
  (void)t;
  if (status != NP_OK) return np_fail_wait(L, status, "task");
  if (!awaited->has_results) return 0;
  lua_getfenv(L, 1);
  int results = lua_gettop(L);
  lua_getfield(L, results, "n");
  int count = (int)lua_tointeger(L, -1);
  luaL_checkstack(L, count, "too many results");
  for (int i = 1; i <= count; i++) lua_rawgeti(L, results, i);
  return count;
}

static void leave_awaiters(struct np_task *t) {
  np_list_remove(&t->link);
}

static const struct np_wait_ops wait_task = {.what = "a task",
                                             .undo = leave_awaiters};

static int l_await(lua_State *L) {
  struct np_task *awaited = check_task(L, 1);
  struct np_task *t = np_wait_begin(L);
  int rc = NP_OK;
  if (awaited == t) return luaL_error(L, "a task cannot await itself");
  if (!np_task_ended(awaited)) {
    (void)np_task_park(t, &wait_task, awaited, NP_FOREVER);
    np_list_push_tail(&awaited->awaiters, &t->link);
    rc = NP_PARKED;
  }
  return np_wait_end(L, t, rc, push_results);
}

static int l_cancel(lua_State *L) {
  np_task_cancel(check_task(L, 1));
  return 0;
}

static int l_status(lua_State *L) {
  static const char *const names[] = {"ready", "running", "waiting",
                                      "done",  "failed",  "cancelled"};
  lua_pushstring(L, names[check_task(L, 1)->state]);
  return 1;
}

static int l_set_name(lua_State *L) {
  (void)check_task(L, 1);
  (void)luaL_checkstring(L, 2);
  lua_getfield(L, LUA_REGISTRYINDEX, "neap.task_names");
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_rawset(L, -3);
  lua_settop(L, 1);
  return 1;
}

static void name_of_function(lua_State *L, struct np_task *t) {
  lua_Debug ar, deepest;
  int level = 0;
  if (lua_status(t->co) == 0 && lua_isfunction(t->co, 1)) {
    lua_pushvalue(t->co, 1); /* not started: the function lies there */
    lua_getinfo(t->co, ">S", &deepest);
  } else {
    while (lua_getstack(t->co, level, &ar)) {
      deepest = ar;
      level++;
    }
    if (level == 0 || !lua_getinfo(t->co, "S", &deepest)) {
      lua_pushliteral(L, "task");
      return;
    }
  }
  if (deepest.linedefined > 0)
    lua_pushfstring(L, "%s:%d", deepest.short_src, deepest.linedefined);
  else
    lua_pushfstring(L, "%s (main chunk)", deepest.short_src);
}

void np_push_task_name(lua_State *L, struct np_task *t) {
  lua_getfield(L, LUA_REGISTRYINDEX, "neap.task_names");
  np_task_push(t, L);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 2);
    lua_pushliteral(L, "ended task");
    return;
  }
  lua_rawget(L, -2);
  lua_remove(L, -2);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  name_of_function(L, t);
}

static int l_name(lua_State *L) {
  np_push_task_name(L, check_task(L, 1));
  return 1;
}

/* task:sites() -> array of "file:line": where it was spawned, then where its
 * spawner was, and so on. */
static int l_sites(lua_State *L) {
  struct np_task *t = check_task(L, 1);
  const struct np_site *site = np_sites_get(t->sched->sites, t->site);
  lua_newtable(L);
  for (int i = 1; site; i++) {
    lua_pushfstring(L, "%s:%d", site->file, site->line);
    lua_rawseti(L, -2, i);
    site = np_sites_get(t->sched->sites, site->parent);
  }
  return 1;
}

static int l_tostring(lua_State *L) {
  np_push_task_name(L, check_task(L, 1));
  lua_pushfstring(L, "task %s", lua_tostring(L, -1));
  return 1;
}

static int l_current(lua_State *L) {
  struct np_task *t = np_bind_rt(L)->sched.running;
  if (!t) return 0;
  np_task_push(t, L);
  return 1;
}

static void set_count(lua_State *L, const char *key, uint64_t value) {
  lua_pushnumber(L, (lua_Number)value);
  lua_setfield(L, -2, key);
}

static int l_stats(lua_State *L) {
  struct np_rt *rt = np_bind_rt(L);
  lua_createtable(L, 0, 8);
  set_count(L, "tasks", rt->sched.alive_count);
  set_count(L, "ready", rt->sched.ready_count);
  set_count(L, "waiting", rt->sched.waiting_count);
  set_count(L, "spawned", rt->sched.spawned_count);
  set_count(L, "switches", rt->sched.switch_count);
  set_count(L, "timers", rt->loop->timers.heap.count);
  set_count(L, "holds", rt->loop->holds);
  return 1;
}

/* core.on_failure(function(task, err, traceback) -> err) */
static int l_on_failure(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  np_sched_on_failure(&np_bind_rt(L)->sched, L);
  return 0;
}

static int l_hog_threshold(lua_State *L) {
  double s = luaL_checknumber(L, 1);
  if (!(s > 0)) return luaL_argerror(L, 1, "must be above 0 seconds");
  np_bind_rt(L)->sched.hog_ns = np_ns_of_seconds(s);
  return 0;
}

static const luaL_Reg functions[] = {{"spawn", l_spawn},
                                     {"spawn_background", l_spawn_background},
                                     {"spawn_detached", l_spawn_detached},
                                     {"current", l_current},
                                     {"stats", l_stats},
                                     {"on_failure", l_on_failure},
                                     {"hog_threshold", l_hog_threshold},
                                     {NULL, NULL}};
static const luaL_Reg methods[] = {
    {"cancel", l_cancel}, {"status", l_status}, {"set_name", l_set_name},
    {"name", l_name},     {"sites", l_sites},   {NULL, NULL}};
static const luaL_Reg waits[] = {{"await", l_await}, {NULL, NULL}};

void np_open_task(lua_State *L, struct np_rt *rt) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_setfield(L, LUA_REGISTRYINDEX, "neap.task_names");
  np_bind_funcs(L, rt, functions);
  np_bind_class(L, rt, task_class, methods, waits, NULL);
  luaL_getmetatable(L, task_class);
  lua_pushlightuserdata(L, rt);
  lua_pushcclosure(L, l_tostring, 1);
  lua_setfield(L, -2, "__tostring");
  rt->sched.task_class = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushlightuserdata(L, (void *)np_task_waits);
  lua_setfield(L, -2, "WAITS");
}
