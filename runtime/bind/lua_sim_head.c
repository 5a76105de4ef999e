/* SPDX-License-Identifier: MIT
 * Heads on the simulated wire: answers' from Lua's headers to the lines of
 * HTTP, requests' targets from their addresses. */
#include "bind/lua_sim.h"

#include <string.h>
#include <time.h>

/* Bytes into the head; raises without memory. */
static void add(lua_State *L, struct np_lua_sim *side, const char *s,
                size_t len) {
  if (np_buf_append(&side->head, s, len) < 0)
    luaL_error(L, "not enough memory for a head");
}

#define ADD(L, side, literal) add(L, side, literal, sizeof literal - 1)

static bool is(const char *a, size_t len, const char *b) {
  for (size_t i = 0; i < len; i++)
    if ((a[i] | 0x20) != b[i]) return false;
  return b[len] == '\0';
}

struct head {
  bool close;
  bool has_date;
};

static void add_line(lua_State *L, struct np_lua_sim *side, struct head *head,
                     const char *name, size_t name_len, int value) {
  size_t len;
  const char *text = lua_tolstring(L, value, &len);
  if (!text) luaL_error(L, "header '%s' must be a string", name);
  if (memchr(text, '\n', len) || memchr(text, '\r', len))
    luaL_error(L, "header '%s' has a line break", name);
  head->has_date |= is(name, name_len, "date");
  head->close |= is(name, name_len, "connection") && is(text, len, "close");
  if (is(name, name_len, "content-length")) return; /* follows from the body */
  add(L, side, name, name_len);
  ADD(L, side, ": ");
  add(L, side, text, len);
  ADD(L, side, "\r\n");
}

static void add_list(lua_State *L, struct np_lua_sim *side, struct head *head,
                     int headers, int count) {
  for (int i = 1; i < count; i += 2) {
    size_t len;
    lua_rawgeti(L, headers, i);
    lua_rawgeti(L, headers, i + 1);
    const char *name = luaL_checklstring(L, -2, &len);
    add_line(L, side, head, name, len, lua_gettop(L));
    lua_pop(L, 2);
  }
}

static void add_values(lua_State *L, struct np_lua_sim *side, struct head *head,
                       const char *name, size_t len) {
  int value = lua_gettop(L);
  if (!lua_istable(L, value)) {
    add_line(L, side, head, name, len, value);
    return;
  }
  for (int i = 1, n = (int)lua_objlen(L, value); i <= n; i++) {
    lua_rawgeti(L, value, i);
    add_line(L, side, head, name, len, value + 1);
    lua_pop(L, 1);
  }
}

/* The order of a table's keys is no matter of chance: by name. */
static void add_map(lua_State *L, struct np_lua_sim *side, struct head *head,
                    int headers) {
  const char *names[64];
  int count = 0;
  for (lua_pushnil(L); lua_next(L, headers) != 0; lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING || count == 64)
      luaL_error(L, "headers must be names and values, at most 64");
    const char *name = lua_tostring(L, -2);
    int at = count++;
    for (; at > 0 && strcmp(names[at - 1], name) > 0; at--)
      names[at] = names[at - 1];
    names[at] = name;
  }
  for (int i = 0; i < count; i++) {
    lua_getfield(L, headers, names[i]);
    add_values(L, side, head, names[i], strlen(names[i]));
    lua_pop(L, 1);
  }
}

/* Servers say what time it is by their clock. */
static void add_date(lua_State *L, struct np_lua_sim *side) {
  uint64_t wall_s = np_clock_wall(&side->rt->clock) / NP_NS_PER_S;
  if (side->date_s != wall_s || !side->date[0]) {
    time_t t = (time_t)wall_s;
    struct tm tm;
    (void)gmtime_r(&t, &tm);
    (void)strftime(side->date, sizeof side->date, "%a, %d %b %Y %H:%M:%S GMT",
                   &tm);
    side->date_s = wall_s;
  }
  ADD(L, side, "date: ");
  add(L, side, side->date, strlen(side->date));
  ADD(L, side, "\r\n");
}

static void add_number(lua_State *L, struct np_lua_sim *side, uint64_t n) {
  char digits[24], *at = digits + sizeof digits;
  do *--at = (char)('0' + n % 10);
  while ((n /= 10) > 0);
  add(L, side, at, (size_t)(digits + sizeof digits - at));
}

bool np_lua_build_head(lua_State *L, struct np_lua_sim *side, int status,
                       int headers, uint64_t length) {
  struct head head = {0};
  np_buf_clear(&side->head);
  ADD(L, side, "HTTP/1.1 ");
  add_number(L, side, (uint64_t)status);
  ADD(L, side, " \r\n");
  luaL_checkstack(L, 8, NULL);
  if (lua_istable(L, headers)) {
    int count = (int)lua_objlen(L, headers);
    if (count > 0)
      add_list(L, side, &head, headers, count);
    else
      add_map(L, side, &head, headers);
  }
  if (!head.has_date) add_date(L, side);
  if (length == UINT64_MAX) {
    ADD(L, side, "transfer-encoding: chunked\r\n");
  } else if (status != 204 && status != 304) {
    ADD(L, side, "content-length: ");
    add_number(L, side, length);
    ADD(L, side, "\r\n");
  }
  ADD(L, side, "\r\n");
  return head.close;
}

void np_lua_push_target(lua_State *L, const char *url, size_t len) {
  const char *end = url + len, *at = memchr(url, '#', len);
  if (at) end = at;
  at = memchr(url, '/', (size_t)(end - url));
  at = at && at + 2 <= end ? at + 2 : end; /* behind the two slashes */
  while (at < end && *at != '/' && *at != '?') at++;
  if (at < end && *at == '/') {
    lua_pushlstring(L, at, (size_t)(end - at));
    return;
  }
  lua_pushliteral(L, "/");
  lua_pushlstring(L, at, (size_t)(end - at));
  lua_concat(L, 2);
}
