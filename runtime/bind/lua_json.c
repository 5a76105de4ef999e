/* SPDX-License-Identifier: MIT
 * neap.json: lua-cjson behind guards; this file has the decoding half.
 * lua-cjson 2.1.0 accepts NaN, Infinity, hexadecimal numbers, 1e400 and invalid
 * UTF-8, rounds integers beyond 2^53 and makes [] an object. So a text is first
 * scanned (base/jsonscan), and what lua-cjson would get wrong is refused or
 * takes the way of marks (lua_json.h). */
#include "bind/lua_json.h"

#include "base/buf.h"
#include "base/jsonscan.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

int luaopen_cjson(lua_State *L); /* lua-cjson installs no usable header */

enum { MAX_TEXT = 1 << 30 }; /* lua-cjson counts in an int */

const char np_json_empty_array[] = "[]"; /* the address counts */

/* -- Decoding -------------------------------------------------------------- */

static int fail(lua_State *L, const char *problem, size_t at) {
  int count = np_fail(L, NP_E_DECODE, NULL, "not JSON: %s at byte %zu", problem,
                      at + 1);
  lua_pushnumber(L, (lua_Number)(at + 1));
  lua_setfield(L, -2, "position");
  return count;
}

struct rewrite {
  const struct np_json_guard *guard;
  const char *from; /* what is not copied yet */
  char *out;
};

static void put(struct rewrite *r, const void *data, size_t len) {
  memcpy(r->out, data, len);
  r->out += len;
}

static void put_marked(void *ud, enum np_json_event event,
                       const struct np_json_span *span) {
  struct rewrite *r = ud;
  if (event == NP_JSON_MEMBER) return;
  bool is_array = event == NP_JSON_EMPTY_ARRAY;
  put(r, r->from, (size_t)(span->value - r->from));
  r->from = span->value + span->value_len;
  put(r, is_array ? "[\"" : "\"", is_array ? 2 : 1);
  put(r, r->guard->mark, NP_JSON_MARK_LEN);
  if (!is_array) put(r, span->value, span->value_len);
  put(r, is_array ? "\"]" : "\"", is_array ? 2 : 1);
}

/* Pushes text with its wide integers as "<mark>digits" and its empty arrays as
 * ["<mark>"]. */
static void push_marked(lua_State *L, const struct np_json_scan *scanned,
                        const char *text, size_t len) {
  size_t marks = scanned->wide_integers + scanned->empty_arrays;
  char *buffer = lua_newuserdata(L, len + marks * (NP_JSON_MARK_LEN + 4));
  struct rewrite r = {np_json_guard(L), text, buffer};
  struct np_json_scan again = {.visit = put_marked, .ud = &r};
  (void)np_json_scan(&again, text, len); /* it was JSON before */
  put(&r, r.from, (size_t)(text + len - r.from));
  lua_pushlstring(L, buffer, (size_t)(r.out - buffer));
  lua_remove(L, -2);
}

static bool is_marked(lua_State *L, const struct np_json_guard *g,
                      size_t *len) {
  if (lua_type(L, -1) != LUA_TSTRING) return false;
  const char *s = lua_tolstring(L, -1, len);
  return *len >= NP_JSON_MARK_LEN && memcmp(s, g->mark, NP_JSON_MARK_LEN) == 0;
}

/* Puts the decoded value at the top right again. */
static void unmark(lua_State *L, const struct np_json_guard *g) {
  size_t len;
  if (is_marked(L, g, &len)) {
    const char *digits = lua_tostring(L, -1) + NP_JSON_MARK_LEN;
    lua_pushlstring(L, digits, len - NP_JSON_MARK_LEN);
    lua_replace(L, -2);
    return;
  }
  if (lua_type(L, -1) != LUA_TTABLE) return;
  luaL_checkstack(L, 8, "JSON");
  lua_rawgeti(L, -1, 1);
  bool is_empty_array = is_marked(L, g, &len) && len == NP_JSON_MARK_LEN;
  lua_pop(L, 1);
  if (is_empty_array) {
    lua_pushnil(L);
    lua_rawseti(L, -2, 1);
    luaL_getmetatable(L, "neap.json.array");
    lua_setmetatable(L, -2);
    return;
  }
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    if (lua_type(L, -1) == LUA_TTABLE) {
      unmark(L, g);
    } else if (is_marked(L, g, &len)) {
      unmark(L, g);
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, -4); /* an existing key: lua_next goes on */
      continue;
    }
    lua_pop(L, 1);
  }
}

static int l_decode(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  lua_settop(L, 1);
  size_t len;
  const char *text = lua_tolstring(L, 1, &len);
  struct np_json_scan s = {.visit = NULL};
  if (len > MAX_TEXT)
    return np_fail(L, NP_E_TOO_LARGE, NULL, "more than 1 GB of JSON");
  if (!np_json_scan(&s, text, len)) return fail(L, s.problem, s.at);
  if (s.huge_number != NP_JSON_NOWHERE)
    return fail(L, "a number beyond the range of a double", s.huge_number);
  if (s.lone_surrogate != NP_JSON_NOWHERE)
    return fail(L, "half a surrogate pair", s.lone_surrogate);
  bool marks = s.wide_integers + s.empty_arrays > 0;
  lua_pushvalue(L, lua_upvalueindex(NP_JSON_CODEC));
  if (marks)
    push_marked(L, &s, text, len);
  else
    lua_pushvalue(L, 1);
  int rc = lua_pcall(L, 1, 1, 0);
  if (rc == LUA_ERRMEM) return lua_error(L);
  if (rc != 0)
    return np_fail(L, NP_E_DECODE, NULL, "not JSON: %s", lua_tostring(L, -1));
  if (marks) unmark(L, np_json_guard(L));
  return 1;
}

