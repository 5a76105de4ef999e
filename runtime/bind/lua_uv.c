/* SPDX-License-Identifier: MIT
 * luv on the runtime's loop. luv's callbacks run Lua inside libuv's: the one
 * place where that happens. They run outside any task, so they cannot wait;
 * what they raise ends the program as a task's uncaught error does. */
#include "bind/bind.h"

#include <luv.h>
#include <stdlib.h>
#include <string.h>

static const char state_key[] = "neap.uv";

struct luv {
  struct np_rt *rt;
  bool opened;
  bool closing;    /* callbacks are dropped */
  unsigned closed; /* close callbacks of np_close_uv that have come */
};

static struct luv *state_of(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, state_key);
  struct luv *u = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return u;
}

/* -- Callbacks ------------------------------------------------------------- */

/* The error of a callback is at the top of L; it is taken off. */
static void report(struct luv *u, lua_State *L) {
  struct np_sched *s = &u->rt->sched;
  if (s->uncaught) s->uncaught(s->uncaught_ud, L);
  lua_pop(L, 1);
  np_scope_cancel(s->root);
}

static int call_lua(struct luv *u, lua_State *L, int nargs, int nresults) {
  int base = lua_gettop(L) - nargs; /* the function */
  if (u->closing) {
    lua_settop(L, base - 1);
    return -LUA_ERRRUN;
  }
  lua_getfield(L, LUA_REGISTRYINDEX, "neap.uv.on_error");
  lua_insert(L, base);
  int rc = lua_pcall(L, nargs, nresults, base);
  lua_remove(L, base);
  if (rc == 0) return lua_gettop(L) - base + 1;
  report(u, L);
  return -rc;
}

/* luv's hook instead of its own pcall, which prints and exits. */
static int call_back(lua_State *L, int nargs, int nresults, int flags) {
  struct luv *u = state_of(L);
  (void)flags;
  int rc = call_lua(u, L, nargs, nresults);
  if (u->closing) return rc;
  /* uv_run fires a timer that is due before it polls, and would then block
   * although the callback has made a task ready (libuv 1.44). */
  uv_stop(np_loop_uv(u->rt->loop));
  return rc;
}

/* A callback that is due in the loop's next round. */
struct later {
  struct np_post post;
  struct luv *u;
  int call; /* registry reference: {function, arguments ...} */
  int argc;
};

static void run_later(struct np_post *p) {
  struct later *l = np_container_of(p, struct later, post);
  lua_State *L = l->u->rt->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, l->call);
  int call = lua_gettop(L);
  for (int i = 1; i <= l->argc + 1; i++) lua_rawgeti(L, call, i);
  luaL_unref(L, LUA_REGISTRYINDEX, l->call);
  (void)call_lua(l->u, L, l->argc, 0);
  lua_settop(L, call - 1);
  free(l);
}

/* core.uv_later(fn, ...): calls fn(...), with up to 8 arguments, in the loop's
 * next round, outside any task, as luv calls a callback. In order. */
