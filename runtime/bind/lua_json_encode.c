/* SPDX-License-Identifier: MIT
 * The encoding half of neap.json. lua-cjson 2.1.0 prints 14 digits of a number
 * (its maximum), cannot write [], writes invalid UTF-8 as it is, and loops for
 * ever or exits when its buffer passes 2 GB (CVE-2022-24834, mpx/lua-cjson#92).
 * So a value is surveyed first: what cannot be JSON is refused with its place,
 * and only a value with such a number or array takes the way of marks. */
#include "bind/lua_json.h"

#include "base/jsonscan.h"
#include "base/utf8.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  /* lua-cjson makes room for 6 bytes of output a byte: at 100 MB it stays well
   * below 2 GB, and the default of max_body is the same. */
  MAX_BYTES = 100 * 1000 * 1000,
  LARGE_BYTES = 256 * 1024, /* beyond, the buffer is not kept */
  MAX_KEY = INT32_MAX,      /* lua-cjson counts array places in an int */
  NUMBER_BYTES = NP_JSON_NUMBER_BYTES,
  PATH_BYTES = 160
};

/* Up to here every integer is a double. */
static const double EXACT = 9007199254740992.0;

struct survey {
  lua_State *L;
  const struct np_json_guard *guard;
  size_t bytes; /* about the size of the output, without escapes */
  bool marks;   /* something needs a mark */
  int code;
  const char *problem;
  char path[PATH_BYTES]; /* to the problem: ".messages[2].content" */
};

/* -- Numbers --------------------------------------------------------------- */

/* Whether 14 digits give d back, an integer without an exponent. */
static bool is_short(double d) {
  if (d == floor(d) && fabs(d) <= EXACT) return fabs(d) < 1e14;
  /* The usual case, few decimals: k / scale is rounded correctly, so d is the
   * double next to a decimal of at most 14 digits. */
  double scale = fabs(d) < 100 ? 1e12 : 1e6, k = nearbyint(d * scale);
  if (fabs(k) < 1e14 && k / scale == d) return true;
  char text[NUMBER_BYTES];
  (void)snprintf(text, sizeof text, "%.14g", d);
  return strtod(text, NULL) == d;
}

/* JSON whatever the locale. Beyond 2^53 never like an integer: decoding would
 * take it for one that is exact. */
size_t np_json_print_number(char out[NUMBER_BYTES], double d) {
  if (d == floor(d) && fabs(d) <= EXACT)
    return (size_t)snprintf(out, NUMBER_BYTES, "%.0f", d);
  for (int digits = 15; digits <= 17; digits++) {
    (void)snprintf(out, NUMBER_BYTES, "%.*g", digits, d);
    if (strtod(out, NULL) == d) break;
  }
  bool is_integer = true;
  size_t len = 0;
  for (; out[len]; len++) {
    if (!strchr("0123456789+-e", out[len])) out[len] = '.';
    if (out[len] == '.' || out[len] == 'e') is_integer = false;
  }
  if (is_integer) {
    memcpy(out + len, ".0", 3);
    len += 2;
  }
  return len;
}

/* -- The survey ------------------------------------------------------------ */

static bool refuse(struct survey *s, int code, const char *problem) {
  s->code = code;
  s->problem = problem;
  return false;
}

static bool refuse_value(struct survey *s, const char *problem) {
  return refuse(s, NP_E_INVALID, problem);
}

static bool count(struct survey *s, size_t bytes) {
  s->bytes += bytes;
  return s->bytes <= MAX_BYTES ||
         refuse(s, NP_E_TOO_LARGE, "more than 100 MB of JSON");
}

/* Puts the key at index in front of the path, as far as there is room. */
static void add_to_path(struct survey *s, int index) {
  char step[64];
  if (lua_type(s->L, index) == LUA_TNUMBER)
    (void)snprintf(step, sizeof step, "[%.14g]", lua_tonumber(s->L, index));
  else
    (void)snprintf(step, sizeof step, ".%.60s", lua_tostring(s->L, index));
  size_t more = strlen(step), have = strlen(s->path);
  if (more + have >= sizeof s->path) return;
  memmove(s->path + more, s->path, have + 1);
  memcpy(s->path, step, more);
}

