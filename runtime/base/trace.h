/* SPDX-License-Identifier: MIT
 * A trace: every event of a run as one line of JSON in a file, so that two runs
 * can be compared byte by byte. A line has the virtual time in nanoseconds (t),
 * its number (n) and what happened; nothing in it depends on the machine. Made
 * for a virtual clock. Loop thread only.
 *
 * Whoever has events to tell asks np_loop's trace pointer, which is NULL when
 * nobody listens:
 *
 *   if (l->trace) {
 *     np_trace_begin(l->trace, "wait");
 *     np_trace_number(l->trace, "task", 7);
 *     np_trace_end(l->trace);
 *   } */
#ifndef NP_TRACE_H
#define NP_TRACE_H

#include "base/buf.h"
#include "base/clock.h"

#include <stdio.h>

struct np_trace {
  FILE *file; /* owned */
  const struct np_clock *clock;
  struct np_buf line;
  uint64_t lines;
  uint64_t draws, told_draws; /* random numbers drawn; as of the last line */
  uint64_t calls;             /* numbers given to requests */
  int error;                  /* errno of the first failure; 0 */
};

/* Starts a trace in a new file. Returns 0, or errno. */
int np_trace_open(struct np_trace *t, const char *path,
                  const struct np_clock *clock);
/* Writes the rest and closes. Returns 0, or the errno of the first failure. */
int np_trace_close(struct np_trace *t);

void np_trace_begin(struct np_trace *t, const char *what);
void np_trace_number(struct np_trace *t, const char *key, uint64_t value);
/* Bytes that are not ASCII are kept as they are. NULL: left out. */
void np_trace_text(struct np_trace *t, const char *key, const char *text,
                   size_t len);
void np_trace_name(struct np_trace *t, const char *key, const char *text);
/* Members that are JSON already: "\"a\":1,\"b\":2"; "" for none. */
void np_trace_raw(struct np_trace *t, const char *members, size_t len);
void np_trace_end(struct np_trace *t);

#endif
