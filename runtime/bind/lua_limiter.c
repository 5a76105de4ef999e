/* SPDX-License-Identifier: MIT
 * neap.rate_limiter and its leases. Here units have kinds (requests, tokens,
 * ...), and a kind has any number of configured rates and one that is learned.
 */
#include "bind/bind.h"

#include "flow/limiter.h"

#include <math.h>
#include <string.h>

static const char class[] = "neap.rate_limiter", lease_class[] = "neap.lease";

/* Twice the largest burst, so that it still counts as above it. */
static const double MOST_UNITS = 2e12;

enum kind { REQUESTS, TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, KINDS };

static const char *const kind_names[] = {"requests", "tokens", "input_tokens",
                                         "output_tokens", NULL};

struct limiter {
  struct np_limiter l;
  uint8_t kind_of[NP_LIMITER_RATES];
  bool limited[KINDS];
  uint8_t kind_count; /* of limited kinds */
  int learned[KINDS]; /* the rate's number plus one; 0: none */
};

/* What a call names; absent kinds are negative. */
struct amounts {
  double of[KINDS];
};

struct lease {
  struct np_lease l;
  struct amounts amounts; /* complete: what it counts for now */
};

static struct limiter *check_limiter(lua_State *L) {
  return np_check_self(L, class);
}

static struct lease *check_lease(lua_State *L) {
  return np_check_self(L, lease_class);
}

static struct limiter *limiter_of(const struct lease *lease) {
  return np_container_of(lease->l.limiter, struct limiter, l);
}

/* -- Amounts --------------------------------------------------------------- */

/* Without any, amounts are requests: what they are limited to is learned. */
static enum kind only_kind(const struct limiter *l) {
  int kind = 0;
  while (kind < KINDS && !l->limited[kind]) kind++;
  return kind < KINDS ? (enum kind)kind : REQUESTS;
}

/* Whole units: an estimate with a fraction is rounded up. */
static double check_units(lua_State *L, int value, int arg, const char *name) {
  double units = lua_tonumber(L, value);
  if (lua_type(L, value) != LUA_TNUMBER || !(units >= 0) || isinf(units))
    np_arg_error(L, arg,
                 lua_pushfstring(L, "%s must be a number of at least 0", name));
  return ceil(units);
}

static void read_table(lua_State *L, int arg, struct amounts *a) {
  for (lua_pushnil(L); lua_next(L, arg) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    int kind = 0;
    while (kind < KINDS && strcmp(key, kind_names[kind]) != 0) kind++;
    if (kind == KINDS)
      np_arg_error(L, arg,
                   lua_pushfstring(L,
                                   "unknown amount '%s' (requests, tokens, "
                                   "input_tokens, output_tokens)",
                                   key));
    a->of[kind] = check_units(L, lua_gettop(L), arg, key);
  }
}

/* A number is of the limiter's only kind. */
static void read_amounts(lua_State *L, int arg, const struct limiter *l,
                         struct amounts *a) {
  for (int kind = 0; kind < KINDS; kind++) a->of[kind] = -1;
  if (lua_isnoneornil(L, arg)) return;
  if (lua_istable(L, arg)) {
    read_table(L, arg, a);
    return;
  }
  if (lua_type(L, arg) != LUA_TNUMBER) np_type_error(L, arg, "number or table");
  if (l->kind_count > 1)
    np_arg_error(L, arg,
                 "this limiter limits several kinds: name the amounts, as in "
                 "{requests=1, tokens=500}");
  a->of[only_kind(l)] = check_units(L, arg, arg, "the amount");
}

/* Puts what a call names over what was there. Unless they are named, tokens are
 * input plus output. */
static void merge(struct amounts *into, const struct amounts *named) {
  for (int kind = 0; kind < KINDS; kind++)
    if (named->of[kind] >= 0) into->of[kind] = named->of[kind];
  if (named->of[TOKENS] < 0 &&
      (named->of[INPUT_TOKENS] >= 0 || named->of[OUTPUT_TOKENS] >= 0))
    into->of[TOKENS] = into->of[INPUT_TOKENS] + into->of[OUTPUT_TOKENS];
}

/* The units that lease has to take of each rate. */
static void spread(const struct lease *lease,
                   uint64_t units[NP_LIMITER_RATES]) {
  const struct limiter *l = limiter_of(lease);
  for (uint32_t i = 0; i < l->l.rate_count; i++)
    units[i] = (uint64_t)fmin(lease->amounts.of[l->kind_of[i]], MOST_UNITS);
}

