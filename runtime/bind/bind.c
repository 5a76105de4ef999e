/* SPDX-License-Identifier: MIT */
#include "bind/bind.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char error_class[] = "neap.error";
static const char wait_factory[] = "neap.wait_factory";

/* -- Registration ---------------------------------------------------------- */

void np_bind_funcs(lua_State *L, struct np_rt *rt, const luaL_Reg *funcs) {
  for (; funcs->name; funcs++) {
    lua_pushlightuserdata(L, rt);
    lua_pushcclosure(L, funcs->func, 1);
    lua_setfield(L, -2, funcs->name);
  }
}

/* Called on every wake, in the task's coroutine, with the first argument of the
 * waiting function: pushes the results or raises. */
static int finish_wait(lua_State *L) {
  struct np_task *t = np_bind_rt(L)->sched.running;
  if (t->status == NP_E_CANCELLED) {
    (void)np_task_checkpoint(t); /* the scope learns that it was delivered */
    return np_raise_cancelled(L);
  }
  if (t->status == NP_RAISE) {
    struct np_error e = {.code = NP_E_INTERNAL};
    lua_pushstring(L, t->sched->raise_message);
    np_push_error(L, &e);
    lua_insert(L, -2);
    lua_setfield(L, -2, "message");
    return lua_error(L);
  }
  return t->push(L, t, t->status);
}

/* A C function cannot raise after a yield, Lua can: so each waiting function is
 * wrapped in a Lua function that calls finish when it was woken. The name goes
 * into the source so that argument errors carry it. */
static const char wrapper_source[] =
    "local finish, WOKEN, load = ...\n"
    "local function check(self, first, ...)\n"
    "  if first == WOKEN then return finish(self) end\n"
    "  return first, ...\n"
    "end\n"
    "return function(name, f)\n"
    "  local source = ('local check, %s = ... return function(self, ...) '\n"
    "    .. 'return check(self, %s(self, ...)) end'):format(name, name)\n"
    "  return load(source, '=neap')(check, f)\n"
    "end\n";

static void push_wait_factory(lua_State *L, struct np_rt *rt) {
  lua_getfield(L, LUA_REGISTRYINDEX, wait_factory);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  if (luaL_loadbuffer(L, wrapper_source, sizeof wrapper_source - 1, "=neap"))
    lua_error(L);
  lua_pushlightuserdata(L, rt);
  lua_pushcclosure(L, finish_wait, 1);
  lua_pushlightuserdata(L, (void *)np_task_woken);
  lua_getglobal(L, "loadstring"); /* at start-up: no script has run yet */
  lua_call(L, 3, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, wait_factory);
}

void np_bind_waits(lua_State *L, struct np_rt *rt, const luaL_Reg *waits) {
  push_wait_factory(L, rt);
  for (; waits->name; waits++) {
    lua_pushvalue(L, -1);
    lua_pushstring(L, waits->name);
    lua_pushlightuserdata(L, rt);
    lua_pushcclosure(L, waits->func, 1);
    lua_call(L, 2, 1);
    lua_setfield(L, -3, waits->name);
  }
  lua_pop(L, 1);
}

void np_bind_class(lua_State *L, struct np_rt *rt, const char *name,
                   const luaL_Reg *methods, const luaL_Reg *waits,
                   lua_CFunction gc) {
  luaL_newmetatable(L, name);
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__name");
  lua_newtable(L);
  if (methods) np_bind_funcs(L, rt, methods);
  if (waits) np_bind_waits(L, rt, waits);
  lua_setfield(L, -2, "__index");
  if (gc) {
    lua_pushlightuserdata(L, rt);
    lua_pushcclosure(L, gc, 1);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
}

void *np_bind_new(lua_State *L, const char *name, size_t size) {
  void *ud = lua_newuserdata(L, size);
  memset(ud, 0, size);
  luaL_getmetatable(L, name);
  lua_setmetatable(L, -2);
  return ud;
}

void np_bind_version(lua_State *L, const char *library, const char *version) {
  lua_getfield(L, -1, "versions");
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "versions");
  }
  lua_pushstring(L, version);
  lua_setfield(L, -2, library);
  lua_pop(L, 1);
}

