/* SPDX-License-Identifier: MIT
 * Streaming calls: client:open and the methods of what it returns. */
#include "bind/lua_http.h"

#include <string.h>

static const char call_class[] = "neap.http_call";

static struct np_lua_call *check_call(lua_State *L) {
  return luaL_checkudata(L, 1, call_class);
}

/* The length of the body that will be written: true is unknown. */
static void read_stream(lua_State *L, struct np_http_request *r) {
  r->streams_response = true;
  r->streamed_len = NP_BODY_UNKNOWN;
  if (lua_type(L, 5) == LUA_TNUMBER) {
    r->streams_body = true;
    r->streamed_len = (uint64_t)np_check_number(L, 5, 0, 9007199254740992.0);
  } else {
    r->streams_body = lua_isboolean(L, 5) && lua_toboolean(L, 5);
  }
  /* Bytes that are taken as they come are not held in memory: only a limit
   * that was set for this request counts. */
  lua_pushnil(L);
  if (lua_istable(L, 6)) lua_getfield(L, 6, "max_body");
  if (lua_isnil(L, -1)) r->limits.max_body = UINT64_MAX;
}

/* The first half of client:open: makes the call without waiting. */
static int l_new_call(lua_State *L) {
  struct np_http_client *c = np_lua_check_client(L);
  struct np_http_request r;
  np_lua_read_request(L, c, &r);
  read_stream(L, &r);
  lua_settop(L, 6);
  struct np_lua_call *ud =
      np_bind_new(L, call_class, sizeof(struct np_lua_call));
  lua_createtable(L, 6, 0); /* the strings live as long as the call */
  for (int i = 1; i <= 5; i++) {
    lua_pushvalue(L, i);
    lua_rawseti(L, -2, i);
  }
  if (lua_istable(L, 6)) {
    lua_getfield(L, 6, "compression");
    lua_rawseti(L, -2, 6);
  }
  (void)lua_setfenv(L, 7);
  ud->call = np_lua_new_call(L, c);
  if (!ud->call) return 2;
  ud->request = r;
  return 1;
}

static void let_go(struct np_lua_call *ud) {
  struct np_http_call *call = ud->call;
  if (!call) return;
  np_http_call_close(call);
  np_http_call_timings(call, &ud->timings);
  ud->call = NULL;
  np_http_call_release(call);
}

/* What a finished wait finds at index 1; the call may be closed meanwhile. */
static struct np_http_call *call_of(lua_State *L) {
  const struct np_lua_call *ud = lua_touserdata(L, 1);
  return ud->call;
}

static int push_call(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status == NP_OK) {
    lua_pushvalue(L, 1);
    return 1;
  }
  int count = np_lua_push_failure(L, call_of(L), status);
  let_go(lua_touserdata(L, 1));
  return count;
}

/* The second half of client:open: waits until it may run. */
static int l_admit(lua_State *L) {
  struct np_lua_call *ud = check_call(L);
  struct np_task *t = np_wait_begin(L);
  return np_wait_end(L, t, np_http_call_run(ud->call, t, &ud->request),
                     push_call);
}

static int push_head(lua_State *L, struct np_task *t, int status) {
  struct np_http_call *call = call_of(L);
  (void)t;
  if (status != NP_OK || !call)
    return np_lua_push_failure(L, call, call ? status : NP_E_CLOSED);
  np_lua_push_response(L, call, 1);
  return 1;
}

/* call:head() -> res | nil, err */
static int l_head(lua_State *L) {
  struct np_lua_call *ud = check_call(L);
  struct np_task *t = np_wait_begin(L);
  if (!ud->call) return np_lua_push_failure(L, NULL, NP_E_CLOSED);
  int rc = np_http_call_head(ud->call, t);
  if (rc == NP_E_INVALID)
    return luaL_error(L, "another task already waits for this response");
  return np_wait_end(L, t, rc, push_head);
}

static int push_chunk(lua_State *L, struct np_task *t, int status) {
  struct np_http_call *call = call_of(L);
  struct np_http_result r = {0};
  (void)t;
  if (status != NP_OK || !call)
    return np_lua_push_failure(L, call, call ? status : NP_E_CLOSED);
  np_http_call_result(call, &r);
  if (r.body_len == 0) return 0; /* the end */
  lua_pushlstring(L, r.body, r.body_len);
  np_http_call_taken(call);
  return 1;
}

/* call:read() -> chunk | nil at the end | nil, err */
static int l_read(lua_State *L) {
  struct np_lua_call *ud = check_call(L);
  struct np_task *t = np_wait_begin(L);
  if (!ud->call) return np_lua_push_failure(L, NULL, NP_E_CLOSED);
  int rc = np_http_call_read(ud->call, t);
  if (rc == NP_E_INVALID)
    return luaL_error(L, "another task already waits for this response");
  return np_wait_end(L, t, rc, push_chunk);
}

static int push_written(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status != NP_OK) return np_lua_push_failure(L, call_of(L), status);
  lua_pushboolean(L, 1);
  return 1;
}

/* call:write(chunk) -> true | nil, err */
static int l_write(lua_State *L) {
  struct np_lua_call *ud = check_call(L);
  size_t len;
  const char *data = luaL_checklstring(L, 2, &len);
  struct np_task *t = np_wait_begin(L);
  if (!ud->call) return np_lua_push_failure(L, NULL, NP_E_CLOSED);
  if (!ud->request.streams_body)
    return luaL_error(L, "this request was not opened with a streamed body");
  return np_wait_end(L, t, np_http_call_write(ud->call, t, data, len),
                     push_written);
}

/* call:finish() -> true | nil, err */
static int l_finish(lua_State *L) {
  struct np_lua_call *ud = check_call(L);
  if (!ud->call) return np_lua_push_failure(L, NULL, NP_E_CLOSED);
  return push_written(L, NULL, np_http_call_finish(ud->call));
}

static int l_close(lua_State *L) {
  let_go(check_call(L));
  return 0;
}

static const luaL_Reg methods[] = {
    {"finish", l_finish}, {"close", l_close}, {NULL, NULL}};
static const luaL_Reg waits[] = {{"admit", l_admit},
                                 {"head", l_head},
                                 {"read", l_read},
                                 {"write", l_write},
                                 {NULL, NULL}};

/* What waits finds only its first argument again, so the call is made first
 * and then waits as a method of its own. */
static const char open_source[] = "local new, admit = ...\n"
                                  "return function(...)\n"
                                  "  local call, err = new(...)\n"
                                  "  if not call then return nil, err end\n"
                                  "  return admit(call)\n"
                                  "end\n";

void np_open_http_call(lua_State *L, struct np_rt *rt, const char *client) {
  np_bind_class(L, rt, call_class, methods, waits, l_close);
  luaL_getmetatable(L, client);
  lua_getfield(L, -1, "__index");
  if (luaL_loadbuffer(L, open_source, sizeof open_source - 1, "=neap"))
    lua_error(L);
  lua_pushlightuserdata(L, rt);
  lua_pushcclosure(L, l_new_call, 1);
  luaL_getmetatable(L, call_class);
  lua_getfield(L, -1, "__index");
  lua_getfield(L, -1, "admit");
  lua_pushnil(L);
  lua_setfield(L, -3, "admit"); /* nobody else's */
  lua_replace(L, -3);
  lua_pop(L, 1);
  lua_call(L, 2, 1);
  lua_setfield(L, -2, "open");
  lua_pop(L, 2);
}
