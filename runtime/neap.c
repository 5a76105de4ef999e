/* SPDX-License-Identifier: MIT
 * Opens, wires and tears down a runtime. */
#include "include/neap.h"

#include "bind/bind.h"
#include "bind/modules.h"
struct np_http;
void np_http_free(struct np_http *h);

#include <luajit.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef NEAP_VERSION
#error "NEAP_VERSION comes from the build"
#endif

/* GC_PAUSE: a cycle begins when the heap is half as large again as after the
 * last one, not twice as large. At 5,000 requests in flight that is 7 MB less
 * at no measurable cost. */
enum { DEFAULT_HOG_MS = 100, GC_PAUSE = 150 };

/* Where simulated time begins: 1 January 2026, 00:00 UTC. */
#define VIRTUAL_EPOCH (UINT64_C(1767225600) * NP_NS_PER_S)

struct neap {
  struct np_rt rt;
  neap_options options;
  char *lua_path;   /* owned; options.lua_path points here */
  char *last_error; /* owned; NULL: none */
  bool failed;
  bool was_cancelled;
  volatile sig_atomic_t cancel_asked;
};

const char *neap_version(void) {
  return NEAP_VERSION;
}

const char *neap_last_error(const neap_t *rt) {
  return rt->last_error ? rt->last_error : "";
}

int neap_was_cancelled(const neap_t *rt) {
  return rt->was_cancelled || rt->cancel_asked;
}

static void set_last_error(neap_t *n, const char *text) {
  free(n->last_error);
  n->last_error = strdup(text ? text : "not enough memory");
}

/* -- Errors that no script caught -------------------------------------------
 */

/* err is at L's top. Lua makes the text (lua/neap/boot.lua). */
static void on_uncaught(void *ud, lua_State *L) {
  neap_t *n = ud;
  const char *text;
  lua_getfield(L, LUA_REGISTRYINDEX, "neap.describe");
  lua_pushvalue(L, -2);
  if (lua_pcall(L, 1, 1, 0) != 0) lua_pushvalue(L, -1);
  text = lua_tostring(L, -1);
  n->failed = true;
  set_last_error(n, text ? text : "an error that is not a string");
  if (n->options.error) n->options.error(n->options.ud, n->last_error);
  lua_pop(L, 1);
}

/* -- Wiring
 * --------------------------------------------------------------------- */

static int open_core(lua_State *L) {
  neap_t *n = lua_touserdata(L, 1);
  struct np_rt *rt = &n->rt;
  luaL_openlibs(L);
  (void)lua_gc(L, LUA_GCSETPAUSE, GC_PAUSE);
  lua_newtable(L);
  np_bind_version(L, "neap", NEAP_VERSION);
  np_bind_version(L, "LuaJIT", LUAJIT_VERSION);
  np_open_errors(L, rt);
  np_open_task(L, rt);
  np_open_scope(L, rt);
  np_open_time(L, rt);
  np_open_rng(L, rt);
  np_open_report(L, rt);
  np_open_semaphore(L, rt);
  np_open_limiter(L, rt);
  np_open_queue(L, rt);
  np_open_event(L, rt);
  np_open_work(L, rt);
  np_open_json(L, rt);
  np_open_uv(L, rt);
  np_open_await(L, rt);
  np_open_http(L, rt);
  np_open_server(L, rt);
  np_open_sim(L, rt);
  np_open_trace(L, rt);
  np_open_sorted(L, rt);
  lua_newtable(L);
  lua_setfield(L, -2, "host");
  np_open_modules(L, n->lua_path);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "neap.boot");
  lua_call(L, 1, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "neap.describe");
  lua_getglobal(L, "math");
  lua_getfield(L, -1, "randomseed");
  lua_pushnumber(L, (lua_Number)rt->seed);
  lua_call(L, 1, 0);
  return 0;
}

static int open_lua(neap_t *n) {
  struct np_rt *rt = &n->rt;
  rt->L = luaL_newstate();
  if (!rt->L) return -1;
  if (np_sched_init(&rt->sched, rt->loop, &rt->log, rt->L) < 0) return -1;
  rt->sched.hog_ns = n->options.hog_ns;
  rt->sched.uncaught = on_uncaught;
  rt->sched.uncaught_ud = n;
  if (lua_cpcall(rt->L, open_core, n) == 0) return 0;
  set_last_error(n, lua_tostring(rt->L, -1));
  if (n->options.error) n->options.error(n->options.ud, n->last_error);
  return -1;
}