/* -- Misuse ------------------------------------------------------------------
 */

/* Whether a level of the stack is neap's, in C or in Lua. */
static bool is_ours(const lua_Debug *ar) {
  return *ar->what == 'C' || strcmp(ar->source, "=neap") == 0 ||
         strncmp(ar->source, "@neap/", 6) == 0;
}

/* Pushes "file:line: " of the script, or nothing worth reading. */
static void push_place(lua_State *L) {
  lua_Debug ar;
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    (void)lua_getinfo(L, "Sl", &ar);
    if (is_ours(&ar)) continue;
    (void)lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
    return;
  }
  lua_pushliteral(L, "");
}

int np_misuse(lua_State *L, const char *fmt, ...) {
  va_list ap;
  luaL_checkstack(L, 4, NULL);
  push_place(L);
  va_start(ap, fmt);
  (void)lua_pushvfstring(L, fmt, ap);
  va_end(ap);
  lua_concat(L, 2);
  return lua_error(L);
}

/* The key of the function at the top in the table below it, or NULL. */
static const char *key_of(lua_State *L) {
  int function = lua_gettop(L), table = function - 1;
  if (!lua_istable(L, table)) return NULL;
  for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
    if (!lua_rawequal(L, -1, function)) continue;
    const char *key =
        lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    lua_pop(L, 2);
    return key;
  }
  return NULL;
}

/* The name of the class is at the top. */
static void push_method_name(lua_State *L, const char *method) {
  const char *class = lua_tostring(L, -1);
  bool prefix = strncmp(class, "neap.", 5) == 0;
  (void)lua_pushfstring(L, "%s:%s", class + (prefix ? 5 : 0), method);
}

/* The public name of the function that neap's innermost levels implement:
 * pushes "semaphore:acquire" and returns true for a method of the object that
 * is the first argument; else pushes "neap.sleep", or whatever name it has. */
static bool push_public_name(lua_State *L) {
  lua_Debug ar;
  const char *name = "?", *key;
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    (void)lua_getinfo(L, "Sn", &ar);
    if (!is_ours(&ar)) break;
    if (ar.name) name = ar.name;
    if (luaL_getmetafield(L, 1, "__index")) {
      (void)lua_getinfo(L, "f", &ar);
      key = key_of(L);
      if (key && luaL_getmetafield(L, 1, "__name")) {
        push_method_name(L, key);
        return true;
      }
      lua_pop(L, 2);
    }
    (void)lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "neap");
    (void)lua_getinfo(L, "f", &ar);
    key = key_of(L);
    if (key) {
      (void)lua_pushfstring(L, "neap.%s", key);
      return false;
    }
    lua_pop(L, 3);
  }
  if (lua_type(L, 1) != LUA_TUSERDATA || !luaL_getmetafield(L, 1, "__name")) {
    lua_pushstring(L, name);
    return false;
  }
  push_method_name(L, name); /* a tail call has hidden it */
  return true;
}

int np_arg_error(lua_State *L, int idx, const char *extra) {
  luaL_checkstack(L, 12, NULL);
  if (push_public_name(L)) idx--; /* the object itself does not count */
  return np_misuse(L, "bad argument #%d to '%s' (%s)", idx, lua_tostring(L, -1),
                   extra);
}

int np_type_error(lua_State *L, int idx, const char *expected) {
  const char *got =
      lua_type(L, idx) == LUA_TNONE ? "nothing" : luaL_typename(L, idx);
  return np_arg_error(L, idx,
                      lua_pushfstring(L, "%s expected, got %s", expected, got));
}

void *np_check_self(lua_State *L, const char *class) {
  void *object = luaL_testudata(L, 1, class);
  if (!object)
    np_misuse(
        L, "a %s expected before the method's name, got %s: call it with ':'",
        class, lua_isnone(L, 1) ? "nothing" : luaL_typename(L, 1));
  return object;
}

/* -- Waiting -----------------------------------------------------------------
 */

