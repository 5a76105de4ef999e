/* SPDX-License-Identifier: MIT
 * neap: an embeddable Lua runtime for scripts that make very many API calls.
 *
 * A runtime owns a Lua state, an event loop and everything its scripts start.
 * It never prints, exits, installs signal handlers or keeps globals; several
 * runtimes may live in one process, each on a thread of its own. All calls on a
 * runtime come from one thread, but for neap_cancel.
 *
 *   neap_t *rt = neap_new(NULL);
 *   if (neap_run_string(rt, "require('neap').sleep(1)", "=demo", 0, NULL) != 0)
 *     puts(neap_last_error(rt));
 *   while (neap_step(rt, 2000000) != NEAP_DONE) draw_a_frame();
 *   neap_free(rt);
 */
#ifndef NEAP_H
#define NEAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NEAP_API __attribute__((visibility("default")))
#else
#define NEAP_API
#endif

typedef struct neap neap_t;

enum neap_log_level {
  NEAP_LOG_DEBUG,
  NEAP_LOG_INFO,
  NEAP_LOG_WARN,
  NEAP_LOG_ERROR
};

typedef struct neap_options {
  int virtual_time; /* 1: time begins at 0 (1 January 2026) and jumps to the
                       next deadline when nothing is ready and nothing real
                       is under way */
  uint64_t seed;    /* of jitter and math.random; 0: from the system */
  uint64_t hog_ns;  /* a task that runs longer without waiting is logged with
                       its traceback; 0: 100 ms */
  const char *lua_path; /* folder that holds neap/init.lua: used instead of the
                          embedded modules. NULL: embedded. Copied. */
  /* Messages at log_level or above; NULL drops them. */
  void (*log)(void *ud, int level, const char *message);
  int log_level;
  /* An uncaught error: message, kind, tracebacks. NULL: only neap_last_error.
   */
  void (*error)(void *ud, const char *text);
  void *ud; /* handed to log and error */
} neap_options;

/* Creates a runtime; options NULL: all defaults. NULL without memory or file
 * descriptors. */
NEAP_API neap_t *neap_new(const neap_options *options);

/* Ends every task without running it further, closes all connections and frees
 * the runtime. NULL is fine. Not from inside one of its own functions. */
NEAP_API void neap_free(neap_t *rt);

/* Loads a script and starts it as a task; nothing runs before the first step.
 * argv[0..argc) become `...` and the table `arg` (arg[0]: path or name).
 * Returns 0, or -1 when it cannot be read or compiled: neap_last_error says
 * where. Several scripts may run in one runtime. */
NEAP_API int neap_run_file(neap_t *rt, const char *path, int argc,
                           char *const *argv);
/* The same for text. name: as in luaL_loadbuffer ("=stdin", "@file.lua"). */
NEAP_API int neap_run_string(neap_t *rt, const char *code, const char *name,
                             int argc, char *const *argv);

typedef enum neap_state {
  NEAP_DONE,   /* no task is left */
  NEAP_READY,  /* the budget ended first: there is more to do now */
  NEAP_WAITING /* all tasks wait for time or for the network */
} neap_state;

/* Runs what is ready for about budget_ns, never blocks. One task that does not
 * wait can overrun the budget: tasks are not preempted. */
NEAP_API neap_state neap_step(neap_t *rt, uint64_t budget_ns);

/* Runs until no task is left. Returns 0, or -1 when an error was uncaught or
 * the run was cancelled. */
NEAP_API int neap_wait(neap_t *rt);

/* Cancels every task: their waits raise, cleanup runs. Any thread, also a
 * signal handler. */
NEAP_API void neap_cancel(neap_t *rt);
/* Whether neap_cancel was called since the last script was started. */
NEAP_API int neap_was_cancelled(const neap_t *rt);

/* The last uncaught or load error, "" when there was none. Valid until the next
 * call on rt. */
NEAP_API const char *neap_last_error(const neap_t *rt);

/* Host functions: C that scripts call as require("neap").host.<name>(...). */
typedef struct neap_call neap_call;
/* Returns 0, or -1 after neap_fail. Must not call neap_step, _wait or _free. */
typedef int (*neap_function)(neap_call *call, void *ud);
/* Registers fn under name (again: replaces it). Returns 0 or -1. */
NEAP_API int neap_register(neap_t *rt, const char *name, neap_function fn,
                           void *ud);

/* Arguments, counted from 1. A wrong type or a missing one makes the call raise
 * a clear error in the script after fn returns, and gives 0 or NULL here. */
NEAP_API int neap_arg_count(const neap_call *call);
NEAP_API double neap_arg_number(neap_call *call, int index);
NEAP_API int neap_arg_boolean(neap_call *call, int index);
/* Borrowed until fn returns. len may be NULL. */
NEAP_API const char *neap_arg_string(neap_call *call, int index, size_t *len);
/* Results, in order. */
NEAP_API void neap_return_nil(neap_call *call);
NEAP_API void neap_return_boolean(neap_call *call, int value);
NEAP_API void neap_return_number(neap_call *call, double value);
NEAP_API void neap_return_string(neap_call *call, const char *data, size_t len);
/* Makes the call raise message in the script. Returns -1. */
NEAP_API int neap_fail(neap_call *call, const char *message);

/* "0.1.0" */
NEAP_API const char *neap_version(void);

#ifdef __cplusplus
}
#endif

#endif
