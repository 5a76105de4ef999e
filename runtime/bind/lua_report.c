/* SPDX-License-Identifier: MIT
 * Who waits for what and where: the text of a deadlock. */
#include "bind/bind.h"

#include <string.h>

enum { MAX_LISTED = 50 };

struct report {
  lua_State *L;
  luaL_Buffer *text;
  int listed;
  uint64_t waiting;
};

/* Pushes file:line of the innermost frame that is not neap's own. */
static void push_place(lua_State *L, lua_State *co) {
  lua_Debug ar;
  for (int level = 0; lua_getstack(co, level, &ar); level++) {
    if (!lua_getinfo(co, "Sl", &ar) || ar.currentline < 0) continue;
    if (strncmp(ar.source, "@neap/", 6) == 0 || strcmp(ar.source, "=neap") == 0)
      continue;
    lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
    return;
  }
  lua_pushliteral(L, "?");
}

static void list_task(struct report *r, struct np_task *t) {
  r->waiting++;
  if (r->listed++ >= MAX_LISTED) return;
  np_push_task_name(r->L, t);
  push_place(r->L, t->co);
  lua_pushfstring(r->L, "\n  task %s waits for %s at %s",
                  lua_tostring(r->L, -2), t->wait->what,
                  lua_tostring(r->L, -1));
  lua_replace(r->L, -3);
  lua_pop(r->L, 1);
  luaL_addvalue(r->text);
}

static void list_scope(struct report *r, struct np_scope *s) {
  for (struct np_list *n = s->children.next; n != &s->children; n = n->next) {
    struct np_task *t = np_container_of(n, struct np_task, sibling);
    if (t->wait) list_task(r, t);
    for (struct np_scope *i = t->scope; i->owner == t; i = i->parent)
      if (r->listed < MAX_LISTED) list_scope(r, i);
  }
}

void np_push_waiting_report(lua_State *L, struct np_rt *rt) {
  luaL_Buffer text;
  struct report r = {.L = L, .text = &text};
  luaL_buffinit(L, &text);
  list_scope(&r, rt->sched.root);
  luaL_pushresult(&text);
  if (rt->sched.waiting_count <= r.waiting) return;
  lua_pushfstring(L, "%s\n  and %d more", lua_tostring(L, -1),
                  (int)(rt->sched.waiting_count - r.waiting));
  lua_replace(L, -2);
}

static int l_waiting(lua_State *L) {
  np_push_waiting_report(L, np_bind_rt(L));
  return 1;
}

/* core.log("debug" | "info" | "warning" | "error", message) */
static int l_log(lua_State *L) {
  static const char *const levels[] = {"debug", "info", "warning", "error",
                                       NULL};
  int level =
      luaL_checkoption(L, 1, NULL, levels); /* in np_log_level's order */
  np_logf(&np_bind_rt(L)->log, level, "%s", luaL_checkstring(L, 2));
  return 0;
}

static const luaL_Reg functions[] = {
    {"waiting", l_waiting}, {"log", l_log}, {NULL, NULL}};

void np_open_report(lua_State *L, struct np_rt *rt) {
  np_bind_funcs(L, rt, functions);
}
