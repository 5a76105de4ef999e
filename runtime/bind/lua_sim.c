/* SPDX-License-Identifier: MIT
 * The simulated network's other side, in Lua. What it is told comes through
 * five functions, called outside any task; what it answers goes through
 * core.sim_*. lua/neap/sim/network.lua is the one user. */
#include "bind/lua_sim.h"

#include "net/http.h"
#include "net/sim.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum upcall { FIND, CONNECT, ARRIVE, DUE, GONE };

static const char *const upcall_names[NP_SIM_UPCALLS] = {
    "find", "connect", "arrive", "due", "gone"};

static const char side_class[] = "neap.simulated_network";
static const char side_key; /* its address: the side in the registry */

static struct np_lua_sim *find_side(lua_State *L) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)&side_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  struct np_lua_sim *side = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return side;
}

struct np_lua_sim *np_lua_check_sim(lua_State *L) {
  struct np_lua_sim *side = find_side(L);
  if (!side || !side->sim) luaL_error(L, "there is no simulated network");
  return side;
}

/* -- Telling Lua ------------------------------------------------------------
 */

static int with_traceback(lua_State *L) {
  const char *text = lua_tostring(L, 1);
  luaL_traceback(L, L, text ? text : "an error that is not a string", 1);
  return 1;
}

/* The function is below its count arguments. False: it has failed, and said so.
 */
static bool call(struct np_lua_sim *side, int count, int results) {
  lua_State *L = side->rt->L;
  int function = lua_gettop(L) - count;
  lua_rawgeti(L, LUA_REGISTRYINDEX, side->traceback);
  lua_insert(L, function);
  int rc = lua_pcall(L, count, results, function);
  lua_remove(L, function);
  if (rc == 0) return true;
  const char *text = lua_tostring(L, -1);
  np_logf(&side->rt->log, NP_LOG_ERROR, "the simulated world failed: %s",
          text ? text : "an error that is not a string");
  return false;
}

static lua_State *begin(struct np_lua_sim *side, enum upcall which) {
  lua_State *L = side->rt->L;
  luaL_checkstack(L, 16, NULL);
  lua_rawgeti(L, LUA_REGISTRYINDEX, side->upcalls[which]);
  return L;
}

/* The error that a failed call has left at L's top, for the client. */
static void fill_failure(lua_State *L, struct np_error *e) {
  char line[160];
  const char *text = lua_tostring(L, -1);
  size_t len = strcspn(text ? text : "", "\n");
  if (len >= sizeof line) len = sizeof line - 1;
  memcpy(line, text ? text : "", len);
  line[len] = '\0';
  (void)np_error_set(e, NP_E_INTERNAL, NULL, "the simulated world failed: %s",
                     line);
}

static void fail(struct np_lua_sim *side, uint32_t slot) {
  struct np_error e = {0};
  fill_failure(side->rt->L, &e);
  np_sim_fail(side->sim, slot, &e);
}

/* nil, kind, message: nobody is there. */
static uint32_t find(void *ud, const char *host, bool secure,
                     struct np_error *e) {
  struct np_lua_sim *side = ud;
  lua_State *L = begin(side, FIND);
  int top = lua_gettop(L) - 1;
  lua_pushstring(L, secure ? "https" : "http");
  lua_pushstring(L, host);
  uint32_t upstream = 0;
  if (!call(side, 2, 3)) {
    fill_failure(L, e);
  } else if (lua_isnumber(L, -3)) {
    upstream = (uint32_t)lua_tointeger(L, -3);
  } else {
    const char *kind = lua_tostring(L, -2), *text = lua_tostring(L, -1);
    int code = kind ? np_err_code(kind) : 0;
    (void)np_error_set(e, code ? code : NP_E_CONNECT, "connect", "%s",
                       text ? text : "nobody is there");
  }
  lua_settop(L, top);
  return upstream;
}

/* To the nearest: sums of seconds have rounding errors of either sign. */
static uint64_t duration(lua_State *L, int idx) {
  double ns = lua_tonumber(L, idx) * 1e9 + 0.5;
  if (!(ns >= 0)) return 0;
  return ns >= 9.2e18 ? NP_FOREVER : (uint64_t)ns;
}

