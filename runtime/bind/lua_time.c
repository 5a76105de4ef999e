/* SPDX-License-Identifier: MIT
 * Time: now, wall time, sleep, and the clock's mode. */
#include "bind/bind.h"

static int l_now(lua_State *L) {
  lua_pushnumber(L, (double)np_loop_now(np_bind_rt(L)->loop) / 1e9);
  return 1;
}

static int l_time(lua_State *L) {
  lua_pushnumber(L, (double)np_clock_wall(&np_bind_rt(L)->clock) / 1e9);
  return 1;
}

/* core.cpu_time() -> seconds of the processor that this process has used */
static int l_cpu_time(lua_State *L) {
  lua_pushnumber(L, (double)np_clock_cpu() / 1e9);
  return 1;
}

/* core.machine_time() -> seconds of the machine's clock, whatever the mode: for
 * measuring the cost of code, never for waiting. */
static int l_machine_time(lua_State *L) {
  lua_pushnumber(L, (double)np_clock_machine() / 1e9);
  return 1;
}

static const struct np_wait_ops wait_sleep = {.what = "sleep"};

static int push_nothing(lua_State *L, struct np_task *t, int status) {
  (void)L;
  (void)t;
  (void)status; /* the deadline is what it waited for */
  return 0;
}

/* core.sleep(seconds): 0 lets every other ready task run first. */
static int l_sleep(lua_State *L) {
  double s = np_check_any_number(L, 1);
  if (!(s >= 0)) return np_arg_error(L, 1, "must be 0 or more seconds");
  struct np_task *t = np_wait_begin(L);
  uint64_t delay_ns = np_ns_of_seconds(s);
  np_token token =
      np_task_park(t, &wait_sleep, NULL,
                   delay_ns ? np_deadline(np_loop_now(t->sched->loop), delay_ns)
                            : NP_FOREVER);
  if (delay_ns == 0) (void)np_task_wake(t, token, NP_OK); /* just parked */
  return np_wait_end(L, t, NP_PARKED, push_nothing);
}

static int l_clock_virtual(lua_State *L) {
  struct np_rt *rt = np_bind_rt(L);
  double wall_s = luaL_optnumber(L, 2, 0);
  np_clock_set_virtual(&rt->clock, lua_toboolean(L, 1),
                       np_ns_of_seconds(wall_s));
  return 0;
}

static int l_is_virtual(lua_State *L) {
  lua_pushboolean(L, np_bind_rt(L)->clock.is_virtual);
  return 1;
}

static const luaL_Reg functions[] = {{"now", l_now},
                                     {"time", l_time},
                                     {"machine_time", l_machine_time},
                                     {"cpu_time", l_cpu_time},
                                     {"clock_virtual", l_clock_virtual},
                                     {"is_virtual", l_is_virtual},
                                     {NULL, NULL}};
static const luaL_Reg waits[] = {{"sleep", l_sleep}, {NULL, NULL}};

void np_open_time(lua_State *L, struct np_rt *rt) {
  np_bind_funcs(L, rt, functions);
  np_bind_waits(L, rt, waits);
}