static void read_options(neap_t *n, const neap_options *options) {
  struct np_rt *rt = &n->rt;
  if (options) n->options = *options;
  if (n->options.hog_ns == 0)
    n->options.hog_ns = DEFAULT_HOG_MS * UINT64_C(1000000);
  if (n->options.lua_path) n->lua_path = strdup(n->options.lua_path);
  rt->host = n;
  rt->log =
      (struct np_log){n->options.log, n->options.ud, n->options.log_level};
  /* Lua's numbers hold 53 bits: a seed that a script can print and pass. */
  rt->seed = n->options.seed ? n->options.seed : np_rng_entropy() >> 12;
  np_rng_seed(&rt->rng, rt->seed, 0);
  np_clock_init(&rt->clock);
  if (n->options.virtual_time)
    np_clock_start_virtual(&rt->clock, VIRTUAL_EPOCH);
}

neap_t *neap_new(const neap_options *options) {
  neap_t *n = calloc(1, sizeof *n);
  if (!n) return NULL;
  read_options(n, options);
  n->rt.loop = np_loop_new(&n->rt.clock);
  if (!n->rt.loop || open_lua(n) != 0) {
    neap_free(n);
    return NULL;
  }
  return n;
}

void neap_free(neap_t *n) {
  if (!n) return;
  struct np_rt *rt = &n->rt;
  if (rt->sched.root) np_sched_stop(&rt->sched);
  if (rt->L) {
    np_close_uv(rt->L, rt);
    lua_close(rt->L);
  }
  np_http_free(rt->http);
  np_close_trace(rt);
  if (rt->sched.root) np_sched_fini(&rt->sched);
  np_loop_free(rt->loop);
  free(n->lua_path);
  free(n->last_error);
  free(n);
}

/* -- Scripts
 * ----------------------------------------------------------------------- */

struct start {
  neap_t *n;
  const char *path; /* NULL: code */
  const char *code, *name;
  int argc;
  char *const *argv;
};

