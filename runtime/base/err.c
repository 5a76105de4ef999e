/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
  const char *name;
  bool retryable;
} kinds[] = {
#define X(id, name, retryable) [NP_KIND_##id##_] = {name, retryable},
    NP_ERR_MAP(X)
#undef X
};

enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

static int kind_of(int code) {
  int kind = -code;
  if (kind <= NP_KIND_NONE_ || kind >= KIND_COUNT) return -NP_E_INTERNAL;
  return kind;
}

const char *np_err_name(int code) {
  return kinds[kind_of(code)].name;
}

bool np_err_retryable(int code) {
  return kinds[kind_of(code)].retryable;
}

int np_err_code(const char *name) {
  for (int i = NP_KIND_NONE_ + 1; i < KIND_COUNT; i++)
    if (strcmp(kinds[i].name, name) == 0) return -i;
  return 0;
}

int np_error_set(struct np_error *e, int code, const char *phase,
                 const char *fmt, ...) {
  va_list ap;
  e->code = code;
  e->phase = phase;
  va_start(ap, fmt);
  (void)vsnprintf(e->message, sizeof e->message, fmt, ap); /* a cut is fine */
  va_end(ap);
  return code;
}