static bool survey_string(struct survey *s, int index) {
  size_t len;
  const char *text = lua_tolstring(s->L, index, &len);
  if (!count(s, len + 4)) return false;
  return np_utf8_valid(text, len) == len ||
         refuse_value(s, "a string that is not valid UTF-8");
}

static bool survey_key(struct survey *s, bool is_array) {
  int type = lua_type(s->L, -2);
  if (type == LUA_TSTRING) {
    if (is_array) return refuse_value(s, "an array with a string as key");
    return survey_string(s, -2);
  }
  if (type != LUA_TNUMBER)
    return refuse_value(s, "a key that is neither string nor number");
  double key = lua_tonumber(s->L, -2);
  if (fabs(key) > MAX_KEY || !is_short(key))
    return refuse_value(s, "a number as key that is too large or has more than "
                           "14 digits: make it a string");
  return count(s, NUMBER_BYTES);
}

bool np_json_is_array(lua_State *L, int index, const struct np_json_guard *g) {
  if (!lua_getmetatable(L, index)) return false;
  bool is = lua_topointer(L, -1) == g->array_class;
  lua_pop(L, 1);
  return is;
}

static bool survey_value(struct survey *s, unsigned depth);

static bool survey_table(struct survey *s, unsigned depth) {
  lua_State *L = s->L;
  if (depth == NP_JSON_MAX_DEPTH)
    return refuse_value(s, "tables nested too deeply, or one within itself");
  if (!lua_checkstack(L, 8))
    return refuse(s, NP_E_LIMIT, "a table for which the stack is too small");
  bool is_array = np_json_is_array(L, -1, s->guard), is_empty = true;
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    is_empty = false;
    if (!survey_key(s, is_array)) {
      if (lua_type(L, -2) == LUA_TNUMBER) add_to_path(s, -2);
      lua_pop(L, 2);
      return false;
    }
    if (!survey_value(s, depth + 1)) {
      add_to_path(s, -2);
      lua_pop(L, 2);
      return false;
    }
    lua_pop(L, 1);
  }
  if (is_array && is_empty) s->marks = true;
  return count(s, 2);
}

/* The value at the top; leaves it there. */
static bool survey_value(struct survey *s, unsigned depth) {
  lua_State *L = s->L;
  switch (lua_type(L, -1)) {
  case LUA_TSTRING:
    return survey_string(s, -1);
  case LUA_TNUMBER: {
    double d = lua_tonumber(L, -1);
    if (!isfinite(d)) return refuse_value(s, "NaN or Infinity");
    if (!s->marks && !is_short(d)) s->marks = true;
    return count(s, NUMBER_BYTES);
  }
  case LUA_TNIL:
  case LUA_TBOOLEAN:
    return count(s, 6);
  case LUA_TTABLE:
    return survey_table(s, depth);
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, -1) == np_json_empty_array)
      s->marks = true;
    else if (lua_touserdata(L, -1))
      return refuse_value(s, "a light userdata");
    return count(s, 6);
  case LUA_TFUNCTION:
    return refuse_value(s, "a function");
  case LUA_TTHREAD:
    return refuse_value(s, "a coroutine");
  case LUA_TUSERDATA:
    return refuse_value(s, "a userdata");
  default:
    return refuse_value(s, "a cdata");
  }
}

/* -- Which failure is told, where keys have an order ------------------------
 */

static int rank(lua_State *L, int index) {
  int type = lua_type(L, index);
  return type == LUA_TNUMBER ? 0 : type == LUA_TSTRING ? 1 : 2;
}

static bool key_before(lua_State *L, int left, int right) {
  int rank_left = rank(L, left), rank_right = rank(L, right);
  if (rank_left != rank_right) return rank_left < rank_right;
  return rank_left < 2 && lua_lessthan(L, left, right);
}