static enum kind check_kind(lua_State *L, int arg, const struct limiter *l) {
  if (lua_isnoneornil(L, arg) && l->kind_count <= 1) return only_kind(l);
  const char *name =
      lua_type(L, arg) == LUA_TSTRING ? lua_tostring(L, arg) : "";
  int kind = 0;
  while (kind < KINDS && strcmp(name, kind_names[kind]) != 0) kind++;
  if (kind == KINDS)
    np_arg_error(
        L, arg, "must be one of requests, tokens, input_tokens, output_tokens");
  return (enum kind)kind;
}

/* -- Limiters -------------------------------------------------------------- */

/* core.rate_limiter(max_waiting?) -> limiter without rates */
static int l_limiter(lua_State *L) {
  uint32_t max_waiting = 0;
  if (!lua_isnoneornil(L, 1)) max_waiting = np_check_count(L, 1, 1);
  struct limiter *l = np_bind_new(L, class, sizeof *l);
  np_limiter_init(&l->l, np_bind_rt(L)->loop, max_waiting);
  lua_createtable(L, 1, 0); /* shared by the leases: keeps the limiter */
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, 1);
  (void)lua_setfenv(L, -2); /* a userdata always takes one */
  return 1;
}

static int l_gc(lua_State *L) {
  np_limiter_fini(&check_limiter(L)->l);
  return 0;
}

static int out_of_range(lua_State *L, int kind) {
  return luaL_error(L, "a rate of %f %s per %f s is out of range",
                    lua_tonumber(L, 3), kind_names[kind], lua_tonumber(L, 4));
}

/* limiter:add(kind, rate, per_seconds, burst) -> number of the rate */
static int l_add(lua_State *L) {
  struct limiter *l = check_limiter(L);
  int kind = luaL_checkoption(L, 2, NULL, kind_names);
  double burst = ceil(np_check_number(L, 5, 1, 1e12));
  int rate =
      np_limiter_add(&l->l, luaL_checknumber(L, 3),
                     np_ns_of_seconds(luaL_checknumber(L, 4)), (uint64_t)burst);
  if (rate < 0) return out_of_range(L, kind);
  l->kind_of[rate] = (uint8_t)kind;
  if (!l->limited[kind]) l->kind_count++;
  l->limited[kind] = true;
  lua_pushinteger(L, rate + 1);
  return 1;
}

/* limiter:set(number, rate, per_seconds, burst) */
static int l_set(lua_State *L) {
  struct limiter *l = check_limiter(L);
  uint32_t rate = np_check_count(L, 2, 1) - 1;
  luaL_argcheck(L, rate < l->l.rate_count && !l->l.rates[rate].learned, 2,
                "not the number of a configured rate");
  double burst = ceil(np_check_number(L, 5, 1, 1e12));
  int rc =
      np_limiter_set(&l->l, rate, luaL_checknumber(L, 3),
                     np_ns_of_seconds(luaL_checknumber(L, 4)), (uint64_t)burst);
  return rc < 0 ? out_of_range(L, l->kind_of[rate]) : 0;
}

/* limiter:add_learned(kind, longest_wait_s) */
static int l_add_learned(lua_State *L) {
  struct limiter *l = check_limiter(L);
  int kind = luaL_checkoption(L, 2, NULL, kind_names);
  uint64_t longest_ns = np_ns_of_seconds(np_check_number(L, 3, 0, 3e7));
  int rate = l->learned[kind] ? -1 : np_limiter_add_learned(&l->l, longest_ns);
  if (rate < 0) return luaL_error(L, "too many rates");
  l->kind_of[rate] = (uint8_t)kind;
  l->learned[kind] = rate + 1;
  return 0;
}

static const struct np_lease *opt_lease(lua_State *L, int arg,
                                        const struct limiter *l) {
  if (lua_isnoneornil(L, arg)) return NULL;
  struct lease *lease = luaL_testudata(L, arg, lease_class);
  if (!lease || lease->l.limiter != &l->l || !lease->l.granted)
    np_misuse(L, "rate_limiter:observe: not a lease of this limiter");
  return &lease->l;
}

/* limiter:learn(kind, lease?, rate, per, burst, left?, full_in?, window?) ->
 * whether the word was heard. full_in and window (seconds): all comes back at
 * once, not steadily. Nobody passes before limiter:serve(). */
