/* SPDX-License-Identifier: MIT
 * What the two halves of neap.json share. lua-cjson does the work; around it
 * stands what it gets wrong or leaves open (Debian's 2.1.0): see lua_json.c for
 * decoding and lua_json_encode.c for encoding.
 *
 * Both halves use one trick for what lua-cjson cannot express (a number of 15
 * to 17 digits, an integer beyond 2^53, an empty array): it travels through
 * lua-cjson as a string "<mark><text>" and is put right on the other side. The
 * mark is random, never leaves the runtime, and so is in no user's string. */
#ifndef NP_LUA_JSON_H
#define NP_LUA_JSON_H

#include "bind/bind.h"

enum { NP_JSON_MARK_LEN = 22, NP_JSON_NUMBER_BYTES = 32 };

/* Upvalues of the functions of neap.json. */
enum {
  NP_JSON_GUARD = 1,   /* struct np_json_guard, userdata */
  NP_JSON_CODEC,       /* lua-cjson's encode or decode */
  NP_JSON_LARGE_CODEC, /* encode only: an instance that keeps no buffer */
  NP_JSON_SORTED,      /* encode only: np_json_write_sorted */
  NP_JSON_BUFFER,      /* encode only: np_json_push_buffer's */
  NP_JSON_UPVALUES = NP_JSON_BUFFER
};

struct np_json_guard {
  char mark[NP_JSON_MARK_LEN]; /* "neap:" 16 hex digits ":" */
  const void *array_class;     /* the metatable of neap.json.array */
  bool sort_keys;              /* always, whatever the caller says */
};

static inline struct np_json_guard *np_json_guard(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(NP_JSON_GUARD));
}

/* Whether the table at index is marked as an array. */
bool np_json_is_array(lua_State *L, int index, const struct np_json_guard *g);

/* neap.json.empty_array is this address as light userdata. */
extern const char np_json_empty_array[];

/* core.json_encode(value, options) -> string | nil, err */
int np_json_encode(lua_State *L);
/* core.json_sort_keys(on) -> what it was */
int np_json_sort_keys(lua_State *L);
/* Prints the fewest digits that give d back. Returns their number. */
size_t np_json_print_number(char out[NP_JSON_NUMBER_BYTES], double d);

/* lua_json_sorted.c */

/* A Lua function: (surveyed value, guard, buffer) -> text; raises for what
 * lua-cjson refuses too. */
int np_json_write_sorted(lua_State *L);
/* Pushes the buffer it writes to. */
void np_json_push_buffer(lua_State *L);

#endif
