/* SPDX-License-Identifier: MIT
 * The header lines of one request, checked as they are added: nothing in them
 * can end a line early or change the framing of the message. Part of http. */
#ifndef NP_HTTP_HEADERS_H
#define NP_HTTP_HEADERS_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct np_headers {
  struct np_buf lines; /* "Name: value" and a NUL, one after the other */
  uint32_t count;
  bool has_content_type, has_expect, has_accept;
};

/* Adds a line. Returns 0, NP_E_INVALID for a name that is no token, a value
 * with CR, LF or NUL or a header that the client must set itself, or
 * NP_E_LIMIT. */
int np_headers_add(struct np_headers *h, const char *name, size_t name_len,
                   const char *value, size_t value_len);
void np_headers_clear(struct np_headers *h);
void np_headers_fini(struct np_headers *h);
/* Whether s is a token of RFC 9110: a method or a header name. */
bool np_http_is_token(const char *s, size_t len);

#endif
