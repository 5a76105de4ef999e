/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void np_logf(const struct np_log *log, int level, const char *fmt, ...) {
  char message[8192];
  va_list ap;
  if (!log->fn || level < log->level) return;
  va_start(ap, fmt);
  (void)vsnprintf(message, sizeof message, fmt, ap); /* a cut is fine */
  va_end(ap);
  log->fn(log->ud, level, message);
}
