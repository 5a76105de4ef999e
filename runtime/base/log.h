/* SPDX-License-Identifier: MIT
 * Leveled messages to the host's sink. The library never prints: without a
 * sink a message is dropped. No allocation. */
#ifndef NP_LOG_H
#define NP_LOG_H

enum np_log_level { NP_LOG_DEBUG, NP_LOG_INFO, NP_LOG_WARN, NP_LOG_ERROR };

typedef void (*np_log_fn)(void *ud, int level, const char *message);

struct np_log {
  np_log_fn fn; /* may be NULL */
  void *ud;
  int level; /* messages below it are dropped */
};

/* Formats (cut at 8 kB) and hands the message to the sink. */
void np_logf(const struct np_log *log, int level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
