/* SPDX-License-Identifier: MIT
 * The command line: a runtime, Ctrl-C, and the Lua module neap.cli. Nothing
 * that an embedder could not do. */
#include "include/neap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { EXIT_SCRIPT_ERROR = 1, EXIT_SIGNAL = 128 };

static neap_t *runtime; /* for the signal handler only */
static volatile sig_atomic_t interrupted_by;

/* The first Ctrl-C (or SIGTERM, SIGHUP) cancels every task, so that clean-up
 * runs; the second one finds the default action and ends the process. */
static void on_interrupt(int signum) {
  interrupted_by = signum;
  (void)signal(signum, SIG_DFL);
  neap_cancel(runtime);
}

/* A program may be started without the three standard files (cron, daemons).
 * Their numbers would then go to sockets, and libuv aborts when it closes one
 * of them. What is written to a standard output that is not there is an error,
 * not lost. */
static void open_standard_files(void) {
  static const char *const files[] = {"/dev/null", "/dev/full", "/dev/null"};
  for (int fd = 0; fd <= 2; fd++)
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
        open(files[fd], fd == 0 ? O_RDONLY : O_WRONLY) != fd)
      _exit(EXIT_SCRIPT_ERROR);
}

/* NEAP_HOG_MS: report tasks that hold the loop longer; 0: never. */
static uint64_t hog_ns(void) {
  const char *text = getenv("NEAP_HOG_MS");
  char *end;
  if (!text) return 0; /* the library's default */
  double ms = strtod(text, &end);
  if (end == text || *end != '\0' || !(ms >= 0)) {
    fprintf(stderr, "neap: NEAP_HOG_MS must be milliseconds, got '%s'\n", text);
    return 0;
  }
  return ms > 0 && ms < 1e12 ? (uint64_t)(ms * 1e6) + 1 : UINT64_MAX;
}

/* NEAP_LUA_PATH: neap's Lua modules are read from there, not from the library.
 */
static const char *lua_path(void) {
  const char *path = getenv("NEAP_LUA_PATH");
  char first[4096];
  if (!path || *path == '\0') return NULL;
  int len = snprintf(first, sizeof first, "%s/neap/init.lua", path);
  if (len < 0 || (size_t)len >= sizeof first || access(first, R_OK) != 0)
    fprintf(stderr,
            "neap: NEAP_LUA_PATH: there is no neap/init.lua in '%s'; the "
            "modules that are built in are used\n",
            path);
  return path;
}

static void on_log(void *ud, int level, const char *message) {
  static const char *const names[] = {"debug", "info", "warning", "error"};
  (void)ud;
  fprintf(stderr, "neap: %s: %s\n", names[level], message);
}

static void on_error(void *ud, const char *text) {
  (void)ud;
  fprintf(stderr, "neap: %s\n", text);
}

static int set_exit_code(neap_call *call, void *ud) {
  *(int *)ud = (int)neap_arg_number(call, 1);
  return 0;
}

static int exe_path(neap_call *call, void *ud) {
  char path[4096];
  ssize_t len = readlink("/proc/self/exe", path, sizeof path);
  if (len > 0)
    neap_return_string(call, path, (size_t)len);
  else
    neap_return_string(call, ud, strlen(ud));
  return 0;
}

/* A helper process ends with the one that started it, however that ends. */
static int die_with_parent(neap_call *call, void *ud) {
  pid_t parent = (pid_t)neap_arg_number(call, 1);
  (void)ud;
#ifdef __linux__
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  if (getppid() != parent) _exit(EXIT_SCRIPT_ERROR); /* it has ended already */
  return 0;
}

int main(int argc, char **argv) {
  static const char start[] = "return require('neap.cli').main(...)";
  int exit_code = 0;
  open_standard_files();
  neap_options options = {
      .virtual_time = argc > 1 && strcmp(argv[1], "sim") == 0,
      .lua_path = lua_path(),
      .hog_ns = hog_ns(),
      .log = on_log,
      .log_level = NEAP_LOG_WARN,
      .error = on_error,
  };
  runtime = neap_new(&options);
  if (!runtime) {
    fputs("neap: cannot start: not enough memory or file descriptors\n",
          stderr);
    return EXIT_SCRIPT_ERROR;
  }
  (void)signal(SIGPIPE, SIG_IGN);
  (void)signal(SIGINT, on_interrupt);
  (void)signal(SIGTERM, on_interrupt);
  if (signal(SIGHUP, on_interrupt) == SIG_IGN) (void)signal(SIGHUP, SIG_IGN);
  if (neap_register(runtime, "set_exit_code", set_exit_code, &exit_code) != 0 ||
      neap_register(runtime, "exe_path", exe_path, argv[0]) != 0 ||
      neap_register(runtime, "die_with_parent", die_with_parent, NULL) != 0 ||
      neap_run_string(runtime, start, "=neap", argc - 1, argv + 1) != 0) {
    on_error(NULL, neap_last_error(runtime));
    neap_free(runtime);
    return EXIT_SCRIPT_ERROR;
  }
  if (neap_wait(runtime) != 0 && exit_code == 0)
    exit_code =
        interrupted_by ? EXIT_SIGNAL + interrupted_by : EXIT_SCRIPT_ERROR;
  (void)signal(SIGINT, SIG_DFL);
  (void)signal(SIGTERM, SIG_DFL);
  if (signal(SIGHUP, SIG_DFL) == SIG_IGN) (void)signal(SIGHUP, SIG_IGN);
  neap_free(runtime);
  if (fflush(stdout) != 0 || ferror(stdout)) {
    fprintf(stderr, "neap: cannot write standard output\n");
    if (exit_code == 0) exit_code = EXIT_SCRIPT_ERROR;
  }
  return exit_code;
}
