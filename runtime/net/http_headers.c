/* SPDX-License-Identifier: MIT */
#include "net/http_headers.h"

#include "base/err.h"

#include <string.h>
#include <strings.h>

/* RFC 9110, 5.6.2: letters, digits and !#$%&'*+-.^_`|~, a bit each. */
static const uint32_t token_bits[8] = {
    0x00000000, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff, 0, 0, 0, 0};

bool np_http_is_token(const char *s, size_t len) {
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)s[i];
    if (!(token_bits[c >> 5] >> (c & 31) & 1)) return false;
  }
  return len > 0;
}

static bool is_value(const char *s, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (s[i] == '\r' || s[i] == '\n' || s[i] == '\0') return false;
  return true;
}

static bool is(const char *name, size_t len, const char *literal, size_t n) {
  return len == n && strncasecmp(name, literal, n) == 0;
}
#define IS(name, len, literal) is(name, len, literal, sizeof literal - 1)

static bool blank(char c) {
  return c == ' ' || c == '\t';
}

int np_headers_add(struct np_headers *h, const char *name, size_t name_len,
                   const char *value, size_t value_len) {
  if (!np_http_is_token(name, name_len) || !is_value(value, value_len))
    return NP_E_INVALID;
  if (IS(name, name_len, "content-length") ||
      IS(name, name_len, "transfer-encoding"))
    return NP_E_INVALID;
  h->has_content_type |= IS(name, name_len, "content-type");
  h->has_expect |= IS(name, name_len, "expect");
  h->has_accept |= IS(name, name_len, "accept");
  while (value_len > 0 && blank(*value)) value++, value_len--;
  while (value_len > 0 && blank(value[value_len - 1])) value_len--;
  if (np_buf_reserve(&h->lines, name_len + value_len + 3) < 0)
    return NP_E_LIMIT;
  char *out = h->lines.data + h->lines.len;
  memcpy(out, name, name_len);
  memcpy(out + name_len, ": ", 2);
  memcpy(out + name_len + 2, value, value_len);
  out[name_len + 2 + value_len] = '\0';
  h->lines.len += name_len + value_len + 3;
  h->count++;
  return NP_OK;
}

void np_headers_clear(struct np_headers *h) {
  np_buf_clear(&h->lines);
  h->count = 0;
  h->has_content_type = h->has_expect = h->has_accept = false;
}

void np_headers_fini(struct np_headers *h) {
  np_buf_fini(&h->lines);
  np_headers_clear(h);
}
