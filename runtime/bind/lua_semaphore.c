/* SPDX-License-Identifier: MIT
 * neap.semaphore: permits. */
#include "bind/bind.h"

#include "flow/semaphore.h"

static const char class[] = "neap.semaphore";

static struct np_semaphore *check_semaphore(lua_State *L) {
  return np_check_self(L, class);
}

static uint32_t opt_permits(lua_State *L, int idx) {
  return lua_isnoneornil(L, idx) ? 1 : np_check_count(L, idx, 1);
}

/* core.semaphore(limit, max_waiting?) -> semaphore */
static int l_semaphore(lua_State *L) {
  uint32_t limit = np_check_count(L, 1, 0), max_waiting = 0;
  if (!lua_isnoneornil(L, 2)) max_waiting = np_check_count(L, 2, 1);
  np_semaphore_init(np_bind_new(L, class, sizeof(struct np_semaphore)), limit,
                    max_waiting);
  return 1;
}

static int l_gc(lua_State *L) {
  np_semaphore_fini(check_semaphore(L));
  return 0;
}

static int push_acquired(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status != NP_OK) return np_fail_wait(L, status, "semaphore");
  lua_pushboolean(L, 1);
  return 1;
}

/* semaphore:acquire(n?, timeout?, front?) */
static int l_acquire(lua_State *L) {
  struct np_semaphore *s = check_semaphore(L);
  uint32_t n = opt_permits(L, 2);
  uint64_t timeout_ns = np_opt_timeout(L, 3);
  bool front = lua_toboolean(L, 4);
  struct np_task *t = np_wait_begin(L);
  return np_wait_end(L, t, np_semaphore_acquire(s, t, n, timeout_ns, front),
                     push_acquired);
}

static int l_release(lua_State *L) {
  struct np_semaphore *s = check_semaphore(L);
  uint32_t n = opt_permits(L, 2);
  if (np_semaphore_release(s, n) == NP_OK) return 0;
  return np_misuse(
      L, "semaphore:release: release of %f permits, but only %f are held",
      (double)n, (double)s->held);
}

static int l_set_limit(lua_State *L) {
  np_semaphore_set_limit(check_semaphore(L), np_check_count(L, 2, 0));
  return 0;
}

static int l_limit(lua_State *L) {
  lua_pushnumber(L, check_semaphore(L)->limit);
  return 1;
}

static int l_held(lua_State *L) {
  lua_pushnumber(L, check_semaphore(L)->held);
  return 1;
}

static int l_available(lua_State *L) {
  lua_pushnumber(L, np_semaphore_available(check_semaphore(L)));
  return 1;
}

static int l_waiting(lua_State *L) {
  lua_pushnumber(L, check_semaphore(L)->waiters.count);
  return 1;
}

static const luaL_Reg functions[] = {{"semaphore", l_semaphore}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"release", l_release},
                                   {"set_limit", l_set_limit},
                                   {"limit", l_limit},
                                   {"held", l_held},
                                   {"available", l_available},
                                   {"waiting", l_waiting},
                                   {NULL, NULL}};
static const luaL_Reg waits[] = {{"acquire", l_acquire}, {NULL, NULL}};

void np_open_semaphore(lua_State *L, struct np_rt *rt) {
  np_bind_class(L, rt, class, methods, waits, l_gc);
  np_bind_funcs(L, rt, functions);
  luaL_getmetatable(L, class);
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, "semaphore_methods");
  lua_pop(L, 1);
}