struct np_task *np_wait_begin(lua_State *L) {
  struct np_task *t = np_bind_rt(L)->sched.running;
  if (!t)
    np_misuse(L, "cannot wait here: no task is running (in a callback, use "
                 "neap.spawn)");
  if (!lua_isyieldable(L))
    np_misuse(L, "cannot wait here: inside table.sort, a string.gsub callback, "
                 "require or another C function");
  if (np_task_checkpoint(t) != NP_OK) (void)np_raise_cancelled(L);
  return t;
}

int np_wait_end(lua_State *L, struct np_task *t, int rc, np_push_fn push) {
  if (rc != NP_PARKED) return push(L, t, rc);
  t->push = push;
  lua_pushlightuserdata(L, (void *)np_task_waits);
  return lua_yield(L, 1);
}

int np_push_true(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status != NP_OK) return np_fail_wait(L, status, "wait");
  lua_pushboolean(L, 1);
  return 1;
}

int np_raise_cancelled(lua_State *L) {
  struct np_error e = {0};
  (void)np_error_set(&e, NP_E_CANCELLED, NULL, "the task was cancelled");
  np_push_error(L, &e);
  return lua_error(L);
}

/* -- Errors as values
 * ---------------------------------------------------------- */

static void set_string(lua_State *L, const char *key, const char *value) {
  if (!value) return;
  lua_pushstring(L, value);
  lua_setfield(L, -2, key);
}

void np_push_error_metatable(lua_State *L) {
  luaL_newmetatable(L, error_class);
}

void np_push_error(lua_State *L, const struct np_error *e) {
  static const char *const sent[] = {"no", "maybe", "yes"};
  lua_createtable(L, 0, 8);
  set_string(L, "kind", np_err_name(e->code));
  set_string(L, "message", e->message);
  set_string(L, "phase", e->phase);
  set_string(L, "timeout", e->limit);
  lua_pushboolean(L, np_err_retryable(e->code));
  lua_setfield(L, -2, "retryable");
  if (e->has_sent) {
    set_string(L, "sent", sent[e->sent]);
    lua_pushinteger(L, (lua_Integer)e->sends);
    lua_setfield(L, -2, "sends");
  }
  np_push_error_metatable(L);
  lua_setmetatable(L, -2);
}

int np_fail(lua_State *L, int code, const char *phase, const char *fmt, ...) {
  struct np_error e = {.code = code, .phase = phase};
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(e.message, sizeof e.message, fmt, ap); /* a cut is fine */
  va_end(ap);
  lua_pushnil(L);
  np_push_error(L, &e);
  return 2;
}

int np_fail_wait(lua_State *L, int status, const char *what) {
  switch (status) {
  case NP_E_TIMEOUT:
    return np_fail(L, status, what, "timed out waiting for %s", what);
  case NP_E_QUEUE_FULL:
    return np_fail(L, status, what, "too many are waiting for %s", what);
  case NP_E_CLOSED:
    return np_fail(L, status, what, "%s is closed", what);
  default:
    return np_fail(L, status, what, "waiting for %s failed", what);
  }
}

/* -- Argument readers
 * ------------------------------------------------------------ */

double np_check_any_number(lua_State *L, int idx) {
  if (!lua_isnumber(L, idx)) np_type_error(L, idx, "number");
  return lua_tonumber(L, idx);
}

uint64_t np_opt_timeout(lua_State *L, int idx) {
  if (lua_isnoneornil(L, idx)) return NP_FOREVER;
  double s = np_check_any_number(L, idx);
  if (!(s >= 0)) np_arg_error(L, idx, "timeout must be 0 or more seconds");
  return np_ns_of_seconds(s);
}

double np_check_number(lua_State *L, int idx, double min, double max) {
  double v = np_check_any_number(L, idx);
  if (!isfinite(v) || v < min || v > max)
    np_arg_error(L, idx, lua_pushfstring(L, "must be from %f to %f", min, max));
  return v;
}

uint32_t np_check_count(lua_State *L, int idx, uint32_t min) {
  double v = np_check_any_number(L, idx);
  if (!(v >= min && v <= INT32_MAX) || v != floor(v))
    np_arg_error(L, idx,
                 lua_pushfstring(L, "must be a whole number from %d to %d",
                                 (int)min, INT32_MAX));
  return (uint32_t)v;
}
