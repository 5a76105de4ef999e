/* SPDX-License-Identifier: MIT
 * neap.rate_limiter and its leases. Here units have kinds (requests, tokens,
 * ...), and a kind has any number of rates. */
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
  return luaL_checkudata(L, 1, class);
}

static struct lease *check_lease(lua_State *L) {
  return luaL_checkudata(L, 1, lease_class);
}

static struct limiter *limiter_of(const struct lease *lease) {
  return np_container_of(lease->l.limiter, struct limiter, l);
}

/* -- Amounts --------------------------------------------------------------- */

static enum kind only_kind(const struct limiter *l) {
  int kind = 0;
  while (!l->limited[kind]) kind++;
  return (enum kind)kind;
}

/* Whole units: an estimate with a fraction is rounded up. */
static double check_units(lua_State *L, int value, int arg, const char *name) {
  double units = lua_tonumber(L, value);
  if (lua_type(L, value) != LUA_TNUMBER || !(units >= 0) || isinf(units))
    luaL_argerror(
        L, arg, lua_pushfstring(L, "%s must be a number of at least 0", name));
  return ceil(units);
}

static void read_table(lua_State *L, int arg, struct amounts *a) {
  for (lua_pushnil(L); lua_next(L, arg) != 0; lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    int kind = 0;
    while (kind < KINDS && strcmp(key, kind_names[kind]) != 0) kind++;
    if (kind == KINDS)
      luaL_argerror(L, arg,
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
  if (lua_type(L, arg) != LUA_TNUMBER) luaL_typerror(L, arg, "number or table");
  if (l->kind_count != 1)
    luaL_argerror(L, arg,
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
  if (lua_isnoneornil(L, arg) && l->kind_count == 1) return only_kind(l);
  return (enum kind)luaL_checkoption(L, arg, NULL, kind_names);
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

/* limiter:add(kind, rate, per_seconds, burst) */
static int l_add(lua_State *L) {
  struct limiter *l = check_limiter(L);
  int kind = luaL_checkoption(L, 2, NULL, kind_names);
  double burst = ceil(np_check_number(L, 5, 1, 1e12));
  int rate =
      np_limiter_add(&l->l, luaL_checknumber(L, 3),
                     np_ns_of_seconds(luaL_checknumber(L, 4)), (uint64_t)burst);
  if (rate < 0)
    return luaL_error(L, "a rate of %f %s per %f s is out of range",
                      lua_tonumber(L, 3), kind_names[kind], lua_tonumber(L, 4));
  l->kind_of[rate] = (uint8_t)kind;
  if (!l->limited[kind]) l->kind_count++;
  l->limited[kind] = true;
  return 0;
}

static int above_burst(lua_State *L, const struct limiter *l, uint32_t rate,
                       uint64_t units) {
  return np_fail(L, NP_E_INVALID, "rate_limiter",
                 "%.0f %s can never pass: the burst is %.0f", (double)units,
                 kind_names[l->kind_of[rate]], (double)l->l.rates[rate].burst);
}

/* limiter:lease(amounts?) -> lease, not granted | nil, err */
static int l_lease(lua_State *L) {
  struct limiter *l = check_limiter(L);
  struct amounts named;
  read_amounts(L, 2, l, &named);
  struct lease *lease = np_bind_new(L, lease_class, sizeof *lease);
  lua_getfenv(L, 1);
  (void)lua_setfenv(L, -2); /* a userdata always takes one */
  lease->l.limiter = &l->l;
  /* What goes without saying: one request, one unit of an only kind. */
  lease->amounts.of[REQUESTS] = 1;
  if (lua_isnoneornil(L, 2) && l->kind_count == 1) named.of[only_kind(l)] = 1;
  merge(&lease->amounts, &named);
  spread(lease, lease->l.units);
  for (uint32_t i = 0; i < l->l.rate_count; i++)
    if (lease->l.units[i] > l->l.rates[i].burst)
      return above_burst(L, l, i, lease->l.units[i]);
  return 1;
}

static int l_available(lua_State *L) {
  struct limiter *l = check_limiter(L);
  enum kind kind = check_kind(L, 2, l);
  double least = HUGE_VAL;
  for (uint32_t i = 0; i < l->l.rate_count; i++)
    if (l->kind_of[i] == kind)
      least = fmin(least, (double)np_limiter_available(&l->l, i));
  lua_pushnumber(L, least);
  return 1;
}

static int l_waiting(lua_State *L) {
  lua_pushnumber(L, check_limiter(L)->l.waiters.count);
  return 1;
}

/* limiter:cap(kind, units): at most so many are left */
static int l_cap(lua_State *L) {
  struct limiter *l = check_limiter(L);
  int kind = luaL_checkoption(L, 2, NULL, kind_names);
  double units = np_check_number(L, 3, 0, HUGE_VAL);
  for (uint32_t i = 0; i < l->l.rate_count; i++)
    if (l->kind_of[i] == kind)
      np_limiter_cap(&l->l, i, (uint64_t)fmin(units, MOST_UNITS));
  return 0;
}

/* limiter:hold(kind | nil, seconds): nothing passes before; nil: of any kind */
static int l_hold(lua_State *L) {
  struct limiter *l = check_limiter(L);
  int kind = KINDS;
  if (!lua_isnoneornil(L, 2)) kind = luaL_checkoption(L, 2, NULL, kind_names);
  uint64_t until_ns = np_deadline(np_loop_now(l->l.loop), np_opt_timeout(L, 3));
  for (uint32_t i = 0; i < l->l.rate_count; i++)
    if (kind == KINDS || l->kind_of[i] == kind)
      np_limiter_hold(&l->l, i, until_ns);
  return 0;
}

/* -- Leases ---------------------------------------------------------------- */

static int push_lease(lua_State *L, struct np_task *t, int status) {
  (void)t;
  if (status != NP_OK) return np_fail_wait(L, status, "rate_limiter");
  lua_pushvalue(L, 1);
  return 1;
}

/* lease:acquire(timeout?) -> lease | nil, err */
static int l_acquire(lua_State *L) {
  struct lease *lease = check_lease(L);
  uint64_t timeout_ns = np_opt_timeout(L, 2);
  struct np_task *t = np_wait_begin(L);
  return np_wait_end(
      L, t, np_limiter_acquire(lease->l.limiter, t, &lease->l, timeout_ns),
      push_lease);
}

/* lease:settle(actual): kinds that are not named stay as they were */
static int l_settle(lua_State *L) {
  struct lease *lease = check_lease(L);
  struct amounts named;
  uint64_t units[NP_LIMITER_RATES];
  luaL_checkany(L, 2);
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
                                   {"lease", l_lease},
                                   {"cap", l_cap},
                                   {"available", l_available},
                                   {"waiting", l_waiting},
                                   {"hold", l_hold},
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
