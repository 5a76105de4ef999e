/* SPDX-License-Identifier: MIT
 * The server and its requests. lua/neap/serve.lua gives them their public face:
 * what it passes is checked there. */
#include "bind/bind.h"

#include "net/server.h"

#include <netinet/in.h>
#include <string.h>

static const char server_class[] = "neap.server";
static const char request_class[] = "neap.server_request";

struct server_ud {
  struct np_server *s; /* owned; NULL once closed */
};

struct request_ud {
  struct np_request *r; /* one reference; NULL until accepted */
};

static const char *const outcome_names[] = {
    [NP_OUTCOME_NONE] = "none",
    [NP_OUTCOME_SENT] = "sent",
    [NP_OUTCOME_DISCONNECTED] = "disconnected",
    [NP_OUTCOME_DROPPED] = "dropped",
};

static double seconds(uint64_t ns) {
  return (double)ns / (double)NP_NS_PER_S;
}

/* -- The server -------------------------------------------------------------
 */

static double field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  double v = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return v;
}

static int l_server_new(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  struct np_error e = {0};
  struct np_server_config c = {
      .port = (uint16_t)field(L, "port"),
      .max_body = (uint64_t)field(L, "max_body"),
      .max_connections = (uint32_t)field(L, "max_connections"),
      .max_concurrency = (uint32_t)field(L, "max_concurrency"),
      .max_waiting = (uint32_t)field(L, "max_waiting"),
      .idle_timeout_s = (uint32_t)field(L, "idle_timeout"),
  };
  lua_getfield(L, 1, "report");
  c.report = lua_toboolean(L, -1);
  lua_getfield(L, 1, "host");
  c.host = luaL_checkstring(L, -1); /* stays on the stack */
  struct server_ud *ud = np_bind_new(L, server_class, sizeof *ud);
  if (np_server_new(&ud->s, np_bind_rt(L)->loop, &c, &e) == NP_OK) return 1;
  lua_pushnil(L);
  np_push_error(L, &e);
  return 2;
}

static int l_server_close(lua_State *L) {
  struct server_ud *ud = luaL_checkudata(L, 1, server_class);
  struct np_server *s = ud->s;
  ud->s = NULL;
  if (s) np_server_free(s);
  return 0;
}

static int l_server_stop(lua_State *L) {
  struct server_ud *ud = luaL_checkudata(L, 1, server_class);
  if (ud->s) np_server_stop(ud->s);
  return 0;
}

static int l_server_port(lua_State *L) {
  struct server_ud *ud = luaL_checkudata(L, 1, server_class);
  if (!ud->s) return 0;
  lua_pushinteger(L, np_server_port(ud->s));
  return 1;
}

static int l_server_stats(lua_State *L) {
  struct server_ud *ud = luaL_checkudata(L, 1, server_class);
  struct np_server_stats st = {0};
  if (ud->s) np_server_stats(ud->s, &st);
  lua_createtable(L, 0, 5);
  lua_pushinteger(L, (lua_Integer)st.connections);
  lua_setfield(L, -2, "connections");
  lua_pushinteger(L, (lua_Integer)st.running);
  lua_setfield(L, -2, "running");
  lua_pushinteger(L, (lua_Integer)st.waiting);
  lua_setfield(L, -2, "waiting");
  lua_pushnumber(L, (lua_Number)st.requests);
  lua_setfield(L, -2, "requests");
  lua_pushnumber(L, (lua_Number)st.refused);
  lua_setfield(L, -2, "refused");
  return 1;
}

/* A new request: its userdata. A finished one: false, id, outcome, arrived,
 * done. False alone: accept again. Nil: stopped and drained, or closed. */
static int push_event(lua_State *L, struct np_task *t, int status) {
  struct server_ud *server = luaL_checkudata(L, 1, server_class);
  struct np_server_event event;
  (void)t;
  if (status == NP_E_QUEUE_FULL)
    return luaL_error(L, "another task accepts requests already");
  lua_pushnil(L);
  if (status != NP_OK || !server->s) return 1;
  struct request_ud *ud = np_bind_new(L, request_class, sizeof *ud);
  np_server_next(server->s, &event);
  if (event.type == NP_SERVER_REQUEST) {
    ud->r = event.request;
    return 1;
  }
  lua_pushboolean(L, 0);
  if (event.type != NP_SERVER_FINISHED) return 1;
  lua_pushnumber(L, (lua_Number)np_request_id(event.request));
  lua_pushstring(L, outcome_names[np_request_outcome(event.request)]);
  lua_pushnumber(L, seconds(np_request_arrived(event.request)));
  lua_pushnumber(L, seconds(np_request_done(event.request)));
  np_request_unref(event.request);
  return 5;
}

