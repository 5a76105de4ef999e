/* SPDX-License-Identifier: MIT */
#include "base/utf8.h"

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline bool follows(unsigned char c) {
  return (c & 0xC0) == 0x80;
}

/* What a lead byte allows: the sequence's length (0: no lead byte) and the
 * range of the second byte (RFC 3629, section 4). */
struct lead {
  unsigned len;
  unsigned char low, high;
};

static struct lead lead_of(unsigned char c) {
  if (c < 0x80) return (struct lead){1, 0, 0};
  if (c < 0xC2) return (struct lead){0, 0, 0};
  if (c < 0xE0) return (struct lead){2, 0x80, 0xBF};
  if (c == 0xE0) return (struct lead){3, 0xA0, 0xBF};
  if (c == 0xED) return (struct lead){3, 0x80, 0x9F};
  if (c < 0xF0) return (struct lead){3, 0x80, 0xBF};
  if (c == 0xF0) return (struct lead){4, 0x90, 0xBF};
  if (c < 0xF4) return (struct lead){4, 0x80, 0xBF};
  if (c == 0xF4) return (struct lead){4, 0x80, 0x8F};
  return (struct lead){0, 0, 0};
}

/* The bytes at s that fit a character so far; *len is its full length. */
static unsigned fitting(const char *s, size_t left, unsigned *len) {
  const unsigned char *p = (const unsigned char *)s;
  struct lead lead = lead_of(p[0]);
  *len = lead.len;
  if (lead.len <= 1) return lead.len;
  if (left < 2 || p[1] < lead.low || p[1] > lead.high) return 1;
  unsigned n = 2;
  while (n < lead.len && n < left && follows(p[n])) n++;
  return n;
}

unsigned np_utf8_char(const char *s, size_t left) {
  unsigned len;
  unsigned n = fitting(s, left, &len);
  return n == len ? n : 0;
}

size_t np_utf8_valid(const char *s, size_t len) {
  size_t at = 0;
  while (at < len) {
    uint64_t word;
    if (len - at >= sizeof word) {
      memcpy(&word, s + at, sizeof word);
      if ((word & UINT64_C(0x8080808080808080)) == 0) {
        at += sizeof word;
        continue;
      }
    }
    unsigned n = np_utf8_char(s + at, len - at);
    if (n == 0) return at;
    at += n;
  }
  return at;
}

int np_utf8_clean(struct np_buf *out, const char *s, size_t len) {
  size_t at = 0;
  while (at < len) {
    size_t good = np_utf8_valid(s + at, len - at);
    int rc = np_buf_append(out, s + at, good);
    if (rc < 0) return rc;
    at += good;
    if (at == len) break;
    unsigned full;
    unsigned bad = fitting(s + at, len - at, &full);
    rc = np_buf_append(out, "\xEF\xBF\xBD", 3);
    if (rc < 0) return rc;
    at += bad > 0 ? bad : 1;
  }
  return NP_OK;
}
