/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include "base/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

int np_buf_reserve(struct np_buf *b, size_t more) {
  if (more <= b->capacity - b->len) return NP_OK;
  if (more > SIZE_MAX / 2 - b->len) return NP_E_LIMIT;
  size_t capacity = b->capacity ? b->capacity : FIRST_CAPACITY;
  while (capacity < b->len + more) capacity *= 2;
  char *data = realloc(b->data, capacity);
  if (!data) return NP_E_LIMIT;
  b->data = data;
  b->capacity = capacity;
  return NP_OK;
}

int np_buf_append(struct np_buf *b, const void *data, size_t len) {
  if (len == 0) return NP_OK;
  int rc = np_buf_reserve(b, len);
  if (rc < 0) return rc;
  memcpy(b->data + b->len, data, len);
  b->len += len;
  return NP_OK;
}

void np_buf_fini(struct np_buf *b) {
  free(b->data);
  *b = (struct np_buf){0};
}
