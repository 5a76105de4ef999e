/* SPDX-License-Identifier: MIT
 * The yardstick for sleeping tasks: LuaJIT coroutines on a binary heap in C and
 * nothing else; no cancelling, no errors, no sockets. COUNT coroutines sleep
 * once each, deadlines spread over 1 to 3 seconds.
 *
 * usage: sleepers_bare COUNT */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct sleeper {
  uint64_t deadline_ns;
  lua_State *co;
  int ref; /* keeps the coroutine alive */
};

static struct sleeper *heap;
static size_t heap_len, heap_capacity;
static uint64_t wanted_ns; /* by the last call of sleep */

static const char script[] = "local sleep, done = sleep, 0\n"
                             "function task(seconds)\n"
                             "  sleep(seconds)\n"
                             "  done = done + 1\n"
                             "end\n"
                             "function count() return done end\n";

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void push(struct sleeper s) {
  if (heap_len == heap_capacity) {
    heap_capacity = heap_capacity ? heap_capacity * 2 : 1024;
    heap = realloc(heap, heap_capacity * sizeof *heap);
    if (!heap) abort();
  }
  size_t i = heap_len++;
  while (i > 0) {
    size_t parent = (i - 1) / 2;
    if (heap[parent].deadline_ns <= s.deadline_ns) break;
    heap[i] = heap[parent];
    i = parent;
  }
  heap[i] = s;
}

static struct sleeper pop(void) {
  struct sleeper first = heap[0], last = heap[--heap_len];
  size_t i = 0, child;
  while ((child = 2 * i + 1) < heap_len) {
    if (child + 1 < heap_len &&
        heap[child + 1].deadline_ns < heap[child].deadline_ns)
      child++;
    if (heap[child].deadline_ns >= last.deadline_ns) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = last;
  return first;
}

static int l_sleep(lua_State *L) {
  wanted_ns = now_ns() + (uint64_t)(lua_tonumber(L, 1) * 1e9);
  return lua_yield(L, 0);
}

static void spawn(lua_State *L) {
  struct sleeper s;
  s.co = lua_newthread(L);
  s.ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_getglobal(s.co, "task");
  lua_pushnumber(s.co, 1 + 2.0 * rand() / RAND_MAX);
  if (lua_resume(s.co, 1) != LUA_YIELD) abort();
  s.deadline_ns = wanted_ns;
  push(s);
}

static void run(lua_State *L) {
  while (heap_len > 0) {
    uint64_t now = now_ns(), first = heap[0].deadline_ns;
    if (first > now) {
      uint64_t left = first - now;
      struct timespec t = {(time_t)(left / 1000000000u),
                           (long)(left % 1000000000u)};
      nanosleep(&t, NULL);
      continue;
    }
    struct sleeper s = pop();
    if (lua_resume(s.co, 0) != 0) abort();
    luaL_unref(L, LUA_REGISTRYINDEX, s.ref);
  }
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: sleepers_bare COUNT\n");
    return 2;
  }
  long count = atol(argv[1]);
  lua_State *L = luaL_newstate();
  if (!L) return 1;
  luaL_openlibs(L);
  lua_register(L, "sleep", l_sleep);
  if (luaL_dostring(L, script) != 0) return 1;
  for (long i = 0; i < count; i++) spawn(L);
  run(L);
  lua_getglobal(L, "count");
  lua_call(L, 0, 1);
  long done = (long)lua_tointeger(L, -1);
  printf("%ld done, %ld failed\n", done, count - done);
  lua_close(L);
  free(heap);
  return done != count;
}
