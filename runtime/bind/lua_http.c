/* SPDX-License-Identifier: MIT
 * neap.http's core: clients and whole requests. */
#include "bind/lua_http.h"

#include <string.h>

static const char client_class[] = "neap.http_client";
/* -- Requests
 * ------------------------------------------------------------------
 */

struct np_http_client *np_lua_check_client(lua_State *L) {
  struct np_lua_client *ud = luaL_checkudata(L, 1, client_class);
  return ud->client;
}

/* A header's name for a message: what could break the line is a question mark.
 */
static void describe_name(lua_State *L, int index, char out[48]) {
  size_t len = 0;
  const char *name =
      lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : "";
  if (len > 47) len = 47;
  for (size_t i = 0; i < len; i++)
    out[i] = (unsigned char)name[i] < ' ' || name[i] == 127 ? '?' : name[i];
  out[len] = '\0';
}

/* Reads no Lua that could raise: the lines are strings or the call fails; then
 * `bad` is the header's name. */
static int add_lines(lua_State *L, struct np_headers *h, int count,
                     char bad[48]) {
  for (int i = 1; i < count; i += 2) {
    size_t name_len, value_len;
    lua_rawgeti(L, 4, i);
    lua_rawgeti(L, 4, i + 1);
    int rc = NP_E_INVALID;
    if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
      const char *name = lua_tolstring(L, -2, &name_len);
      const char *value = lua_tolstring(L, -1, &value_len);
      rc = np_headers_add(h, name, name_len, value, value_len);
    }
    if (rc < 0) describe_name(L, -2, bad);
    lua_pop(L, 2);
    if (rc < 0) return rc;
  }
  return NP_OK;
}

struct np_http_call *np_lua_new_call(lua_State *L, struct np_http_client *c) {
  struct np_error e = {.has_sent = true};
  int count = lua_istable(L, 4) ? (int)lua_objlen(L, 4) : 0;
  struct np_http_call *call = np_http_call_new(c);
  int rc = call ? NP_OK : NP_E_LIMIT;
  char bad[48] = "";
  if (rc == NP_OK && count % 2 != 0) rc = NP_E_INVALID;
  if (rc == NP_OK) rc = add_lines(L, np_http_call_headers(call), count, bad);
  if (rc == NP_OK) return call;
  if (call) np_http_call_release(call);
  if (rc == NP_E_LIMIT)
    (void)np_error_set(&e, rc, NULL, "out of memory");
  else
    (void)np_error_set(&e, rc, NULL,
                       "the header '%s' cannot be sent: its name is not a "
                       "token, its value has a line break, or it is one that "
                       "the client sets itself",
                       bad);
  lua_pushnil(L);
  np_push_error(L, &e);
  return NULL;
}

/* -- Sending ---- */

static int push_whole(lua_State *L, struct np_task *t, int status) {
  struct np_http_call *call = t->wait_ud; /* NULL: gone with its wait */
  int count = 1;
  if (status == NP_OK)
    np_lua_push_response(L, call, 0);
  else
    count = np_lua_push_failure(L, call, status);
  if (call) np_http_call_release(call);
  return count;
}

/* client:send(method, url, headers, body, spec) -> res | nil, err */
static int l_send(lua_State *L) {
  struct np_http_client *c = np_lua_check_client(L);
  struct np_http_request r;
  np_lua_read_request(L, c, &r);
  struct np_task *t = np_wait_begin(L);
  struct np_http_call *call = np_lua_new_call(L, c);
  if (!call) return 2;
  return np_wait_end(L, t, np_http_call_run(call, t, &r), push_whole);
}

/* -- Clients
 * ------------------------------------------------------------------- */

static int l_client(lua_State *L) {
  struct np_rt *rt = np_bind_rt(L);
  struct np_http_config config;
  luaL_checktype(L, 1, LUA_TTABLE);
  np_lua_read_config(L, &config);
  struct np_lua_client *ud =
      np_bind_new(L, client_class, sizeof(struct np_lua_client));
  if (!rt->http) rt->http = np_http_new(rt->loop, &rt->log);
  if (rt->http) ud->client = np_http_client_new(rt->http, &config);
  if (!ud->client) return luaL_error(L, "not enough memory for a client");
  return 1;
}

static int l_client_gc(lua_State *L) {
  struct np_lua_client *ud = luaL_checkudata(L, 1, client_class);
  if (ud->client) np_http_client_release(ud->client);
  ud->client = NULL;
  return 0;
}

static int l_client_close(lua_State *L) {
  np_http_client_close(np_lua_check_client(L));
  return 0;
}

static int push_stats(lua_State *L, const struct np_http_stats *s) {
  lua_createtable(L, 0, 8);
#define FIELD(name)                                                            \
  lua_pushnumber(L, (double)s->name);                                          \
  lua_setfield(L, -2, #name)
  FIELD(clients);
  FIELD(calls);
  FIELD(waiting);
  FIELD(in_flight);
  FIELD(connections);
  FIELD(easies);
  FIELD(sends);
#undef FIELD
  return 1;
}

static int l_client_stats(lua_State *L) {
  struct np_http_stats s;
  np_http_client_stats(np_lua_check_client(L), &s);
  return push_stats(L, &s);
}

static int l_stats(lua_State *L) {
  struct np_rt *rt = np_bind_rt(L);
  struct np_http_stats s = {0};
  if (rt->http) np_http_stats(rt->http, &s);
  return push_stats(L, &s);
}

static const luaL_Reg functions[] = {
    {"http_client", l_client}, {"http_stats", l_stats}, {NULL, NULL}};
static const luaL_Reg client_methods[] = {
    {"close", l_client_close}, {"stats", l_client_stats}, {NULL, NULL}};
static const luaL_Reg client_waits[] = {{"send", l_send}, {NULL, NULL}};

static void push_features(lua_State *L) {
  struct np_http_features f;
  np_http_features(&f);
  lua_createtable(L, 0, 6);
#define FIELD(name)                                                            \
  lua_pushboolean(L, f.name);                                                  \
  lua_setfield(L, -2, #name)
  FIELD(gzip);
  FIELD(deflate);
  FIELD(br);
  FIELD(zstd);
  FIELD(http2);
  FIELD(tls);
#undef FIELD
}

void np_open_http(lua_State *L, struct np_rt *rt) {
  np_bind_class(L, rt, client_class, client_methods, client_waits, l_client_gc);
  np_bind_funcs(L, rt, functions);
  np_open_http_call(L, rt, client_class);
  np_open_http_response(L, rt);
  np_open_url(L, rt);
  push_features(L);
  lua_setfield(L, -2, "http_features");
  np_bind_version(L, "libcurl", np_http_library_versions());
}
