/* SPDX-License-Identifier: MIT
 * neap.event: a flag to wait for. */
#include "bind/bind.h"

#include "flow/event.h"

static const char class[] = "neap.event";

static struct np_event *check_event(lua_State *L) {
  return np_check_self(L, class);
}

/* core.event() -> event, not set */
static int l_event(lua_State *L) {
  np_event_init(np_bind_new(L, class, sizeof(struct np_event)));
  return 1;
}

static int l_gc(lua_State *L) {
  np_event_fini(check_event(L));
  return 0;
}

static int push_set(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status != NP_OK) return np_fail_wait(L, status, "event");
  lua_pushboolean(L, 1);
  return 1;
}

static int l_wait(lua_State *L) {
  struct np_event *e = check_event(L);
  uint64_t timeout_ns = np_opt_timeout(L, 2);
  struct np_task *t = np_wait_begin(L);
  return np_wait_end(L, t, np_event_wait(e, t, timeout_ns), push_set);
}

static int l_set(lua_State *L) {
  np_event_set(check_event(L));
  return 0;
}

static int l_clear(lua_State *L) {
  np_event_clear(check_event(L));
  return 0;
}

static int l_is_set(lua_State *L) {
  lua_pushboolean(L, check_event(L)->set);
  return 1;
}

static int l_waiting(lua_State *L) {
  lua_pushnumber(L, check_event(L)->waiters.count);
  return 1;
}

static const luaL_Reg functions[] = {{"event", l_event}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"set", l_set},
                                   {"clear", l_clear},
                                   {"is_set", l_is_set},
                                   {"waiting", l_waiting},
                                   {NULL, NULL}};
static const luaL_Reg waits[] = {{"wait", l_wait}, {NULL, NULL}};

void np_open_event(lua_State *L, struct np_rt *rt) {
  np_bind_class(L, rt, class, methods, waits, l_gc);
  np_bind_funcs(L, rt, functions);
}