static void set_arg_table(lua_State *L, const struct start *s) {
  lua_createtable(L, s->argc, 1);
  lua_pushstring(L, s->path ? s->path : s->name);
  lua_rawseti(L, -2, 0);
  for (int i = 0; i < s->argc; i++) {
    lua_pushstring(L, s->argv[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setglobal(L, "arg");
}

static int start_script(lua_State *L) {
  struct start *s = lua_touserdata(L, 1);
  struct np_sched *sched = &s->n->rt.sched;
  int rc = s->path ? luaL_loadfile(L, s->path)
                   : luaL_loadbuffer(L, s->code, strlen(s->code), s->name);
  if (rc != 0) return lua_error(L);
  set_arg_table(L, s);
  luaL_checkstack(L, s->argc, "too many arguments");
  for (int i = 0; i < s->argc; i++) lua_pushstring(L, s->argv[i]);
  (void)np_task_spawn(sched, L, sched->root, s->argc);
  return 0;
}

static int start(neap_t *n, struct start *s) {
  lua_State *L = n->rt.L;
  if (n->rt.sched.alive_count == 0) {
    n->rt.sched.root->cancelled = false;
    n->failed = n->was_cancelled = false;
    free(n->last_error);
    n->last_error = NULL;
  }
  if (lua_cpcall(L, start_script, s) == 0) return 0;
  set_last_error(n, lua_tostring(L, -1));
  lua_pop(L, 1);
  return -1;
}

int neap_run_file(neap_t *rt, const char *path, int argc, char *const *argv) {
  if (!path) {
    set_last_error(rt, "neap_run_file: no path");
    return -1;
  }
  return start(
      rt, &(struct start){.n = rt, .path = path, .argc = argc, .argv = argv});
}

int neap_run_string(neap_t *rt, const char *code, const char *name, int argc,
                    char *const *argv) {
  return start(
      rt, &(struct start){
              .n = rt, .code = code, .name = name, .argc = argc, .argv = argv});
}

/* -- Running
 * ------------------------------------------------------------------------ */

void neap_cancel(neap_t *rt) {
  rt->cancel_asked = 1;
  np_loop_wakeup(rt->rt.loop);
}

static void take_cancel(neap_t *n) {
  if (!n->cancel_asked) return;
  n->cancel_asked = 0;
  n->was_cancelled = true;
  np_scope_cancel(n->rt.sched.root);
}

static int raise_deadlock(lua_State *L) {
  neap_t *n = lua_touserdata(L, 1);
  struct np_task *victim = np_sched_innermost_waiter(&n->rt.sched);
  np_push_waiting_report(L, &n->rt);
  lua_pushfstring(L, "deadlock: nothing can wake the waiting tasks:%s",
                  lua_tostring(L, -1));
  if (victim) np_task_raise(victim, lua_tostring(L, -1));
  return 0;
}

/* One turn. False when the loop has nothing to do and no task can go on. */
static void turn(neap_t *n, uint64_t budget_ns, bool may_block) {
  take_cancel(n);
  if (np_loop_turn(n->rt.loop, budget_ns, may_block)) return;
  if (n->rt.sched.alive_count > 0 && n->rt.sched.ready_count == 0)
    (void)lua_cpcall(n->rt.L, raise_deadlock, n); /* out of memory: again */
}

neap_state neap_step(neap_t *rt, uint64_t budget_ns) {
  uint64_t end_ns = np_deadline(np_clock_machine(), budget_ns);
  for (;;) {
    uint64_t now_ns = np_clock_machine();
    turn(rt, end_ns > now_ns ? end_ns - now_ns : 0, false);
    if (rt->rt.sched.alive_count == 0) return NEAP_DONE;
    if (!np_loop_busy(rt->rt.loop)) return NEAP_WAITING;
    if (np_clock_machine() >= end_ns) return NEAP_READY;
  }
}

int neap_wait(neap_t *rt) {
  while (rt->rt.sched.alive_count > 0) turn(rt, NP_FOREVER, true);
  return rt->failed || rt->was_cancelled ? -1 : 0;
}

/* -- Host functions
 * --------------------------------------------------------------------- */

struct neap_call {
  lua_State *L;
  int argc, results;
  char complaint[256]; /* raised after fn returns; "" is none */
};

struct host_function {
  neap_function fn;
  void *ud;
};

static int call_host(lua_State *L) {
  struct host_function *h = lua_touserdata(L, lua_upvalueindex(1));
  neap_call call = {.L = L, .argc = lua_gettop(L)};
  int rc = h->fn(&call, h->ud);
  if (call.complaint[0] || rc < 0)
    return luaL_error(L, "%s: %s", lua_tostring(L, lua_upvalueindex(2)),
                      call.complaint[0] ? call.complaint : "failed");
  return call.results;
}

struct registration {
  struct host_function function;
  const char *name;
};

static int push_host_function(lua_State *L) {
  struct registration *r = lua_touserdata(L, 1);
  np_push_core(L);
  lua_getfield(L, -1, "host");
  struct host_function *h = lua_newuserdata(L, sizeof *h);
  *h = r->function;
  lua_pushstring(L, r->name);
  lua_pushcclosure(L, call_host, 2);
  lua_setfield(L, -2, r->name);
  return 0;
}

int neap_register(neap_t *rt, const char *name, neap_function fn, void *ud) {
  struct registration r = {{fn, ud}, name};
  if (lua_cpcall(rt->rt.L, push_host_function, &r) == 0) return 0;
  set_last_error(rt, lua_tostring(rt->rt.L, -1));
  lua_pop(rt->rt.L, 1);
  return -1;
}

static bool check_arg(neap_call *c, int index, int type) {
  int got = index >= 1 && index <= c->argc ? lua_type(c->L, index) : LUA_TNONE;
  if (got == type) return true;
  if (!c->complaint[0])
    (void)snprintf(c->complaint, sizeof c->complaint,
                   "argument %d must be a %s, got %s", index,
                   lua_typename(c->L, type),
                   got == LUA_TNONE ? "nothing" : lua_typename(c->L, got));
  return false;
}

int neap_arg_count(const neap_call *call) {
  return call->argc;
}

double neap_arg_number(neap_call *call, int index) {
  if (!check_arg(call, index, LUA_TNUMBER)) return 0;
  return lua_tonumber(call->L, index);
}

int neap_arg_boolean(neap_call *call, int index) {
  if (!check_arg(call, index, LUA_TBOOLEAN)) return 0;
  return lua_toboolean(call->L, index);
}

const char *neap_arg_string(neap_call *call, int index, size_t *len) {
  if (len) *len = 0;
  if (!check_arg(call, index, LUA_TSTRING)) return NULL;
  return lua_tolstring(call->L, index, len);
}

static void count_result(neap_call *call) {
  luaL_checkstack(call->L, 2, "too many results");
  call->results++;
}

void neap_return_nil(neap_call *call) {
  count_result(call);
  lua_pushnil(call->L);
}

void neap_return_boolean(neap_call *call, int value) {
  count_result(call);
  lua_pushboolean(call->L, value);
}

void neap_return_number(neap_call *call, double value) {
  count_result(call);
  lua_pushnumber(call->L, value);
}

void neap_return_string(neap_call *call, const char *data, size_t len) {
  count_result(call);
  lua_pushlstring(call->L, data, len);
}

int neap_fail(neap_call *call, const char *message) {
  (void)snprintf(call->complaint, sizeof call->complaint, "%s", message);
  return -1;
}
