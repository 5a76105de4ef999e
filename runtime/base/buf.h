/* SPDX-License-Identifier: MIT
 * Growable bytes. Zero-initialised is empty; data is owned and not
 * NUL-terminated unless said. */
#ifndef NP_BUF_H
#define NP_BUF_H

#include <stddef.h>

struct np_buf {
  char *data;
  size_t len, capacity;
};

/* Room for more bytes beyond len. Returns 0, or NP_E_LIMIT without memory. */
int np_buf_reserve(struct np_buf *b, size_t more);
/* Appends bytes. Returns 0 or NP_E_LIMIT; b is unchanged on failure. */
int np_buf_append(struct np_buf *b, const void *data, size_t len);
/* Forgets the contents, keeps the memory. */
static inline void np_buf_clear(struct np_buf *b) {
  b->len = 0;
}
/* Frees the memory; b is empty and usable again. */
void np_buf_fini(struct np_buf *b);

#endif
