/* SPDX-License-Identifier: MIT */
#include "base/trace.h"

#include "base/err.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

int np_trace_open(struct np_trace *t, const char *path,
                  const struct np_clock *clock) {
  memset(t, 0, sizeof *t);
  t->file = fopen(path, "wbe");
  if (!t->file) return errno;
  t->clock = clock;
  return 0;
}

int np_trace_close(struct np_trace *t) {
  if (fclose(t->file) != 0 && t->error == 0) t->error = errno;
  np_buf_fini(&t->line);
  t->file = NULL;
  return t->error;
}

static void put(struct np_trace *t, const char *data, size_t len) {
  if (np_buf_append(&t->line, data, len) < 0 && t->error == 0)
    t->error = ENOMEM;
}

static void put_number(struct np_trace *t, uint64_t value) {
  char digits[24];
  int len = snprintf(digits, sizeof digits, "%" PRIu64, value);
  put(t, digits, (size_t)len);
}

static void put_key(struct np_trace *t, const char *key) {
  put(t, ",\"", 2);
  put(t, key, strlen(key));
  put(t, "\":", 2);
}

void np_trace_begin(struct np_trace *t, const char *what) {
  np_buf_clear(&t->line);
  put(t, "{\"t\":", 5);
  put_number(t, np_clock_now(t->clock));
  np_trace_number(t, "n", ++t->lines);
  np_trace_name(t, "what", what);
}

void np_trace_number(struct np_trace *t, const char *key, uint64_t value) {
  put_key(t, key);
  put_number(t, value);
}

void np_trace_text(struct np_trace *t, const char *key, const char *text,
                   size_t len) {
  if (!text) return;
  put_key(t, key);
  put(t, "\"", 1);
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)text[i];
    char escape[8];
    if (c == '"' || c == '\\')
      put(t, (char[]){'\\', (char)c}, 2);
    else if (c < 0x20)
      put(t, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
    else
      put(t, text + i, 1);
  }
  put(t, "\"", 1);
}

void np_trace_name(struct np_trace *t, const char *key, const char *text) {
  np_trace_text(t, key, text, text ? strlen(text) : 0);
}

void np_trace_raw(struct np_trace *t, const char *members, size_t len) {
  if (len == 0) return;
  put(t, ",", 1);
  put(t, members, len);
}

void np_trace_end(struct np_trace *t) {
  if (t->draws != t->told_draws) np_trace_number(t, "draws", t->draws);
  t->told_draws = t->draws;
  put(t, "}\n", 2);
  if (fwrite(t->line.data, 1, t->line.len, t->file) != t->line.len &&
      t->error == 0)
    t->error = errno;
}