static int l_server_accept(lua_State *L) {
  struct server_ud *ud = luaL_checkudata(L, 1, server_class);
  struct np_task *t = np_wait_begin(L);
  int rc = ud->s ? np_server_accept(ud->s, t) : NP_E_CLOSED;
  return np_wait_end(L, t, rc, push_event);
}

/* -- Reading a request -------------------------------------------------------
 */

static struct np_request *check_request(lua_State *L) {
  struct request_ud *ud = luaL_checkudata(L, 1, request_class);
  if (!ud->r) (void)luaL_error(L, "this request was never accepted");
  return ud->r;
}

static int l_request_gc(lua_State *L) {
  struct request_ud *ud = luaL_checkudata(L, 1, request_class);
  struct np_request *r = ud->r;
  ud->r = NULL;
  if (!r) return 0;
  np_request_forget(r);
  np_request_release(r);
  np_request_unref(r);
  return 0;
}

/* id, method, target and arrived in one call. */
static int l_request_line(lua_State *L) {
  struct np_request *r = check_request(L);
  lua_pushnumber(L, (lua_Number)np_request_id(r));
  lua_pushstring(L, np_request_method(r));
  lua_pushstring(L, np_request_target(r));
  lua_pushnumber(L, seconds(np_request_arrived(r)));
  return 4;
}

/* A flat array {"name", "value", ...}, names in lower case. */
static int l_request_headers(lua_State *L) {
  struct np_request *r = check_request(L);
  const char *name, *value;
  size_t at = 0;
  int n = 0;
  lua_newtable(L);
  while (np_request_header(r, &at, &name, &value)) {
    lua_pushstring(L, name);
    lua_rawseti(L, -2, ++n);
    lua_pushstring(L, value);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static int l_request_body(lua_State *L) {
  size_t len;
  const char *body = np_request_body(check_request(L), &len);
  lua_pushlstring(L, body, len);
  return 1;
}

static int l_request_remote(lua_State *L) {
  char text[INET6_ADDRSTRLEN];
  uint16_t port;
  np_request_remote(check_request(L), text, sizeof text, &port);
  lua_pushstring(L, text);
  lua_pushinteger(L, port);
  return 2;
}

static int l_request_disconnected(lua_State *L) {
  lua_pushboolean(L, np_request_disconnected(check_request(L)));
  return 1;
}

/* -- Answering it ------------------------------------------------------------
 */

static bool has_zero_or_break(const char *s, size_t len) {
  return memchr(s, '\0', len) || memchr(s, '\n', len) || memchr(s, '\r', len);
}

/* One more header line into b, from strings at the stack's name and value. */
static void add_line(lua_State *L, luaL_Buffer *b, const char *name,
                     const char *value) {
  if (has_zero_or_break(name, strlen(name)) || *name == '\0' ||
      has_zero_or_break(value, strlen(value)))
    luaL_error(L, "header '%s' is not valid", name);
  luaL_addlstring(b, name, strlen(name) + 1);
  luaL_addlstring(b, value, strlen(value) + 1);
}

/* The flat array {"name", "value", ...} at idx becomes lines on the stack's
 * top, which out borrows. */
static void read_headers(lua_State *L, int idx, struct np_buf *out) {
  luaL_Buffer b;
  if (lua_isnoneornil(L, idx)) {
    *out = (struct np_buf){0};
    return;
  }
  luaL_checktype(L, idx, LUA_TTABLE);
  int n = (int)lua_objlen(L, idx);
  luaL_checkstack(L, 2 * n + LUA_MINSTACK, "too many headers");
  int base = lua_gettop(L);
  for (int i = 1; i <= n; i++) lua_rawgeti(L, idx, i);
  luaL_buffinit(L, &b);
  for (int i = 1; i + 1 <= n; i += 2)
    add_line(L, &b, luaL_checkstring(L, base + i),
             luaL_checkstring(L, base + i + 1));
  luaL_pushresult(&b);
  /* An np_buf that owns nothing: only read. */
  out->data = (char *)(uintptr_t)lua_tolstring(L, -1, &out->len);
  out->capacity = 0;
}

static int push_answer(lua_State *L, int rc) {
  if (rc == NP_OK) {
    lua_pushboolean(L, 1);
    return 1;
  }
  if (rc == NP_E_CLOSED)
    return np_fail(L, rc, "respond", "the client has left");
  if (rc == NP_E_INVALID)
    return luaL_error(L, "the request is answered already, or its status or "
                         "a header is not valid");
  return np_fail(L, rc, "respond", "out of memory");
}

static int check_status(lua_State *L, int idx) {
  return (int)np_check_number(L, idx, 200, 999);
}

/* request:reply(status, headers, body) */
static int l_request_reply(lua_State *L) {
  struct np_request *r = check_request(L);
  struct np_buf headers;
  size_t len;
  int status = check_status(L, 2);
  const char *body = luaL_optlstring(L, 4, "", &len);
  read_headers(L, 3, &headers);
  return push_answer(L, np_request_reply(r, status, &headers, body, len));
}

/* request:stream(status, headers, body_len) */
static int l_request_stream(lua_State *L) {
  struct np_request *r = check_request(L);
  struct np_buf headers;
  uint64_t body_len = NP_SIZE_UNKNOWN;
  int status = check_status(L, 2);
  if (!lua_isnoneornil(L, 4))
    body_len = (uint64_t)np_check_number(L, 4, 0, 9007199254740992.0);
  read_headers(L, 3, &headers);
  return push_answer(L, np_request_stream(r, status, &headers, body_len));
}

static int push_written(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status == NP_E_INVALID)
    return luaL_error(L, "this answer is not a stream, or was closed");
  if (status == NP_E_CLOSED)
    return np_fail(L, status, "write", "the client has left");
  if (status == NP_E_LIMIT) return np_fail(L, status, "write", "out of memory");
  return np_push_true(L, t, status);
}

/* request:write(chunk) */
static int l_request_write(lua_State *L) {
  struct np_request *r = check_request(L);
  size_t len;
  const char *data = luaL_checklstring(L, 2, &len);
  struct np_task *t = np_wait_begin(L);
  return np_wait_end(L, t, np_request_write(r, t, data, len), push_written);
}

static int push_gone(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status != NP_OK) return np_fail_wait(L, status, "wait_disconnect");
  lua_pushboolean(L, 1);
  return 1;
}

