/* SPDX-License-Identifier: MIT
 * The error kinds and the metatable of error tables, for lua/neap/error.lua. */
#include "bind/bind.h"

void np_open_errors(lua_State *L, struct np_rt *rt) {
  (void)rt;
  lua_newtable(L);
#define X(id, name, retryable)                                                 \
  lua_pushboolean(L, retryable);                                               \
  lua_setfield(L, -2, name);
  NP_ERR_MAP(X)
#undef X
  lua_setfield(L, -2, "error_kinds");
  np_push_error_metatable(L);
  lua_setfield(L, -2, "error_metatable");
}