/* -- Texts as bytes -------------------------------------------------------- */

static void put_member(void *ud, enum np_json_event event,
                       const struct np_json_span *span) {
  lua_State *L = ud;
  if (event != NP_JSON_MEMBER) return;
  if (span->key_escaped) {
    char *key = lua_newuserdata(L, span->key_len);
    size_t len = np_json_unescape(key, span->key, span->key_len);
    lua_pushlstring(L, key, len);
    lua_remove(L, -2);
  } else {
    lua_pushlstring(L, span->key, span->key_len);
  }
  lua_pushlstring(L, span->value, span->value_len);
  lua_rawset(L, -3);
}

static int fail_text(lua_State *L, const char *problem, size_t at) {
  lua_pushnil(L);
  lua_pushfstring(L, "%s at byte %d", problem, (int)at + 1);
  return 2;
}

static int l_members(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  size_t len;
  const char *text = lua_tolstring(L, 1, &len);
  lua_newtable(L);
  struct np_json_scan s = {.visit = put_member, .ud = L};
  if (!np_json_scan(&s, text, len)) return fail_text(L, s.problem, s.at);
  size_t first = strspn(text, " \t\r\n");
  if (text[first] != '{') return fail_text(L, "not an object", first);
  return 1;
}

static int l_valid(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  size_t len;
  const char *text = lua_tolstring(L, 1, &len);
  struct np_json_scan s = {.visit = NULL};
  bool valid = np_json_scan(&s, text, len);
  lua_pushboolean(L, valid);
  if (valid) return 1;
  lua_pushfstring(L, "%s at byte %d", s.problem, (int)s.at + 1);
  return 2;
}

static int l_clean(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  lua_settop(L, 1);
  size_t len;
  const char *text = lua_tolstring(L, 1, &len);
  if (np_utf8_valid(text, len) == len) return 1;
  struct np_buf out = {0};
  if (np_utf8_clean(&out, text, len) < 0) {
    np_buf_fini(&out);
    return luaL_error(L, "not enough memory");
  }
  lua_pushlstring(L, out.data, out.len);
  np_buf_fini(&out);
  return 1;
}

/* Marks a table as an array: encoded as [] also when it is empty. */
static int l_array(lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    lua_settop(L, 0);
    lua_newtable(L);
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  if (lua_getmetatable(L, 1) &&
      lua_topointer(L, -1) != np_json_guard(L)->array_class)
    return luaL_argerror(L, 1, "the table has a metatable of its own");
  lua_settop(L, 1);
  luaL_getmetatable(L, "neap.json.array");
  lua_setmetatable(L, 1);
  return 1;
}

/* -- Opening --------------------------------------------------------------- */

/* Pushes a strict lua-cjson instance. */
static void push_cjson(lua_State *L, int module, bool keep_buffer) {
  lua_getfield(L, module, "new");
  lua_call(L, 0, 1);
  lua_getfield(L, -1, "decode_invalid_numbers");
  lua_pushboolean(L, false);
  lua_call(L, 1, 0);
  lua_getfield(L, -1, "encode_keep_buffer");
  lua_pushboolean(L, keep_buffer);
  lua_call(L, 1, 0);
}

static void push_guard(lua_State *L) {
  struct np_json_guard *g = lua_newuserdata(L, sizeof *g);
  char mark[NP_JSON_MARK_LEN + 1];
  (void)snprintf(mark, sizeof mark,
                 "neap:%016llx:", (unsigned long long)np_rng_entropy());
  memcpy(g->mark, mark, NP_JSON_MARK_LEN);
  luaL_newmetatable(L, "neap.json.array");
  lua_pushliteral(L, "neap.json.array");
  lua_setfield(L, -2, "__name");
  g->array_class = lua_topointer(L, -1);
  g->sort_keys = false;
  lua_pop(L, 1);
}

/* Adds fn to the table at `core`, with the guard, a codec and the large one
 * from the cjson instances at guard + 1 and guard + 2, then what sorts. */
static void add(lua_State *L, int core, int guard, const char *name,
                lua_CFunction fn, const char *codec) {
  lua_pushvalue(L, guard);
  lua_getfield(L, guard + 1, codec);
  lua_getfield(L, guard + 2, codec);
  lua_pushvalue(L, guard + 3);
  lua_pushvalue(L, guard + 4);
  lua_pushcclosure(L, fn, NP_JSON_UPVALUES);
  lua_setfield(L, core, name);
}

void np_open_json(lua_State *L, struct np_rt *rt) {
  (void)rt;
  int core = lua_gettop(L);
  lua_pushcfunction(L, luaopen_cjson);
  lua_call(L, 0, 1);
  lua_getfield(L, -1, "_VERSION");
  lua_pushvalue(L, core);
  np_bind_version(L, "lua-cjson", lua_tostring(L, -2));
  lua_pop(L, 2);
  push_guard(L);
  int guard = core + 2;
  push_cjson(L, core + 1, true);
  push_cjson(L, core + 1, false);
  lua_pushcfunction(L, np_json_write_sorted);
  np_json_push_buffer(L);
  add(L, core, guard, "json_encode", np_json_encode, "encode");
  add(L, core, guard, "json_sort_keys", np_json_sort_keys, "encode");
  add(L, core, guard, "json_decode", l_decode, "decode");
  add(L, core, guard, "json_array", l_array, "decode");
  add(L, core, guard, "json_members", l_members, "decode");
  add(L, core, guard, "json_valid", l_valid, "decode");
  add(L, core, guard, "utf8_clean", l_clean, "decode");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, core, "json_null");
  lua_pushlightuserdata(L, (void *)np_json_empty_array);
  lua_setfield(L, core, "json_empty_array");
  lua_settop(L, core);
}