static int failure_of(const char *what) {
  if (!what || strcmp(what, "refused") == 0) return NP_E_CONNECT;
  if (strcmp(what, "dns") == 0) return NP_E_DNS;
  return strcmp(what, "tls") == 0 ? NP_E_TLS : NP_OK;
}

/* "stands" | "refused" | "dns" | "tls" | "hang", then seconds: dns, connect,
 * tls, keepalive */
static void connect(void *ud, uint32_t upstream, uint32_t slot,
                    struct np_sim_plan *plan) {
  struct np_lua_sim *side = ud;
  lua_State *L = begin(side, CONNECT);
  struct np_sim_request r = {0};
  int top = lua_gettop(L) - 1;
  (void)np_sim_request(side->sim, slot, &r); /* it is there: it connects */
  lua_pushinteger(L, (lua_Integer)upstream);
  lua_pushnumber(L, (double)np_loop_now(side->rt->loop) / 1e9);
  lua_pushinteger(L, (lua_Integer)slot);
  lua_pushnumber(L, (lua_Number)r.operation);
  lua_pushstring(L, r.method);
  np_lua_push_target(L, r.url, r.url_len);
  if (call(side, 6, 5)) {
    const char *what = lua_tostring(L, -5);
    plan->fails = failure_of(what);
    plan->hang = what && strcmp(what, "hang") == 0;
    plan->dns_ns = duration(L, -4);
    plan->connect_ns = duration(L, -3);
    plan->tls_ns = duration(L, -2);
    if (!lua_isnil(L, -1)) plan->keepalive_ns = duration(L, -1);
  } else {
    plan->fails = NP_E_CONNECT;
  }
  lua_settop(L, top);
}

static void answer(struct np_lua_sim *side, lua_State *L, uint32_t slot,
                   int first);

/* What arrive and due return: nothing, the instant of the next due, or a whole
 * answer: status, headers, body. */
static void take_returned(struct np_lua_sim *side, lua_State *L,
                          uint32_t slot) {
  int first = lua_gettop(L) - 2;
  if (lua_isnil(L, first)) return;
  if (lua_isnil(L, first + 2))
    np_sim_wake(side->sim, slot, duration(L, first));
  else
    answer(side, L, slot, first);
}

static void arrive(void *ud, uint32_t upstream, uint32_t slot) {
  struct np_lua_sim *side = ud;
  struct np_sim_request r = {0};
  lua_State *L = begin(side, ARRIVE);
  int top = lua_gettop(L) - 1;
  (void)np_sim_request(side->sim, slot, &r); /* it is there: it just came */
  lua_pushinteger(L, (lua_Integer)slot);
  lua_pushinteger(L, (lua_Integer)upstream);
  lua_pushnumber(L, (double)np_loop_now(side->rt->loop) / 1e9);
  lua_pushstring(L, r.method);
  np_lua_push_target(L, r.url, r.url_len);
  lua_pushnumber(L, (lua_Number)r.operation);
  if (call(side, 6, 3))
    take_returned(side, L, slot);
  else
    fail(side, slot);
  lua_settop(L, top);
}

static void tell(struct np_lua_sim *side, enum upcall which, uint32_t slot) {
  lua_State *L = begin(side, which);
  int top = lua_gettop(L) - 1;
  lua_pushinteger(L, (lua_Integer)slot);
  lua_pushnumber(L, (double)np_loop_now(side->rt->loop) / 1e9);
  if (!call(side, 2, 3))
    fail(side, slot);
  else if (which == DUE)
    take_returned(side, L, slot);
  lua_settop(L, top);
}

static void due(void *ud, uint32_t slot) {
  tell(ud, DUE, slot);
}

static void gone(void *ud, uint32_t slot) {
  tell(ud, GONE, slot);
}

static const struct np_sim_ops ops = {find, connect, arrive, due, gone};

static int check_status(lua_State *L, int idx) {
  double status = lua_tonumber(L, idx);
  if (!(status >= 200 && status <= 999) || status != floor(status))
    luaL_error(L, "the status of an answer must be from 200 to 999");
  return (int)status;
}

/* Whether an answer with this status to the request in slot has a body. */
static bool has_body(struct np_lua_sim *side, uint32_t slot, int status) {
  struct np_sim_request r;
  return status != 204 && status != 304 &&
         !(np_sim_request(side->sim, slot, &r) &&
           strcmp(r.method, "HEAD") == 0);
}

