/* SPDX-License-Identifier: MIT
 * JSON with the members of objects in the order of their names, byte by byte.
 * lua-cjson writes them as lua_next finds them, so this is a writer of our own;
 * everything else is as lua-cjson has it, escapes and rules for arrays
 * included. Only for a value that the survey has let through. */
#include "bind/lua_json.h"

#include "base/buf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char class_name[] = "neap.json.buffer";

enum {
  /* An array with more than SPARSE_SAFE places, of which more than
   * SPARSE_RATIO times as many are holes, is refused; as lua-cjson does. */
  SPARSE_RATIO = 2,
  SPARSE_SAFE = 10,
  KEPT_BYTES = 256 * 1024,
  KEY_BYTES = 32
};

struct writer {
  lua_State *L;
  const struct np_json_guard *guard;
  struct np_buf *out;
};

/* A member of an object: its key as it is written. */
struct member {
  const char *name; /* a Lua string that the table anchors, or NULL: digits */
  size_t len;
  double number;
  char digits[KEY_BYTES];
};

static void put(struct writer *w, const char *data, size_t len) {
  if (np_buf_append(w->out, data, len) < 0)
    (void)luaL_error(w->L, "not enough memory");
}

static void put_string(struct writer *w, const char *text, size_t len) {
  static const char hex[] = "0123456789abcdef";
  put(w, "\"", 1);
  for (size_t i = 0, from = 0; i <= len; i++) {
    unsigned char c = i < len ? (unsigned char)text[i] : 0;
    char escape[6] = {'\\', 0};
    size_t escape_len = 2;
    if (i < len && c >= 0x20 && c != '"' && c != '\\' && c != '/' && c != 0x7f)
      continue;
    put(w, text + from, i - from);
    from = i + 1;
    if (i == len) break;
    switch (c) {
    case '"':
    case '\\':
    case '/':
      escape[1] = (char)c;
      break;
    case '\b':
      escape[1] = 'b';
      break;
    case '\f':
      escape[1] = 'f';
      break;
    case '\n':
      escape[1] = 'n';
      break;
    case '\r':
      escape[1] = 'r';
      break;
    case '\t':
      escape[1] = 't';
      break;
    default:
      memcpy(escape, "\\u00", 4);
      escape[4] = hex[c >> 4];
      escape[5] = hex[c & 15];
      escape_len = 6;
    }
    put(w, escape, escape_len);
  }
  put(w, "\"", 1);
}

/* -- Tables ---------------------------------------------------------------- */

/* The length of the table at the top as an array; -1: it is an object. */
static double array_length(lua_State *L, size_t *count) {
  double max = 0;
  bool is_array = true;
  *count = 0;
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    lua_pop(L, 1);
    ++*count;
    double key = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
    if (key < 1 || key != floor(key))
      is_array = false;
    else if (key > max)
      max = key;
  }
  return is_array && *count > 0 ? max : -1;
}

static int by_name(const void *left, const void *right) {
  const struct member *a = left, *b = right;
  const char *a_name = a->name ? a->name : a->digits;
  const char *b_name = b->name ? b->name : b->digits;
  int order = memcmp(a_name, b_name, a->len < b->len ? a->len : b->len);
  if (order != 0) return order;
  if (a->len != b->len) return a->len < b->len ? -1 : 1;
  return (a->name != NULL) - (b->name != NULL); /* 1 before "1" */
}

/* Pushes the members of the table at index, sorted, as a userdata. */
static struct member *push_members(lua_State *L, int index, size_t count) {
  struct member *members =
      lua_newuserdata(L, (count > 0 ? count : 1) * sizeof *members);
  struct member *m = members;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    lua_pop(L, 1);
    if (lua_type(L, -1) == LUA_TSTRING) {
      m->name = lua_tolstring(L, -1, &m->len);
    } else {
      m->name = NULL;
      m->number = lua_tonumber(L, -1);
      m->len =
          (size_t)snprintf(m->digits, sizeof m->digits, "%.14g", m->number);
    }
    m++;
  }
  qsort(members, count, sizeof *members, by_name);
  return members;
}

static void put_value(struct writer *w);

static void put_object(struct writer *w, size_t count) {
  lua_State *L = w->L;
  int table = lua_gettop(L);
  struct member *members = push_members(L, table, count);
  put(w, "{", 1);
  for (size_t i = 0; i < count; i++) {
    const struct member *m = &members[i];
    if (i > 0) put(w, ",", 1);
    put_string(w, m->name ? m->name : m->digits, m->len);
    put(w, ":", 1);
    if (m->name)
      lua_pushlstring(L, m->name, m->len);
    else
      lua_pushnumber(L, m->number);
    lua_rawget(L, table);
    put_value(w);
    lua_pop(L, 1);
  }
  put(w, "}", 1);
  lua_settop(L, table);
}

static void put_array(struct writer *w, double length) {
  put(w, "[", 1);
  for (int i = 1; i <= (int)length; i++) {
    if (i > 1) put(w, ",", 1);
    lua_rawgeti(w->L, -1, i);
    put_value(w);
    lua_pop(w->L, 1);
  }
  put(w, "]", 1);
}

static void put_table(struct writer *w) {
  lua_State *L = w->L;
  size_t count;
  luaL_checkstack(L, 8, "JSON");
  double length = array_length(L, &count);
  if (count == 0 && np_json_is_array(L, -1, w->guard))
    put(w, "[]", 2);
  else if (length < 0)
    put_object(w, count);
  else if (length > (double)count * SPARSE_RATIO && length > SPARSE_SAFE)
    (void)luaL_error(L, "Cannot serialise table: excessively sparse array");
  else
    put_array(w, length);
}

/* The value at the top; leaves it there. */
static void put_value(struct writer *w) {
  lua_State *L = w->L;
  size_t len;
  const char *text;
  char digits[NP_JSON_NUMBER_BYTES];
  switch (lua_type(L, -1)) {
  case LUA_TSTRING:
    text = lua_tolstring(L, -1, &len);
    put_string(w, text, len);
    break;
  case LUA_TNUMBER:
    put(w, digits, np_json_print_number(digits, lua_tonumber(L, -1)));
    break;
  case LUA_TBOOLEAN:
    text = lua_toboolean(L, -1) ? "true" : "false";
    put(w, text, strlen(text));
    break;
  case LUA_TTABLE:
    put_table(w);
    break;
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, -1) == np_json_empty_array) {
      put(w, "[]", 2);
      break;
    }
    put(w, "null", 4);
    break;
  default:
    put(w, "null", 4); /* nil; all else was refused */
  }
}

/* -- The function ---------------------------------------------------------- */

int np_json_write_sorted(lua_State *L) {
  struct writer w = {.L = L,
                     .guard = lua_touserdata(L, 2),
                     .out = luaL_checkudata(L, 3, class_name)};
  np_buf_clear(w.out);
  lua_settop(L, 1);
  put_value(&w);
  lua_pushlstring(L, w.out->len ? w.out->data : "", w.out->len);
  if (w.out->capacity > KEPT_BYTES) np_buf_fini(w.out);
  return 1;
}

static int buffer_gc(lua_State *L) {
  np_buf_fini(lua_touserdata(L, 1));
  return 0;
}

void np_json_push_buffer(lua_State *L) {
  if (luaL_newmetatable(L, class_name)) {
    lua_pushcfunction(L, buffer_gc);
    lua_setfield(L, -2, "__gc");
  }
  struct np_buf *b = lua_newuserdata(L, sizeof *b);
  memset(b, 0, sizeof *b);
  lua_insert(L, -2);
  lua_setmetatable(L, -2);
}
