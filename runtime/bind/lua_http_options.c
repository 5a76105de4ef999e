/* SPDX-License-Identifier: MIT
 * Client settings and request overrides, from Lua tables to C structs. The Lua
 * layer has checked them; here they only must not break anything. */
#include "bind/lua_http.h"

#include <string.h>

static bool get(lua_State *L, int idx, const char *key) {
  lua_getfield(L, idx, key);
  return lua_toboolean(L, -1);
}

static double opt_number(lua_State *L, int idx, const char *key,
                         double otherwise) {
  double v = get(L, idx, key) ? luaL_checknumber(L, -1) : otherwise;
  lua_pop(L, 1);
  return v;
}

static uint64_t opt_limit(lua_State *L, int idx, const char *key,
                          uint64_t otherwise_ns) {
  double s = opt_number(L, idx, key, -1);
  if (s < 0) return otherwise_ns;
  return np_ns_of_seconds(s);
}

static uint64_t opt_bytes(lua_State *L, int idx, const char *key,
                          uint64_t otherwise) {
  double v = opt_number(L, idx, key, -1);
  if (v < 0) return otherwise;
  return v < 9007199254740992.0 ? (uint64_t)v : UINT64_C(1) << 53;
}

static uint32_t opt_count(lua_State *L, int idx, const char *key,
                          uint32_t otherwise) {
  double v = opt_number(L, idx, key, -1);
  if (v < 0) return otherwise;
  return v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
}

/* The string stays on the stack, under the table it came from. */
static const char *opt_string(lua_State *L, int idx, const char *key,
                              const char *otherwise) {
  if (!get(L, idx, key)) {
    lua_pop(L, 1);
    return otherwise;
  }
  return luaL_checkstring(L, -1);
}

static bool opt_bool(lua_State *L, int idx, const char *key, bool otherwise) {
  lua_getfield(L, idx, key);
  bool v = lua_isnil(L, -1) ? otherwise : lua_toboolean(L, -1);
  lua_pop(L, 1);
  return v;
}

/* nil: as otherwise; false: none; a string. */
static const char *opt_compression(lua_State *L, int idx,
                                   const char *otherwise) {
  lua_getfield(L, idx, "compression");
  if (lua_isstring(L, -1)) return lua_tostring(L, -1);
  bool none = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
  lua_pop(L, 1);
  return none ? NULL : otherwise;
}

static enum np_http_version opt_version(lua_State *L, int idx,
                                        enum np_http_version otherwise) {
  const char *v = opt_string(L, idx, "http_version", NULL);
  if (!v) return otherwise;
  enum np_http_version version = strcmp(v, "2") == 0     ? NP_HTTP_2
                                 : strcmp(v, "1.1") == 0 ? NP_HTTP_1_1
                                                         : NP_HTTP_AUTO;
  lua_pop(L, 1);
  return version;
}

static void read_limits(lua_State *L, int idx, struct np_http_limits *l) {
  l->queue_ns = opt_limit(L, idx, "timeout_queue", l->queue_ns);
  l->connect_ns = opt_limit(L, idx, "timeout_connect", l->connect_ns);
  l->first_byte_ns = opt_limit(L, idx, "timeout_first_byte", l->first_byte_ns);
  l->idle_ns = opt_limit(L, idx, "timeout_idle", l->idle_ns);
  l->total_ns = opt_limit(L, idx, "timeout_total", l->total_ns);
  l->max_body = opt_bytes(L, idx, "max_body", l->max_body);
  l->max_headers = (uint32_t)opt_count(L, idx, "max_headers", l->max_headers);
}

void np_lua_read_config(lua_State *L, struct np_http_config *c) {
  const int idx = 1;
  *c = (struct np_http_config){.limits = {.queue_ns = NP_FOREVER,
                                          .connect_ns = 10 * NP_NS_PER_S,
                                          .first_byte_ns = NP_FOREVER,
                                          .idle_ns = NP_FOREVER,
                                          .total_ns = 300 * NP_NS_PER_S,
                                          .max_body = 100 * 1000 * 1000,
                                          .max_headers = 256 * 1024}};
  c->max_connections = opt_count(L, idx, "max_connections", 100);
  if (c->max_connections == 0 || c->max_connections > 1000000)
    (void)luaL_error(L, "max_connections must be from 1 to 1000000");
  c->max_connections_per_host =
      opt_count(L, idx, "max_connections_per_host", c->max_connections);
  if (c->max_connections_per_host == 0)
    (void)luaL_error(L, "max_connections_per_host must be at least 1");
  c->max_waiting = opt_count(L, idx, "max_waiting", UINT32_MAX);
  c->keepalive_ns = opt_limit(L, idx, "keepalive_timeout", 118 * NP_NS_PER_S);
  c->dns_cache_ttl_s = (long)opt_number(L, idx, "dns_cache_ttl", 60);
  c->version = opt_version(L, idx, NP_HTTP_AUTO);
  c->force_close = opt_bool(L, idx, "force_close", false);
  c->tls_verify = opt_bool(L, idx, "tls_verify", true);
  c->cookies = opt_bool(L, idx, "cookies", false);
  c->compression = opt_compression(L, idx, "");
  c->proxy = opt_string(L, idx, "proxy", NULL);
  c->tls_ca_file = opt_string(L, idx, "tls_ca_file", NULL);
  c->tls_cert = opt_string(L, idx, "tls_cert", NULL);
  c->tls_key = opt_string(L, idx, "tls_key", NULL);
  read_limits(L, idx, &c->limits);
}

/* RFC 9110, 9.2.2, and QUERY. */
static bool is_idempotent(const char *method) {
  static const char *const names[] = {"GET",    "HEAD",  "OPTIONS", "PUT",
                                      "DELETE", "TRACE", "QUERY"};
  if (strcmp(method, "POST") == 0) return false; /* by far the most */
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcmp(method, names[i]) == 0) return true;
  return false;
}

static void read_spec(lua_State *L, struct np_http_request *r) {
  read_limits(L, 6, &r->limits);
  r->version = opt_version(L, 6, r->version);
  r->replay_safe = opt_bool(L, 6, "replay_safe", r->replay_safe);
  r->compression = opt_compression(L, 6, r->compression);
}

/* What the request is an attempt at: a simulation numbers that. */
static uint64_t operation_of(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, np_bind_rt(L)->identify);
  lua_call(L, 0, 1);
  uint64_t number = (uint64_t)lua_tonumber(L, -1);
  lua_pop(L, 1);
  return number;
}

void np_lua_read_request(lua_State *L, struct np_http_client *c,
                         struct np_http_request *r) {
  const struct np_http_config *config = np_http_client_config(c);
  memset(r, 0, sizeof *r);
  r->method = luaL_checklstring(L, 2, &r->method_len);
  r->url = luaL_checklstring(L, 3, &r->url_len);
  lua_settop(L, 6);
  if (!lua_isnil(L, 4)) luaL_checktype(L, 4, LUA_TTABLE);
  if (lua_type(L, 5) == LUA_TSTRING) {
    r->body = lua_tolstring(L, 5, &r->body_len);
    r->has_body = true;
  }
  r->limits = config->limits;
  r->version = config->version;
  r->compression = config->compression;
  r->replay_safe = is_idempotent(r->method);
  if (np_bind_rt(L)->identify) r->operation = operation_of(L);
  if (lua_isnil(L, 6)) return;
  luaL_checktype(L, 6, LUA_TTABLE);
  read_spec(L, r);
}
