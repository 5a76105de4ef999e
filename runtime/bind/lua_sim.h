/* SPDX-License-Identifier: MIT
 * Shared by the files that bind the simulated network: what it keeps for Lua,
 * and the heads of answers. */
#ifndef NP_LUA_SIM_H
#define NP_LUA_SIM_H

#include "base/buf.h"
#include "bind/bind.h"

enum { NP_SIM_UPCALLS = 5 };

struct np_lua_sim {
  struct np_rt *rt;
  struct np_sim *sim;          /* owned by the http engine */
  int upcalls[NP_SIM_UPCALLS]; /* registry references */
  int traceback, answer;       /* and of two functions in C */
  struct np_buf head;          /* the lines of one head */
  uint64_t date_s;             /* wall time of date */
  char date[40];
};

/* The network of this state; raises when there is none. */
struct np_lua_sim *np_lua_check_sim(lua_State *L);

/* Argument 1 as the number of a slot. */
uint32_t np_lua_check_slot(lua_State *L);

/* core.sim_body_of and the like: lua_sim_request.c */
extern const luaL_Reg np_lua_sim_request[];

/* Builds the head of an answer with the headers at idx (a map of names and
 * values, a flat list of them, or nothing) in side->head. length: of the body;
 * UINT64_MAX: it comes in chunks. Returns whether the connection closes behind
 * it; raises on misuse. */
bool np_lua_build_head(lua_State *L, struct np_lua_sim *side, int status,
                       int idx, uint64_t length);

/* Pushes the path and query of "https://host:port/path?query#fragment". */
void np_lua_push_target(lua_State *L, const char *url, size_t len);

#endif