/* request:wait_disconnect(timeout) */
static int l_request_wait_disconnect(lua_State *L) {
  struct np_request *r = check_request(L);
  uint64_t timeout_ns = np_opt_timeout(L, 2);
  struct np_task *t = np_wait_begin(L);
  int rc = np_request_wait_gone(r, t, timeout_ns);
  return np_wait_end(L, t, rc, push_gone);
}

static int l_request_finish(lua_State *L) {
  np_request_end(check_request(L));
  return 0;
}

static int l_request_abort(lua_State *L) {
  np_request_abort(check_request(L));
  return 0;
}

static int l_request_drop(lua_State *L) {
  np_request_drop(check_request(L));
  return 0;
}

static int l_request_release(lua_State *L) {
  np_request_release(check_request(L));
  return 0;
}

/* -- Registration ------------------------------------------------------------
 */

static const luaL_Reg functions[] = {{"server_new", l_server_new},
                                     {NULL, NULL}};

static const luaL_Reg server_methods[] = {{"port", l_server_port},
                                          {"stats", l_server_stats},
                                          {"stop", l_server_stop},
                                          {"close", l_server_close},
                                          {NULL, NULL}};

static const luaL_Reg server_waits[] = {{"accept", l_server_accept},
                                        {NULL, NULL}};

static const luaL_Reg request_methods[] = {
    {"line", l_request_line},
    {"headers", l_request_headers},
    {"body", l_request_body},
    {"remote", l_request_remote},
    {"disconnected", l_request_disconnected},
    {"reply", l_request_reply},
    {"stream", l_request_stream},
    {"finish", l_request_finish},
    {"abort", l_request_abort},
    {"drop", l_request_drop},
    {"release", l_request_release},
    {NULL, NULL}};

static const luaL_Reg request_waits[] = {
    {"write", l_request_write},
    {"wait_disconnect", l_request_wait_disconnect},
    {NULL, NULL}};

void np_open_server(lua_State *L, struct np_rt *rt) {
  np_bind_version(L, "libmicrohttpd", np_server_library_version());
  np_bind_funcs(L, rt, functions);
  np_bind_class(L, rt, server_class, server_methods, server_waits,
                l_server_close);
  np_bind_class(L, rt, request_class, request_methods, request_waits,
                l_request_gc);
}