static int l_learn(lua_State *L) {
  struct limiter *l = check_limiter(L);
  int kind = luaL_checkoption(L, 2, NULL, kind_names);
  const struct np_lease *lease = opt_lease(L, 3, l);
  struct np_limiter_word word = {
      .rate = luaL_checknumber(L, 4),
      .period_ns = np_ns_of_seconds(luaL_checknumber(L, 5)),
      .burst = (uint64_t)np_check_number(L, 6, 1, 1e12),
  };
  if (!lua_isnoneornil(L, 7)) {
    word.says_left = true;
    word.left = (uint64_t)np_check_number(L, 7, 0, 1e18);
  }
  if (!lua_isnoneornil(L, 8)) {
    uint64_t in_ns = np_ns_of_seconds(np_check_number(L, 8, 0, 3e7));
    word.full_ns = np_deadline(np_loop_now(l->l.loop), in_ns);
    word.window_ns = np_ns_of_seconds(np_check_number(L, 9, 1, 3e7));
  }
  if (!l->learned[kind])
    return luaL_error(L, "nothing is learned of this kind");
  int rc =
      np_limiter_learn(&l->l, (uint32_t)l->learned[kind] - 1, lease, &word);
  lua_pushboolean(L, rc > 0); /* out of range: as good as not said */
  return 1;
}

/* limiter:serve(): grants whatever is due */
static int l_serve(lua_State *L) {
  np_limiter_serve(&check_limiter(L)->l);
  return 0;
}

/* limiter:forget(): what was learned */
static int l_forget(lua_State *L) {
  struct limiter *l = check_limiter(L);
  for (int kind = 0; kind < KINDS; kind++)
    if (l->learned[kind])
      np_limiter_forget(&l->l, (uint32_t)l->learned[kind] - 1);
  return 0;
}

/* limiter:set_max_waiting(n?) */
static int l_set_max_waiting(lua_State *L) {
  struct limiter *l = check_limiter(L);
  l->l.waiters.max = lua_isnoneornil(L, 2) ? 0 : np_check_count(L, 2, 1);
  return 0;
}

static int above_burst(lua_State *L, const struct limiter *l, uint32_t rate,
                       uint64_t units) {
  return np_fail(L, NP_E_INVALID, "rate_limiter",
                 "%.0f %s can never pass: the burst is %.0f", (double)units,
                 kind_names[l->kind_of[rate]], (double)l->l.rates[rate].burst);
}

/* limiter:lease(amounts?, timeout?) -> lease, not granted | nil, err; acquire's
 * arguments are checked here, where it is on the stack */
static int l_lease(lua_State *L) {
  struct limiter *l = check_limiter(L);
  struct amounts named;
  read_amounts(L, 2, l, &named);
  (void)np_opt_timeout(L, 3);
  struct lease *lease = np_bind_new(L, lease_class, sizeof *lease);
  lua_getfenv(L, 1);
  (void)lua_setfenv(L, -2); /* a userdata always takes one */
  lease->l.limiter = &l->l;
  /* What goes without saying: one request, one unit of an only kind. */
  lease->amounts.of[REQUESTS] = 1;
  if (lua_isnoneornil(L, 2) && l->kind_count <= 1) named.of[only_kind(l)] = 1;
  merge(&lease->amounts, &named);
  spread(lease, lease->l.units);
  int rate = np_limiter_above_burst(&l->l, &lease->l);
  if (rate >= 0) return above_burst(L, l, (uint32_t)rate, lease->l.units[rate]);
  return 1;
}

static int l_available(lua_State *L) {
  struct limiter *l = check_limiter(L);
  enum kind kind = check_kind(L, 2, l);
  uint64_t least = UINT64_MAX;
  for (uint32_t i = 0; i < l->l.rate_count; i++) {
    uint64_t units = np_limiter_available(&l->l, i);
    if (l->kind_of[i] == kind && units < least) least = units;
  }
  lua_pushnumber(L, least == UINT64_MAX ? HUGE_VAL : (double)least);
  return 1;
}

static int l_waiting(lua_State *L) {
  lua_pushnumber(L, check_limiter(L)->l.waiters.count);
  return 1;
}

/* limiter:eta(task?) -> when it passes, or the head of the line; nil when it
 * does not wait here */
