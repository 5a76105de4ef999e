/* SPDX-License-Identifier: MIT */
#include "base/base64.h"

#include <stdint.h>
#include <string.h>

static const char standard_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "abcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789-_";

enum { WRONG = 64 };

size_t np_base64_encode(char *out, const void *data, size_t len, bool url) {
  const unsigned char *p = data;
  const char *digits = url ? url_digits : standard_digits;
  char *start = out;
  for (; len >= 3; len -= 3, p += 3) {
    uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
    *out++ = digits[bits >> 18];
    *out++ = digits[bits >> 12 & 63];
    *out++ = digits[bits >> 6 & 63];
    *out++ = digits[bits & 63];
  }
  if (len > 0) {
    uint32_t bits = (uint32_t)p[0] << 16;
    if (len == 2) bits |= (uint32_t)p[1] << 8;
    *out++ = digits[bits >> 18];
    *out++ = digits[bits >> 12 & 63];
    if (len == 2) *out++ = digits[bits >> 6 & 63];
    if (!url) {
      if (len == 1) *out++ = '=';
      *out++ = '=';
    }
  }
  return (size_t)(out - start);
}

static inline unsigned value_of(unsigned char c, bool url) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26u;
  if (c >= '0' && c <= '9') return c - '0' + 52u;
  if (c == (url ? '-' : '+')) return 62;
  if (c == (url ? '_' : '/')) return 63;
  return WRONG;
}

/* The length without correct padding; SIZE_MAX when the padding is wrong. */
static size_t digits_in(const char *text, size_t len, bool url) {
  size_t digits = len;
  while (digits > 0 && len - digits < 2 && text[digits - 1] == '=') digits--;
  bool padded = digits < len;
  if (padded ? len % 4 != 0 : !url && len % 4 != 0) return SIZE_MAX;
  return digits % 4 == 1 ? SIZE_MAX : digits;
}

bool np_base64_decode(char *out, size_t *out_len, const char *text, size_t len,
                      bool url) {
  unsigned char value[256];
  for (unsigned c = 0; c < sizeof value; c++)
    value[c] = (unsigned char)value_of((unsigned char)c, url);
  size_t digits = digits_in(text, len, url);
  size_t count = digits == SIZE_MAX ? len : digits;
  char *start = out;
  uint32_t bits = 0;
  for (size_t i = 0; i < count; i++) {
    unsigned digit = value[(unsigned char)text[i]];
    if (digit == WRONG) {
      *out_len = i;
      return false;
    }
    bits = bits << 6 | digit;
    if (i % 4 == 0) continue;
    *out++ = (char)(bits >> (6 - 2 * (i % 4)));
  }
  /* Bits beyond the last byte must be 0, or two texts would mean the same. */
  unsigned rest = digits % 4 == 2 ? 15 : digits % 4 == 3 ? 3 : 0;
  if (digits == SIZE_MAX || (bits & rest) != 0) {
    *out_len = digits == SIZE_MAX ? len : digits - 1;
    return false;
  }
  *out_len = (size_t)(out - start);
  return true;
}
