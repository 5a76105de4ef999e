/* SPDX-License-Identifier: MIT
 * neap.queue: values between tasks. The values lie in the userdata's
 * environment table under luaL_ref numbers, which are the queue's handles. */
#include "bind/bind.h"

#include "flow/queue.h"

static const char class[] = "neap.queue";

struct queue {
  struct np_queue q;
  bool by_priority;
};

static struct queue *check_queue(lua_State *L) {
  return np_check_self(L, class);
}

/* core.queue(max?, by_priority, aging?) -> queue */
static int l_queue(lua_State *L) {
  uint32_t max = 0;
  if (!lua_isnoneornil(L, 1)) max = np_check_count(L, 1, 1);
  double aging = lua_isnoneornil(L, 3) ? 0 : np_check_number(L, 3, 0, 1e12);
  struct queue *q = np_bind_new(L, class, sizeof *q);
  np_queue_init(&q->q, max, aging, np_loop_now(np_bind_rt(L)->loop));
  q->by_priority = lua_toboolean(L, 2);
  lua_newtable(L);
  (void)lua_setfenv(L, -2); /* a userdata always takes one */
  return 1;
}

static int l_gc(lua_State *L) {
  np_queue_fini(&check_queue(L)->q);
  return 0;
}

/* Drops the values of puts that were given up while they waited. */
static void reap(lua_State *L, struct np_queue *q) {
  if (!q->dead) return;
  lua_getfenv(L, 1);
  int handle;
  while ((handle = np_queue_reap(q)) != NP_QUEUE_NONE)
    luaL_unref(L, -1, handle);
  lua_pop(L, 1);
}

static double opt_priority(lua_State *L, int idx, const struct queue *q) {
  if (lua_isnoneornil(L, idx)) return 0;
  double priority = np_check_any_number(L, idx);
  if (!q->by_priority)
    np_arg_error(L, idx, "this queue has no priorities (priority=true)");
  if (priority != priority) np_arg_error(L, idx, "priority must not be NaN");
  return priority;
}

static int push_put(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status != NP_OK) return np_fail_wait(L, status, "queue.put");
  lua_pushboolean(L, 1);
  return 1;
}

/* queue:put(value, priority?, timeout?) */
static int l_put(lua_State *L) {
  struct queue *q = check_queue(L);
  if (lua_isnoneornil(L, 2))
    return np_arg_error(L, 2, "a queue cannot hold nil");
  double priority = opt_priority(L, 3, q);
  uint64_t timeout_ns = np_opt_timeout(L, 4);
  struct np_task *t = np_wait_begin(L);
  reap(L, &q->q);
  lua_getfenv(L, 1);
  lua_pushvalue(L, 2);
  int handle = luaL_ref(L, -2);
  int rc = np_queue_put(&q->q, t, handle, priority, timeout_ns);
  if (rc < 0) luaL_unref(L, -1, handle);
  return np_wait_end(L, t, rc, push_put);
}

/* Whether it came at once or after a wait, the handle is in t->wait_arg. */
static int push_value(lua_State *L, struct np_task *t, int status) {
  if (status != NP_OK) return np_fail_wait(L, status, "queue.get");
  int handle = (int)t->wait_arg;
  lua_getfenv(L, 1);
  lua_rawgeti(L, -1, handle);
  luaL_unref(L, -2, handle);
  return 1;
}

static int l_get(lua_State *L) {
  struct queue *q = check_queue(L);
  uint64_t timeout_ns = np_opt_timeout(L, 2);
  struct np_task *t = np_wait_begin(L);
  reap(L, &q->q);
  return np_wait_end(L, t, np_queue_get(&q->q, t, timeout_ns), push_value);
}

static int push_joined(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status != NP_OK) return np_fail_wait(L, status, "queue.join");
  lua_pushboolean(L, 1);
  return 1;
}

static int l_join(lua_State *L) {
  struct queue *q = check_queue(L);
  uint64_t timeout_ns = np_opt_timeout(L, 2);
  struct np_task *t = np_wait_begin(L);
  return np_wait_end(L, t, np_queue_join(&q->q, t, timeout_ns), push_joined);
}

static int l_task_done(lua_State *L) {
  if (np_queue_task_done(&check_queue(L)->q) == NP_OK) return 0;
  return np_misuse(L,
                   "queue:task_done: task_done() called more often than get()");
}

static int l_close(lua_State *L) {
  struct queue *q = check_queue(L);
  np_queue_close(&q->q);
  reap(L, &q->q);
  return 0;
}

static int l_len(lua_State *L) {
  lua_pushnumber(L, check_queue(L)->q.items.count);
  return 1;
}

static int l_unfinished(lua_State *L) {
  lua_pushnumber(L, (double)check_queue(L)->q.unfinished);
  return 1;
}

static int l_is_closed(lua_State *L) {
  lua_pushboolean(L, check_queue(L)->q.closed);
  return 1;
}

/* queue:waiting() -> getters, putters */
static int l_waiting(lua_State *L) {
  struct queue *q = check_queue(L);
  lua_pushnumber(L, q->q.getters.count);
  lua_pushnumber(L, q->q.putters.count);
  return 2;
}

static const luaL_Reg functions[] = {{"queue", l_queue}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"task_done", l_task_done},
                                   {"close", l_close},
                                   {"len", l_len},
                                   {"unfinished", l_unfinished},
                                   {"is_closed", l_is_closed},
                                   {"waiting", l_waiting},
                                   {NULL, NULL}};
static const luaL_Reg waits[] = {
    {"put", l_put}, {"get", l_get}, {"join", l_join}, {NULL, NULL}};

void np_open_queue(lua_State *L, struct np_rt *rt) {
  np_bind_class(L, rt, class, methods, waits, l_gc);
  np_bind_funcs(L, rt, functions);
  luaL_getmetatable(L, class);
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, "queue_methods");
  lua_pop(L, 1);
}