/* status, headers and body are at first and behind it. */
static int answer_protected(lua_State *L) {
  struct np_lua_sim *side = lua_touserdata(L, 1);
  uint32_t slot = (uint32_t)lua_tointeger(L, 2);
  int status = check_status(L, 3);
  size_t len;
  const char *body = luaL_checklstring(L, 5, &len);
  bool close = np_lua_build_head(L, side, status, 4, len);
  np_sim_head(side->sim, slot, side->head.data, side->head.len, close);
  if (len > 0 && has_body(side, slot, status))
    np_sim_body(side->sim, slot, body, len);
  np_sim_end(side->sim, slot);
  return 0;
}

static void answer(struct np_lua_sim *side, lua_State *L, uint32_t slot,
                   int first) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, side->answer);
  lua_pushlightuserdata(L, side);
  lua_pushinteger(L, (lua_Integer)slot);
  for (int i = 0; i < 3; i++) lua_pushvalue(L, first + i);
  if (lua_pcall(L, 5, 0, 0) != 0) fail(side, slot);
}

/* -- What Lua says ----------------------------------------------------------
 */

uint32_t np_lua_check_slot(lua_State *L) {
  return (uint32_t)np_check_number(L, 1, 1, 4294967295.0);
}

/* core.sim_wake(slot, at): at in seconds; nil: not any more */
static int l_wake(lua_State *L) {
  struct np_lua_sim *side = np_lua_check_sim(L);
  uint64_t at_ns = lua_isnoneornil(L, 2) ? NP_FOREVER : duration(L, 2);
  np_sim_wake(side->sim, np_lua_check_slot(L), at_ns);
  return 0;
}

static int l_timer(lua_State *L) {
  uint32_t slot = np_sim_timer(np_lua_check_sim(L)->sim);
  if (!slot) return luaL_error(L, "not enough memory for a timer");
  lua_pushinteger(L, (lua_Integer)slot);
  return 1;
}

/* core.sim_answer(slot, status, headers, body) */
static int l_answer(lua_State *L) {
  struct np_lua_sim *side = np_lua_check_sim(L);
  (void)np_lua_check_slot(L);
  lua_settop(L, 4);
  lua_pushlightuserdata(L, side);
  lua_insert(L, 1);
  return answer_protected(L);
}

/* core.sim_head(slot, status, headers, length): nil: chunks */
static int l_head(lua_State *L) {
  struct np_lua_sim *side = np_lua_check_sim(L);
  uint32_t slot = np_lua_check_slot(L);
  int status = check_status(L, 2);
  uint64_t length = lua_isnoneornil(L, 4)
                        ? UINT64_MAX
                        : (uint64_t)np_check_number(L, 4, 0, 9007199254740992.);
  bool close = np_lua_build_head(L, side, status, 3, length);
  np_sim_head(side->sim, slot, side->head.data, side->head.len, close);
  return 0;
}

/* core.sim_body(slot, data) -> bytes that the client has not taken yet */
static int l_body(lua_State *L) {
  struct np_lua_sim *side = np_lua_check_sim(L);
  uint32_t slot = np_lua_check_slot(L);
  size_t len;
  const char *data = luaL_checklstring(L, 2, &len);
  if (len > 0) np_sim_body(side->sim, slot, data, len);
  lua_pushnumber(L, (lua_Number)np_sim_unread(side->sim, slot));
  return 1;
}

static int l_wake_when_read(lua_State *L) {
  np_sim_wake_when_read(np_lua_check_sim(L)->sim, np_lua_check_slot(L));
  return 0;
}

static int l_end(lua_State *L) {
  np_sim_end(np_lua_check_sim(L)->sim, np_lua_check_slot(L));
  return 0;
}

/* core.sim_drop(slot, orderly) */
static int l_drop(lua_State *L) {
  np_sim_drop(np_lua_check_sim(L)->sim, np_lua_check_slot(L),
              lua_toboolean(L, 2));
  return 0;
}

/* core.sim_fail(slot, kind, message) */
static int l_fail(lua_State *L) {
  struct np_error e = {0};
  int code = np_err_code(luaL_checkstring(L, 2));
  (void)np_error_set(&e, code ? code : NP_E_INTERNAL, NULL, "%s",
                     luaL_checkstring(L, 3));
  np_sim_fail(np_lua_check_sim(L)->sim, np_lua_check_slot(L), &e);
  return 0;
}

