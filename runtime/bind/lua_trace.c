/* SPDX-License-Identifier: MIT
 * The trace of a run: opening, closing, and events that Lua has to tell. */
#include "bind/bind.h"

#include "base/trace.h"

#include <stdlib.h>
#include <string.h>

/* Closes the trace if one is open. Returns 0 or errno. */
static int close_trace(struct np_rt *rt, uint64_t *lines) {
  struct np_trace *t = rt->loop->trace;
  if (!t) return 0;
  rt->loop->trace = NULL;
  int error = np_trace_close(t);
  *lines = t->lines;
  free(t);
  return error;
}

void np_close_trace(struct np_rt *rt) {
  uint64_t lines;
  int error = rt->loop ? close_trace(rt, &lines) : 0;
  if (error != 0)
    np_logf(&rt->log, NP_LOG_ERROR, "the trace is not complete: %s",
            strerror(error));
}

/* core.trace_open(path) -> true | nil, message. An open trace is closed. */
static int l_open(lua_State *L) {
  struct np_rt *rt = np_bind_rt(L);
  const char *path = luaL_checkstring(L, 1);
  np_close_trace(rt);
  struct np_trace *t = calloc(1, sizeof *t);
  if (!t) return luaL_error(L, "not enough memory");
  int error = np_trace_open(t, path, &rt->clock);
  if (error != 0) {
    free(t);
    lua_pushnil(L);
    lua_pushstring(L, strerror(error));
    return 2;
  }
  rt->loop->trace = t;
  lua_pushboolean(L, true);
  return 1;
}

/* core.trace_close() -> lines | nil, message. 0 when none is open. */
static int l_close(lua_State *L) {
  uint64_t lines = 0;
  int error = close_trace(np_bind_rt(L), &lines);
  if (error != 0) {
    lua_pushnil(L);
    lua_pushstring(L, strerror(error));
    return 2;
  }
  lua_pushnumber(L, (lua_Number)lines);
  return 1;
}

/* core.trace(what, members): one event; members is JSON without its braces. */
static int l_trace(lua_State *L) {
  struct np_trace *t = np_bind_rt(L)->loop->trace;
  const char *what = luaL_checkstring(L, 1);
  size_t len;
  const char *members = luaL_optlstring(L, 2, "", &len);
  if (!t) return 0;
  np_trace_begin(t, what);
  np_trace_raw(t, members, len);
  np_trace_end(t);
  return 0;
}

/* core.is_traced() -> whether a trace is open */
static int l_is_traced(lua_State *L) {
  lua_pushboolean(L, np_bind_rt(L)->loop->trace != NULL);
  return 1;
}

static const luaL_Reg functions[] = {{"trace_open", l_open},
                                     {"trace_close", l_close},
                                     {"trace", l_trace},
                                     {"is_traced", l_is_traced},
                                     {NULL, NULL}};

void np_open_trace(lua_State *L, struct np_rt *rt) {
  np_bind_funcs(L, rt, functions);
}
