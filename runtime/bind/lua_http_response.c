/* SPDX-License-Identifier: MIT
 * Responses and errors of http as Lua values; headers and timings on demand. */
#include "bind/lua_http.h"

#include <string.h>
#include <strings.h>

static const char meta_class[] = "neap.http_meta";
static const char response_key; /* its address: the responses' metatable */
static const char meta_key;     /* the metatable of meta_class */

/* What a response knows beyond its table, read on demand. */
struct meta {
  struct np_http_timings timings;
  const char *version; /* static */
  bool streams;        /* the call in the environment knows better */
  size_t head_len;
  char head[];
};

static void push_registered(lua_State *L, const char *key) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

static void push_meta(lua_State *L, const struct np_http_call *call,
                      const struct np_http_result *r, int stream) {
  struct meta *m = lua_newuserdata(L, sizeof *m + r->head_len);
  m->version = r->version;
  m->streams = stream != 0;
  m->head_len = r->head_len;
  if (r->head_len > 0) memcpy(m->head, r->head, r->head_len);
  np_http_call_timings(call, &m->timings);
  push_registered(L, &meta_key);
  lua_setmetatable(L, -2);
  if (!stream) return;
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, stream);
  lua_rawseti(L, -2, 1);
  (void)lua_setfenv(L, -2);
}

void np_lua_push_response(lua_State *L, const struct np_http_call *call,
                          int stream) {
  struct np_http_result r;
  np_http_call_result(call, &r);
  lua_createtable(L, 0, 8); /* with url, attempts and spent it is full */
  lua_pushinteger(L, r.status);
  lua_setfield(L, -2, "status");
  if (!stream) {
    lua_pushlstring(L, r.body_len > 0 ? r.body : "", r.body_len);
    lua_setfield(L, -2, "body");
  }
  lua_pushinteger(L, (lua_Integer)r.sends);
  lua_setfield(L, -2, "sends");
  if (r.replay_safe) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "replay_safe");
  }
  push_meta(L, call, &r, stream);
  lua_setfield(L, -2, "raw");
  push_registered(L, &response_key);
  lua_setmetatable(L, -2);
}

int np_lua_push_failure(lua_State *L, const struct np_http_call *call,
                        int code) {
  struct np_http_result r = {0};
  struct np_error e = {.has_sent = true};
  uint64_t queue_ns = 0;
  if (call) {
    struct np_http_timings timings;
    np_http_call_timings(call, &timings);
    queue_ns = timings.queue;
    np_http_call_result(call, &r);
    e = *np_http_call_error(call);
  }
  if (e.code == NP_OK) {
    /* A wait in the queue that ran out took the call with it. */
    bool queue = code == NP_E_TIMEOUT || code == NP_E_QUEUE_TIMEOUT;
    (void)np_error_set(
        &e, queue ? NP_E_QUEUE_TIMEOUT : code, queue ? "queue" : NULL,
        queue                 ? "no connection came free in time"
        : code == NP_E_CLOSED ? "the client or the response was closed"
                              : "the request cannot go on");
    e.limit = queue ? "queue" : NULL;
    e.has_sent = queue;
  }
  lua_pushnil(L);
  np_push_error(L, &e);
  if (queue_ns > 0) {
    lua_pushnumber(L, (double)queue_ns / 1e9);
    lua_setfield(L, -2, "queue");
  }
  if (r.replay_safe) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "replay_safe");
  }
  return 2;
}

static const char *push_lower(lua_State *L, const char *s, const char *end) {
  char small[256];
  size_t len = (size_t)(end - s);
  if (len > sizeof small) len = sizeof small; /* no such name exists */
  for (size_t i = 0; i < len; i++)
    small[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] - 'A' + 'a' : s[i]);
  lua_pushlstring(L, small, len);
  return end;
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Adds the line's name and value to the table at the top; lines that have no
 * colon (the status line) are left out. */
static int push_line(lua_State *L, const char *s, const char *end, int count) {
  const char *colon = memchr(s, ':', (size_t)(end - s));
  if (!colon) return count;
  const char *value = colon + 1;
  while (value < end && is_blank(*value)) value++;
  while (end > value && is_blank(end[-1])) end--;
  (void)push_lower(L, s, colon);
  lua_rawseti(L, -2, ++count);
  lua_pushlstring(L, value, (size_t)(end - value));
  lua_rawseti(L, -2, ++count);
  return count;
}

