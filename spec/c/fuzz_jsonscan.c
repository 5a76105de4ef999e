/* SPDX-License-Identifier: MIT
 * libFuzzer target for base/jsonscan and base/utf8: whatever the bytes, the
 * scanner stays inside them, its answer does not depend on visiting, and the
 * parts of a JSON text are JSON themselves.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime \
 *     spec/c/fuzz_jsonscan.c runtime/base/jsonscan.c runtime/base/utf8.c \
 *     runtime/base/buf.c -o fuzz_jsonscan && ./fuzz_jsonscan -max_total_time=60
 */
#include "base/jsonscan.h"
#include "base/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct watch {
  const char *text;
  size_t len;
  const char *last; /* spans come in the order of the text */
  size_t wide_integers, empty_arrays;
  struct np_json_span members[8];
  size_t member_count;
};

static void need(bool holds) {
  if (!holds) abort();
}

static void on_event(void *ud, enum np_json_event event,
                     const struct np_json_span *span) {
  struct watch *w = ud;
  const char *end = w->text + w->len;
  need(span->value >= w->text && span->value_len > 0);
  need(span->value_len <= (size_t)(end - span->value));
  if (event == NP_JSON_MEMBER) {
    need(span->key > w->text && span->key + span->key_len < span->value);
    if (w->member_count < 8) w->members[w->member_count++] = *span;
    return;
  }
  need(span->value >= w->last);
  w->last = span->value + span->value_len;
  if (event == NP_JSON_WIDE_INTEGER) w->wide_integers++;
  if (event == NP_JSON_EMPTY_ARRAY) {
    need(span->value[0] == '[' && span->value[span->value_len - 1] == ']');
    w->empty_arrays++;
  }
}

static void check_members(const struct watch *w) {
  for (size_t i = 0; i < w->member_count; i++) {
    const struct np_json_span *m = &w->members[i];
    struct np_json_scan s = {.visit = NULL};
    need(np_json_scan(&s, m->value, m->value_len));
    char *key = malloc(m->key_len + 1); /* never grows */
    size_t len = np_json_unescape(key, m->key, m->key_len);
    need(len <= m->key_len && np_utf8_valid(key, len) == len);
    need(m->key_escaped || len == m->key_len);
    free(key);
  }
}

static void check_utf8(const char *text, size_t len) {
  struct np_buf out = {0};
  size_t good = np_utf8_valid(text, len);
  need(good <= len);
  need(np_utf8_clean(&out, text, len) == 0);
  need(np_utf8_valid(out.data, out.len) == out.len);
  if (good == len)
    need(out.len == len && (len == 0 || memcmp(out.data, text, len) == 0));
  np_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *text = malloc(size ? size : 1); /* exact: no byte beyond may be read */
  if (size) memcpy(text, data, size);
  struct np_json_scan plain = {.visit = NULL};
  bool is_json = np_json_scan(&plain, text, size);
  struct watch w = {.text = text, .len = size, .last = text};
  struct np_json_scan watched = {.visit = on_event, .ud = &w};
  need(np_json_scan(&watched, text, size) == is_json);
  need(is_json == (plain.problem == NULL) && plain.problem == watched.problem);
  need(plain.at <= size);
  if (is_json) {
    need(w.wide_integers == plain.wide_integers);
    need(w.empty_arrays == plain.empty_arrays);
    need(np_utf8_valid(text, size) == size);
    check_members(&w);
  }
  check_utf8(text, size);
  free(text);
  return 0;
}
