/* SPDX-License-Identifier: MIT
 * The wait under neap.await: one task waits at a gate, once, until somebody (a
 * luv callback) opens it. The values that pass are Lua's business
 * (lua/neap/await.lua). */
#include "bind/bind.h"

static const char class_name[] = "neap.gate";

struct gate {
  struct np_task *task; /* who waits; NULL: nobody */
  np_token token;
  bool opened;
  bool left; /* its wait was undone: opening it means nothing any more */
};

static void undo(struct np_task *t) {
  struct gate *g = t->wait_ud;
  g->task = NULL;
  g->left = true;
}

static const struct np_wait_ops wait_gate = {.what = "await", .undo = undo};

static int push_nothing(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status != NP_OK) return np_fail_wait(L, status, "await");
  return 0;
}

/* core.gate_new(): raises where the task cannot wait, before anything that
 * would need the wait has begun. */
static int l_new(lua_State *L) {
  (void)np_wait_begin(L);
  (void)np_bind_new(L, class_name, sizeof(struct gate));
  return 1;
}

static int l_wait(lua_State *L) {
  struct gate *g = luaL_checkudata(L, 1, class_name);
  struct np_task *t = np_wait_begin(L);
  if (g->task || g->left) return luaL_error(L, "a gate is for one wait");
  if (g->opened) return np_wait_end(L, t, NP_OK, push_nothing);
  g->task = t;
  g->token = np_task_park(t, &wait_gate, g, NP_FOREVER);
  return np_wait_end(L, t, NP_PARKED, push_nothing);
}

/* gate:open() -> whether this opened it and somebody passes. */
static int l_open(lua_State *L) {
  struct gate *g = luaL_checkudata(L, 1, class_name);
  bool first = !g->opened && !g->left;
  g->opened = true;
  if (first && g->task) {
    struct np_task *t = g->task;
    g->task = NULL;
    first = np_task_wake(t, g->token, NP_OK);
  }
  lua_pushboolean(L, first);
  return 1;
}

/* gate:leave(): as if its wait had been undone. */
static int l_leave(lua_State *L) {
  struct gate *g = luaL_checkudata(L, 1, class_name);
  g->left = true;
  return 0;
}

static const luaL_Reg functions[] = {{"gate_new", l_new}, {NULL, NULL}};
static const luaL_Reg methods[] = {
    {"open", l_open}, {"leave", l_leave}, {NULL, NULL}};
static const luaL_Reg waits[] = {{"wait", l_wait}, {NULL, NULL}};

void np_open_await(lua_State *L, struct np_rt *rt) {
  np_bind_class(L, rt, class_name, methods, waits, NULL);
  np_bind_funcs(L, rt, functions);
}