static int l_is_there(lua_State *L) {
  lua_pushboolean(
      L, np_sim_is_there(np_lua_check_sim(L)->sim, np_lua_check_slot(L)));
  return 1;
}

static int l_reroute(lua_State *L) {
  np_sim_reroute(np_lua_check_sim(L)->sim);
  return 0;
}

/* -- Up and down ------------------------------------------------------------
 */

static void unref_all(lua_State *L, struct np_lua_sim *side) {
  for (int i = 0; i < NP_SIM_UPCALLS; i++) {
    luaL_unref(L, LUA_REGISTRYINDEX, side->upcalls[i]);
    side->upcalls[i] = LUA_NOREF;
  }
  luaL_unref(L, LUA_REGISTRYINDEX, side->rt->identify);
  side->rt->identify = 0;
}

static int l_side_gc(lua_State *L) {
  struct np_lua_sim *side = luaL_checkudata(L, 1, side_class);
  np_buf_fini(&side->head);
  return 0;
}

static struct np_lua_sim *new_side(lua_State *L, struct np_rt *rt) {
  if (!rt->http) rt->http = np_http_new(rt->loop, &rt->log);
  if (!rt->http) luaL_error(L, "not enough memory for a network");
  struct np_lua_sim *side = np_bind_new(L, side_class, sizeof *side);
  side->rt = rt;
  for (int i = 0; i < NP_SIM_UPCALLS; i++) side->upcalls[i] = LUA_NOREF;
  lua_pushlightuserdata(L, (void *)(uintptr_t)&side_key);
  lua_insert(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
  /* Once: a C function pushed anew is garbage each time. */
  lua_pushcfunction(L, with_traceback);
  side->traceback = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushcfunction(L, answer_protected);
  side->answer = luaL_ref(L, LUA_REGISTRYINDEX);
  side->sim = np_sim_new(rt->loop);
  if (!side->sim) luaL_error(L, "not enough memory for a network");
  np_http_set_network(rt->http, np_sim_network(side->sim));
  return side;
}

/* core.sim_up{find=, connect=, arrive=, due=, gone=, identify=} */
static int l_up(lua_State *L) {
  struct np_rt *rt = np_bind_rt(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  struct np_lua_sim *side = find_side(L);
  if (!side || !side->sim) side = new_side(L, rt);
  np_sim_set_ops(side->sim, NULL, NULL);
  unref_all(L, side);
  for (int i = 0; i < NP_SIM_UPCALLS; i++) {
    lua_getfield(L, 1, upcall_names[i]);
    luaL_checktype(L, -1, LUA_TFUNCTION);
    side->upcalls[i] = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  lua_getfield(L, 1, "identify");
  luaL_checktype(L, -1, LUA_TFUNCTION);
  rt->identify = luaL_ref(L, LUA_REGISTRYINDEX);
  np_sim_set_ops(side->sim, &ops, side);
  return 0;
}

static int l_down(lua_State *L) {
  struct np_lua_sim *side = find_side(L);
  if (!side || !side->sim) return 0;
  np_sim_set_ops(side->sim, NULL, NULL);
  unref_all(L, side);
  return 0;
}

static const luaL_Reg functions[] = {{"sim_up", l_up},
                                     {"sim_down", l_down},
                                     {"sim_reroute", l_reroute},
                                     {"sim_timer", l_timer},
                                     {"sim_wake", l_wake},
                                     {"sim_answer", l_answer},
                                     {"sim_head", l_head},
                                     {"sim_body", l_body},
                                     {"sim_wake_when_read", l_wake_when_read},
                                     {"sim_end", l_end},
                                     {"sim_drop", l_drop},
                                     {"sim_fail", l_fail},
                                     {"sim_is_there", l_is_there},
                                     {NULL, NULL}};

void np_open_sim(lua_State *L, struct np_rt *rt) {
  np_bind_class(L, rt, side_class, NULL, NULL, l_side_gc);
  np_bind_funcs(L, rt, functions);
  np_bind_funcs(L, rt, np_lua_sim_request);
}