static int l_later(lua_State *L) {
  struct np_rt *rt = np_bind_rt(L);
  int count = lua_gettop(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (count > 9) return luaL_error(L, "too many arguments");
  lua_createtable(L, count, 0);
  lua_insert(L, 1);
  for (int i = count; i >= 1; i--) lua_rawseti(L, 1, i);
  int call = luaL_ref(L, LUA_REGISTRYINDEX);
  struct later *l = calloc(1, sizeof *l);
  if (!l) {
    luaL_unref(L, LUA_REGISTRYINDEX, call);
    return luaL_error(L, "not enough memory");
  }
  *l = (struct later){.u = state_of(L),
                      .call = call,
                      .argc = count - 1,
                      .post = {.run = run_later}};
  np_list_init(&l->post.link);
  np_loop_post(rt->loop, &l->post);
  return 0;
}

/* -- Opening --------------------------------------------------------------- */

/* core.uv_open(on_error) -> luv's table. on_error(err) -> err is the message
 * handler of callbacks. Called once, by lua/neap/uv.lua, and not at start-up:
 * it takes 0.1 ms, and most scripts do without. */
static int l_open(lua_State *L) {
  struct np_rt *rt = np_bind_rt(L);
  struct luv *u = state_of(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (u->opened) return luaL_error(L, "luv is open: require 'neap.uv'");
  lua_settop(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "neap.uv.on_error");
  luv_set_loop(rt->L, np_loop_uv(rt->loop)); /* callbacks run on rt->L */
  luv_set_callback(rt->L, call_back);
  u->opened = true;
  lua_pushcfunction(L, luaopen_luv);
  lua_call(L, 0, 1);
  return 1;
}

static const luaL_Reg functions[] = {
    {"uv_open", l_open}, {"uv_later", l_later}, {NULL, NULL}};

void np_open_uv(lua_State *L, struct np_rt *rt) {
  struct luv *u = lua_newuserdata(L, sizeof *u);
  *u = (struct luv){.rt = rt};
  lua_setfield(L, LUA_REGISTRYINDEX, state_key);
  np_bind_funcs(L, rt, functions);
  np_bind_version(L, "libuv", uv_version_string());
  np_bind_version(L, "luv", NEAP_LUV_VERSION);
  /* Libraries that ask for luv get this one: a second copy would share the
   * registry with it. */
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  if (luaL_loadstring(L, "return require 'neap.uv'") != 0) lua_error(L);
  lua_setfield(L, -2, "luv");
  lua_pop(L, 2);
}

/* -- Closing --------------------------------------------------------------- */

static void on_closed(uv_handle_t *h) {
  ((struct luv *)uv_loop_get_data(h->loop))->closed++;
}

/* The handle behind the userdata at the top of L, or NULL. luv keeps the
 * metatables of its handles as keys of registry.uv_handle, and a handle that is
 * not closed in the registry. */
static uv_handle_t *luv_handle(lua_State *L) {
  uv_handle_t **handle = lua_touserdata(L, -1);
  bool is_luv = false;
  if (lua_type(L, -1) != LUA_TUSERDATA || !lua_getmetatable(L, -1)) return NULL;
  lua_getfield(L, LUA_REGISTRYINDEX, "uv_handle");
  if (lua_istable(L, -1)) {
    lua_pushvalue(L, -2);
    lua_rawget(L, -2);
    is_luv = lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
  return is_luv ? *handle : NULL;
}

/* Begins to close luv's handles (when asked) and counts those in the registry.
 */
static unsigned walk_handles(lua_State *L, bool close, unsigned *closing) {
  unsigned count = 0;
  lua_pushnil(L);
  while (lua_next(L, LUA_REGISTRYINDEX) != 0) {
    uv_handle_t *h = luv_handle(L);
    lua_pop(L, 1);
    if (!h) continue;
    count++;
    if (!close || uv_is_closing(h)) continue;
    uv_close(h, on_closed);
    (*closing)++;
  }
  return count;
}

/* luv frees a handle when its userdata is collected, and its callbacks look
 * into the lua_State: so handles are closed and requests answered before that
 * goes. */
void np_close_uv(lua_State *L, struct np_rt *rt) {
  struct luv *u = state_of(L);
  uv_loop_t *uv = np_loop_uv(rt->loop);
  unsigned closing = 0;
  if (u) u->closing = true;
  if (u && u->opened) {
    uv_loop_set_data(uv, u);
    (void)walk_handles(L, true, &closing);
  }
  np_loop_drain(rt->loop);
  if (!u || !u->opened) return;
  /* A handle that the script was closing leaves the registry when done; one
   * closed here stays in it. */
  while (u->closed < closing || walk_handles(L, false, NULL) > closing)
    (void)uv_run(uv, UV_RUN_ONCE);
}