/* The value at the top does not pass. Of the members that do not, the first one
 * by its key is told, wherever lua_next comes upon it. */
static void tell_first(struct survey *s, unsigned depth) {
  lua_State *L = s->L;
  s->path[0] = '\0';
  if (!lua_istable(L, -1) || depth == NP_JSON_MAX_DEPTH ||
      !lua_checkstack(L, 8)) {
    (void)survey_value(s, depth);
    return;
  }
  int table = lua_gettop(L), first = table + 1;
  bool is_array = np_json_is_array(L, table, s->guard);
  lua_pushnil(L); /* the first key */
  lua_pushnil(L);
  while (lua_next(L, table) != 0) {
    struct survey probe = {.L = L, .guard = s->guard};
    if ((!survey_key(&probe, is_array) || !survey_value(&probe, depth + 1)) &&
        (lua_isnil(L, first) || key_before(L, -2, first))) {
      lua_pushvalue(L, -2);
      lua_replace(L, first);
    }
    lua_pop(L, 1);
  }
  if (!lua_isnil(L, first)) { /* else it is their sum that is too large */
    lua_pushvalue(L, first);
    lua_rawget(L, table);
    if (survey_key(s, is_array)) {
      tell_first(s, depth + 1);
      add_to_path(s, -2);
    } else if (lua_type(L, -2) == LUA_TNUMBER) {
      add_to_path(s, -2);
    }
  }
  lua_settop(L, table);
}

/* -- The way of marks ------------------------------------------------------ */

static void push_marked(lua_State *L, const struct np_json_guard *g,
                        const char *text, size_t len) {
  char marked[NP_JSON_MARK_LEN + NUMBER_BYTES];
  memcpy(marked, g->mark, NP_JSON_MARK_LEN);
  memcpy(marked + NP_JSON_MARK_LEN, text, len);
  lua_pushlstring(L, marked, NP_JSON_MARK_LEN + len);
}

static void push_for_codec(lua_State *L, const struct np_json_guard *g,
                           int index);

/* A copy, so that the user's table is never touched. */
static void push_table(lua_State *L, const struct np_json_guard *g, int index) {
  luaL_checkstack(L, 8, "JSON");
  bool is_empty = true;
  lua_createtable(L, (int)lua_objlen(L, index), 0);
  int copy = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    is_empty = false;
    lua_pushvalue(L, copy + 1);
    push_for_codec(L, g, copy + 2);
    lua_rawset(L, copy);
    lua_settop(L, copy + 1); /* the key, for lua_next */
  }
  if (is_empty && np_json_is_array(L, index, g)) {
    push_marked(L, g, "[]", 2);
    lua_replace(L, copy);
  }
}

/* Pushes what lua-cjson writes as the surveyed value at index (absolute). */
static void push_for_codec(lua_State *L, const struct np_json_guard *g,
                           int index) {
  int type = lua_type(L, index);
  if (type == LUA_TNUMBER && !is_short(lua_tonumber(L, index))) {
    char text[NUMBER_BYTES];
    push_marked(L, g, text, np_json_print_number(text, lua_tonumber(L, index)));
  } else if (type == LUA_TLIGHTUSERDATA &&
             lua_touserdata(L, index) == np_json_empty_array) {
    push_marked(L, g, "[]", 2);
  } else if (type == LUA_TTABLE) {
    push_table(L, g, index);
  } else {
    lua_pushvalue(L, index);
  }
}