/* core.http_headers(raw) -> {name, value, ...}, names in lower case */
static int l_headers(lua_State *L) {
  const struct meta *m = luaL_checkudata(L, 1, meta_class);
  const char *s = m->head, *end = m->head + m->head_len;
  int count = 0;
  bool first = true;
  lua_createtable(L, 16, 0);
  while (s < end) {
    const char *eol = memchr(s, '\n', (size_t)(end - s));
    const char *next = eol ? eol + 1 : end;
    if (!first) count = push_line(L, s, next, count);
    first = false;
    s = next;
  }
  return 1;
}

/* core.http_header(raw, name) -> value of the first such header, or nil */
static int l_header(lua_State *L) {
  const struct meta *m = luaL_checkudata(L, 1, meta_class);
  const char *s = m->head, *end = m->head + m->head_len;
  size_t len;
  const char *name = luaL_checklstring(L, 2, &len);
  while (s < end) {
    const char *eol = memchr(s, '\n', (size_t)(end - s));
    const char *next = eol ? eol + 1 : end;
    if ((size_t)(next - s) > len && s[len] == ':' &&
        strncasecmp(s, name, len) == 0) {
      lua_createtable(L, 2, 0);
      (void)push_line(L, s, next, 0);
      lua_rawgeti(L, -1, 2);
      return 1;
    }
    s = next;
  }
  return 0;
}

/* Whether a header's name speaks of rate limits or of waiting. */
static bool mentions_limits(const char *s, const char *colon) {
  for (; s < colon; s++) {
    if ((*s | 0x20) != 'r') continue;
    size_t left = (size_t)(colon - s);
    if (left >= 9 && strncasecmp(s, "ratelimit", 9) == 0) return true;
    if (left >= 11 && strncasecmp(s, "retry-after", 11) == 0) return true;
  }
  return false;
}

/* core.http_mentions_limits(raw) -> boolean: most answers do not, and then
 * nobody need make a table of their headers. */
static int l_mentions_limits(lua_State *L) {
  const struct meta *m = luaL_checkudata(L, 1, meta_class);
  const char *s = m->head, *end = m->head + m->head_len;
  bool found = false;
  while (s < end && !found) {
    const char *eol = memchr(s, '\n', (size_t)(end - s));
    const char *colon = memchr(s, ':', (size_t)((eol ? eol : end) - s));
    found = colon && mentions_limits(s, colon);
    s = eol ? eol + 1 : end;
  }
  lua_pushboolean(L, found);
  return 1;
}

/* core.http_timings(raw) -> table of seconds */
static int l_timings(lua_State *L) {
  const struct meta *m = luaL_checkudata(L, 1, meta_class);
  struct np_http_timings t = m->timings;
  if (m->streams) {
    lua_getfenv(L, 1);
    lua_rawgeti(L, -1, 1);
    const struct np_lua_call *ud = lua_touserdata(L, -1);
    t = ud->timings;
    if (ud->call) np_http_call_timings(ud->call, &t);
  }
  lua_createtable(L, 0, 16);
#define FIELD(name)                                                            \
  lua_pushnumber(L, (double)t.name / 1e9);                                     \
  lua_setfield(L, -2, #name)
  FIELD(queue);
  FIELD(dns);
  FIELD(connect);
  FIELD(tls);
  FIELD(send);
  FIELD(first_byte);
  FIELD(download);
  FIELD(total);
#undef FIELD
  lua_pushnumber(L, 0);
  lua_setfield(L, -2, "pace");
  return 1;
}

/* core.http_version(raw) -> "1.0", "1.1" or "2" */
static int l_version(lua_State *L) {
  const struct meta *m = luaL_checkudata(L, 1, meta_class);
  lua_pushstring(L, m->version);
  return 1;
}

static const luaL_Reg functions[] = {
    {"http_headers", l_headers}, {"http_version", l_version},
    {"http_header", l_header},   {"http_mentions_limits", l_mentions_limits},
    {"http_timings", l_timings}, {NULL, NULL}};

static void register_value(lua_State *L, const char *key) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_insert(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void np_open_http_response(lua_State *L, struct np_rt *rt) {
  np_bind_class(L, rt, meta_class, NULL, NULL, NULL);
  np_bind_funcs(L, rt, functions);
  luaL_getmetatable(L, meta_class);
  register_value(L, &meta_key);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "http_response_metatable");
  register_value(L, &response_key);
}
