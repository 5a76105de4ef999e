/* SPDX-License-Identifier: MIT
 * What every binding shares: the runtime behind a lua_State, the shape of a
 * waiting function, errors as Lua values, argument readers. A binding reads its
 * arguments, calls one function of core, flow or net, and returns or parks: no
 * policy, no state. It registers its functions in the table `neap.core`.
 *
 * A waiting function looks like this (np_bind_waits registers it, which wraps
 * it in a few lines of Lua, for a C function cannot raise after a yield):
 *
 *   static int l_acquire(lua_State *L) {
 *     struct np_semaphore *sem = check_semaphore(L, 1);
 *     uint32_t n = ...;                       // misuse raises here
 *     struct np_task *t = np_wait_begin(L);   // may raise: cancelled, no task
 *     return np_wait_end(L, t, np_semaphore_acquire(sem, t, n, timeout_ns),
 *                        np_push_true);
 *   }
 */
#ifndef NP_BIND_H
#define NP_BIND_H

#include "base/err.h"
#include "base/log.h"
#include "base/rng.h"
#include "core/scope.h"
#include "core/task.h"

#include <lauxlib.h>
#include <lua.h>

/* The parts of one runtime; neap.c fills it, bindings borrow it. */
struct np_rt {
  struct np_clock clock;
  struct np_loop *loop;
  struct np_sched sched;
  struct np_log log;
  struct np_rng rng; /* the policies' stream: jitter */
  uint64_t seed;
  lua_State *L;
  struct np_http *http; /* the client engine; made at the first client */
  int identify;      /* registry reference, see lua_sim.c; 0: no simulation */
  struct neap *host; /* the embedding handle, for host functions */
};

/* Inside a function registered by np_bind_*: the runtime (upvalue 1). */
static inline struct np_rt *np_bind_rt(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(1));
}

/* -- Registration: adds to the table at the top of the stack ------------- */

/* Plain functions, ending in {NULL, NULL}. */
void np_bind_funcs(lua_State *L, struct np_rt *rt, const luaL_Reg *funcs);
/* Functions that may wait. */
void np_bind_waits(lua_State *L, struct np_rt *rt, const luaL_Reg *waits);
/* Makes the metatable `name` ("neap.semaphore"): __index is a table with the
 * methods, __name is name; gc may be NULL; waits may be NULL. Leaves nothing on
 * the stack. */
void np_bind_class(lua_State *L, struct np_rt *rt, const char *name,
                   const luaL_Reg *methods, const luaL_Reg *waits,
                   lua_CFunction gc);
/* New zeroed userdata of the class, on the stack: first this, then acquire. */
void *np_bind_new(lua_State *L, const char *name, size_t size);

/* Notes a library's version in core.versions; the core table is at the top. */
void np_bind_version(lua_State *L, const char *library, const char *version);

/* -- Waiting ------------------------------------------------------------- */

/* The task that may wait now. Raises when there is none or it cannot wait here
 * (misuse), and kind "cancelled" when it was cancelled. */
struct np_task *np_wait_begin(lua_State *L);
/* Ends a waiting function: rc NP_PARKED yields, and push runs when the task is
 * woken; any other rc calls push at once. */
int np_wait_end(lua_State *L, struct np_task *t, int rc, np_push_fn push);
/* NP_OK pushes true; an error pushes nil, err with the wait's name as phase. */
int np_push_true(lua_State *L, struct np_task *t, int status);

/* -- Errors as values ---------------------------------------------------- */

/* Raises the error of kind "cancelled". */
int np_raise_cancelled(lua_State *L);
/* Pushes the metatable of all error tables. */
void np_push_error_metatable(lua_State *L);
/* Pushes an error table {kind, message, phase, retryable, ...} with __tostring.
 */
void np_push_error(lua_State *L, const struct np_error *e);
/* Pushes nil and an error table; returns 2. phase may be NULL. */
int np_fail(lua_State *L, int code, const char *phase, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Pushes nil and an error for a failed wait ("semaphore: timed out"). */
int np_fail_wait(lua_State *L, int status, const char *what);

/* -- Misuse: raised with the script's line and the public name ------------- */

/* Raises the message at the innermost line outside neap's own code. */
int np_misuse(lua_State *L, const char *fmt, ...);
/* The same for the argument at idx of the running function. */
int np_arg_error(lua_State *L, int idx, const char *extra);
/* Another type was expected there. */
int np_type_error(lua_State *L, int idx, const char *expected);
/* The object of the class that a method is called on. */
void *np_check_self(lua_State *L, const char *class);

/* -- Argument readers ------------------------------------------------------ */

/* Optional timeout in seconds at idx: nil is NP_FOREVER, else ns (0 tries). */
uint64_t np_opt_timeout(lua_State *L, int idx);
/* A number, as luaL_checknumber. */
double np_check_any_number(lua_State *L, int idx);
/* A number that is finite and within [min, max], else an argument error. */
double np_check_number(lua_State *L, int idx, double min, double max);
uint32_t np_check_count(lua_State *L, int idx, uint32_t min);

/* -- Reports --------------------------------------------------------------- */

/* Pushes a text that names every waiting task, what it waits for and where. */
void np_push_waiting_report(lua_State *L, struct np_rt *rt);
/* Pushes a task's name: set_name's, else file:line of its function. */
void np_push_task_name(lua_State *L, struct np_task *t);

/* -- What the bindings register (one line per lua_*.c) -------------------- */

void np_open_errors(lua_State *L, struct np_rt *rt);
void np_open_task(lua_State *L, struct np_rt *rt);
void np_open_scope(lua_State *L, struct np_rt *rt);
void np_open_time(lua_State *L, struct np_rt *rt);
void np_open_rng(lua_State *L, struct np_rt *rt);
void np_open_report(lua_State *L, struct np_rt *rt);
void np_open_semaphore(lua_State *L, struct np_rt *rt);
void np_open_limiter(lua_State *L, struct np_rt *rt);
void np_open_queue(lua_State *L, struct np_rt *rt);
void np_open_event(lua_State *L, struct np_rt *rt);
void np_open_http(lua_State *L, struct np_rt *rt);
void np_open_server(lua_State *L, struct np_rt *rt);
void np_open_sim(lua_State *L, struct np_rt *rt);
void np_open_work(lua_State *L, struct np_rt *rt);
void np_open_json(lua_State *L, struct np_rt *rt);
void np_open_uv(lua_State *L, struct np_rt *rt);
void np_open_await(lua_State *L, struct np_rt *rt);
void np_open_trace(lua_State *L, struct np_rt *rt);
void np_open_sorted(lua_State *L, struct np_rt *rt);
/* Closes the trace of an ended run, when one is open. */
void np_close_trace(struct np_rt *rt);
/* Closes what luv has open, before lua_close. */
void np_close_uv(lua_State *L, struct np_rt *rt);
/* Pushes the table `neap.core`. */
void np_push_core(lua_State *L);

#endif