/* Replaces the JSON at the top by the same with every "<mark>text" as text. */
static void unmark(lua_State *L, const struct np_json_guard *g) {
  char quoted[NP_JSON_MARK_LEN + 1] = "\"";
  memcpy(quoted + 1, g->mark, NP_JSON_MARK_LEN);
  size_t len;
  const char *p = lua_tolstring(L, -1, &len), *end = p + len;
  char *buffer = lua_newuserdata(L, len), *out = buffer;
  for (;;) {
    const char *at = memmem(p, (size_t)(end - p), quoted, sizeof quoted);
    size_t before = (size_t)((at ? at : end) - p);
    memcpy(out, p, before);
    out += before;
    if (!at) break;
    at += sizeof quoted;
    const char *quote = memchr(at, '"', (size_t)(end - at));
    memcpy(out, at, (size_t)(quote - at));
    out += quote - at;
    p = quote + 1;
  }
  lua_pushlstring(L, buffer, (size_t)(out - buffer));
  lua_replace(L, -3);
  lua_pop(L, 1);
}

/* -- The function ---------------------------------------------------------- */

static int fail(lua_State *L, const struct survey *s) {
  if (s->path[0])
    return np_fail(L, s->code, NULL, "cannot encode as JSON: %s at %s",
                   s->problem, s->path);
  return np_fail(L, s->code, NULL, "cannot encode as JSON: %s", s->problem);
}

/* Reads the options at index 2: whether keys are to be sorted. */
static bool read_options(lua_State *L) {
  static const char option[] = "sort_keys";
  if (lua_isnoneornil(L, 2)) return false;
  if (!lua_istable(L, 2)) (void)np_type_error(L, 2, "a table of options");
  lua_settop(L, 2);
  lua_pushnil(L);
  while (lua_next(L, 2) != 0) {
    if (lua_type(L, 3) != LUA_TSTRING || strcmp(lua_tostring(L, 3), option))
      (void)np_misuse(
          L, "neap.json.encode: option '%s' is unknown; there is '%s'",
          lua_type(L, 3) == LUA_TSTRING ? lua_tostring(L, 3) : "?", option);
    if (!lua_isboolean(L, 4))
      (void)np_misuse(L, "neap.json.encode: option '%s' must be a boolean",
                      option);
    lua_pop(L, 1);
  }
  lua_getfield(L, 2, option);
  return lua_toboolean(L, -1);
}

/* The surveyed value at index 1. */
static int encode_sorted(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(NP_JSON_SORTED));
  lua_pushvalue(L, 1);
  lua_pushvalue(L, lua_upvalueindex(NP_JSON_GUARD));
  lua_pushvalue(L, lua_upvalueindex(NP_JSON_BUFFER));
  int rc = lua_pcall(L, 3, 1, 0);
  if (rc == LUA_ERRMEM) return lua_error(L);
  if (rc == 0) return 1;
  return np_fail(L, NP_E_INVALID, NULL, "cannot encode as JSON: %s",
                 lua_tostring(L, -1));
}

int np_json_sort_keys(lua_State *L) {
  struct np_json_guard *g = np_json_guard(L);
  bool was = g->sort_keys;
  g->sort_keys = lua_toboolean(L, 1);
  lua_pushboolean(L, was);
  return 1;
}

int np_json_encode(lua_State *L) {
  luaL_checkany(L, 1);
  struct survey s = {.L = L, .guard = np_json_guard(L)};
  bool sorted = read_options(L) || s.guard->sort_keys;
  lua_settop(L, 1);
  if (!survey_value(&s, 0)) {
    if (sorted) tell_first(&s, 0);
    return fail(L, &s);
  }
  if (sorted) return encode_sorted(L);
  bool is_large = s.bytes > LARGE_BYTES;
  lua_pushvalue(
      L, lua_upvalueindex(is_large ? NP_JSON_LARGE_CODEC : NP_JSON_CODEC));
  if (s.marks)
    push_for_codec(L, s.guard, 1);
  else
    lua_pushvalue(L, 1);
  int rc = lua_pcall(L, 1, 1, 0);
  if (rc == LUA_ERRMEM) return lua_error(L);
  if (rc != 0) /* what is left to refuse: an excessively sparse array */
    return np_fail(L, NP_E_INVALID, NULL, "cannot encode as JSON: %s",
                   lua_tostring(L, -1));
  if (s.marks) unmark(L, s.guard);
  return 1;
}
