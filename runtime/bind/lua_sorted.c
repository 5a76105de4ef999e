/* SPDX-License-Identifier: MIT
 * The keys of a table in an order that does not depend on the machine: numbers
 * by size, strings by their bytes, false, true. Under neap.sorted_pairs and the
 * pairs and next of simulated scripts. */
#include "bind/bind.h"

#include <stdlib.h>
#include <string.h>

enum rank { RANK_NUMBER, RANK_STRING, RANK_BOOLEAN };

struct key {
  enum rank rank;
  double number;    /* a boolean: 0 or 1 */
  const char *text; /* borrowed from the table */
  size_t len;
};

/* Reads the key at index. False: it has no order. */
static bool read_key(lua_State *L, int index, struct key *k) {
  switch (lua_type(L, index)) {
  case LUA_TNUMBER:
    k->rank = RANK_NUMBER;
    k->number = lua_tonumber(L, index);
    return true;
  case LUA_TSTRING:
    k->rank = RANK_STRING;
    k->text = lua_tolstring(L, index, &k->len);
    return true;
  case LUA_TBOOLEAN:
    k->rank = RANK_BOOLEAN;
    k->number = lua_toboolean(L, index);
    return true;
  default:
    return false;
  }
}

static int compare(const void *left, const void *right) {
  const struct key *a = left, *b = right;
  if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
  if (a->rank != RANK_STRING)
    return (a->number > b->number) - (a->number < b->number);
  int order = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
  return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

static void push_key(lua_State *L, const struct key *k) {
  if (k->rank == RANK_STRING)
    lua_pushlstring(L, k->text, k->len);
  else if (k->rank == RANK_NUMBER)
    lua_pushnumber(L, k->number);
  else
    lua_pushboolean(L, k->number != 0);
}

/* nil and the type of the key at index */
static int refuse(lua_State *L, int index) {
  const char *type = luaL_typename(L, index);
  lua_pushnil(L);
  lua_pushstring(L, type);
  return 2;
}

static size_t count_keys(lua_State *L) {
  size_t count = 0;
  lua_pushnil(L);
  for (; lua_next(L, 1) != 0; count++) lua_pop(L, 1);
  return count;
}

/* core.sorted_keys(t) -> array, count | nil, type of a key without an order */
static int l_sorted_keys(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  size_t count = count_keys(L), n = 0;
  struct key *keys = lua_newuserdata(L, (count + 1) * sizeof *keys);
  bool sorted = true;
  lua_pushnil(L);
  while (lua_next(L, 1) != 0) {
    lua_pop(L, 1);
    if (!read_key(L, -1, &keys[n])) return refuse(L, -1);
    if (n > 0 && compare(&keys[n - 1], &keys[n]) > 0) sorted = false;
    n++;
  }
  if (!sorted) qsort(keys, n, sizeof *keys, compare);
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    push_key(L, &keys[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  lua_pushnumber(L, (lua_Number)n);
  return 2;
}

/* core.least_key(t) -> key | nil for an empty table | nil, type of a key
 * without an order */
static int l_least_key(lua_State *L) {
  struct key least = {0}, key = {0};
  bool found = false;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_pushnil(L);
  while (lua_next(L, 1) != 0) {
    lua_pop(L, 1);
    if (!read_key(L, -1, &key)) return refuse(L, -1);
    if (!found || compare(&key, &least) < 0) least = key;
    found = true;
  }
  if (!found) return 0;
  push_key(L, &least);
  return 1;
}

static const luaL_Reg functions[] = {
    {"sorted_keys", l_sorted_keys}, {"least_key", l_least_key}, {NULL, NULL}};

void np_open_sorted(lua_State *L, struct np_rt *rt) {
  np_bind_funcs(L, rt, functions);
}
