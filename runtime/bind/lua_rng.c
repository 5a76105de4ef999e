/* SPDX-License-Identifier: MIT
 * Randomness: the runtime's own stream, and streams by seed and number. */
#include "bind/bind.h"

static const char rng_class[] = "neap.rng";

static int push_draw(lua_State *L, struct np_rng *r) {
  struct np_trace *trace = np_bind_rt(L)->loop->trace;
  if (trace) trace->draws++;
  lua_pushnumber(L, np_rng_double(r));
  return 1;
}

static int l_random(lua_State *L) {
  return push_draw(L, &np_bind_rt(L)->rng);
}

static int l_double(lua_State *L) {
  return push_draw(L, luaL_checkudata(L, 1, rng_class));
}

/* core.rng(seed, stream) -> object with :double() in [0, 1). */
static int l_rng(lua_State *L) {
  double seed = np_check_number(L, 1, 0, 9007199254740992.0);
  double stream = luaL_optnumber(L, 2, 0);
  struct np_rng *r = np_bind_new(L, rng_class, sizeof *r);
  np_rng_seed(r, (uint64_t)seed, (uint64_t)stream);
  return 1;
}

/* core.reseed(seed): restarts the runtime's stream and math.random's. */
static int l_reseed(lua_State *L) {
  struct np_rt *rt = np_bind_rt(L);
  rt->seed = (uint64_t)np_check_number(L, 1, 0, 9007199254740992.0);
  np_rng_seed(&rt->rng, rt->seed, 0);
  lua_getglobal(L, "math");
  lua_getfield(L, -1, "randomseed");
  lua_pushnumber(L, (lua_Number)rt->seed);
  lua_call(L, 1, 0);
  return 0;
}

static int l_seed(lua_State *L) {
  lua_pushnumber(L, (lua_Number)np_bind_rt(L)->seed);
  return 1;
}

static const luaL_Reg functions[] = {{"random", l_random},
                                     {"rng", l_rng},
                                     {"reseed", l_reseed},
                                     {"seed", l_seed},
                                     {NULL, NULL}};
static const luaL_Reg methods[] = {{"double", l_double}, {NULL, NULL}};

void np_open_rng(lua_State *L, struct np_rt *rt) {
  np_bind_funcs(L, rt, functions);
  np_bind_class(L, rt, rng_class, methods, NULL, NULL);
}