static int l_eta(lua_State *L) {
  struct limiter *l = check_limiter(L);
  const struct np_task *t = NULL;
  if (!lua_isnoneornil(L, 2)) {
    t = luaL_testudata(L, 2, "neap.task");
    if (!t) np_type_error(L, 2, "a task");
  }
  uint64_t eta_ns = np_limiter_eta(&l->l, t);
  if (eta_ns == NP_FOREVER) return 0;
  lua_pushnumber(L, (double)eta_ns / 1e9);
  return 1;
}

/* limiter:hold(seconds) -> whether that is longer than before: nothing passes
 */
static int l_hold(lua_State *L) {
  struct limiter *l = check_limiter(L);
  uint64_t until_ns = np_deadline(np_loop_now(l->l.loop), np_opt_timeout(L, 2));
  lua_pushboolean(L, until_ns > l->l.hold_ns);
  np_limiter_hold(&l->l, until_ns);
  return 1;
}

/* limiter:held_until() -> seconds, 0: never was */
static int l_held_until(lua_State *L) {
  lua_pushnumber(L, (double)check_limiter(L)->l.hold_ns / 1e9);
  return 1;
}

/* -- Leases ---------------------------------------------------------------- */

static int push_lease(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status == NP_E_INVALID) { /* its burst has become smaller */
    const struct lease *lease = check_lease(L);
    int rate = np_limiter_above_burst(lease->l.limiter, &lease->l);
    if (rate >= 0)
      return above_burst(L, limiter_of(lease), (uint32_t)rate,
                         lease->l.units[rate]);
  }
  if (status != NP_OK) return np_fail_wait(L, status, "rate_limiter");
  lua_pushvalue(L, 1);
  return 1;
}

/* lease:acquire(timeout?, front?) -> lease | nil, err */
static int l_acquire(lua_State *L) {
  struct lease *lease = check_lease(L);
  uint64_t timeout_ns = np_opt_timeout(L, 2);
  bool front = lua_toboolean(L, 3);
  struct np_task *t = np_wait_begin(L);
  int rc =
      np_limiter_acquire(lease->l.limiter, t, &lease->l, timeout_ns, front);
  return np_wait_end(L, t, rc, push_lease);
}

/* lease:settle(actual): kinds that are not named stay as they were */
static int l_settle(lua_State *L) {
  struct lease *lease = check_lease(L);
  struct amounts named;
  uint64_t units[NP_LIMITER_RATES];
  if (lua_isnoneornil(L, 2)) np_type_error(L, 2, "number or table");
  read_amounts(L, 2, limiter_of(lease), &named);
  merge(&lease->amounts, &named);
  spread(lease, units);
  np_lease_settle(&lease->l, units);
  return 0;
}

/* lease:date() -> the instant of the grant, seconds on neap.now()'s scale */
static int l_date(lua_State *L) {
  lua_pushnumber(L, (double)check_lease(L)->l.date_ns / 1e9);
  return 1;
}

/* lease:waited() -> seconds from the call to the grant's date */
static int l_waited(lua_State *L) {
  struct np_lease *lease = &check_lease(L)->l;
  lua_pushnumber(L, (double)(lease->date_ns - lease->arrival_ns) / 1e9);
  return 1;
}

static const luaL_Reg functions[] = {{"rate_limiter", l_limiter}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"add", l_add},
                                   {"set", l_set},
                                   {"add_learned", l_add_learned},
                                   {"learn", l_learn},
                                   {"serve", l_serve},
                                   {"forget", l_forget},
                                   {"set_max_waiting", l_set_max_waiting},
                                   {"lease", l_lease},
                                   {"available", l_available},
                                   {"waiting", l_waiting},
                                   {"eta", l_eta},
                                   {"hold", l_hold},
                                   {"held_until", l_held_until},
                                   {NULL, NULL}};
static const luaL_Reg lease_methods[] = {
    {"settle", l_settle}, {"date", l_date}, {"waited", l_waited}, {NULL, NULL}};
static const luaL_Reg lease_waits[] = {{"acquire", l_acquire}, {NULL, NULL}};

static void export_methods(lua_State *L, const char *name, const char *field) {
  luaL_getmetatable(L, name);
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, field);
  lua_pop(L, 1);
}

void np_open_limiter(lua_State *L, struct np_rt *rt) {
  np_bind_class(L, rt, class, methods, NULL, l_gc);
  np_bind_class(L, rt, lease_class, lease_methods, lease_waits, NULL);
  np_bind_funcs(L, rt, functions);
  export_methods(L, class, "rate_limiter_methods");
  export_methods(L, lease_class, "lease_methods");
}
