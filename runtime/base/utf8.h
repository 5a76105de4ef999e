/* SPDX-License-Identifier: MIT
 * UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above
 * U+10FFFF. Pure functions; any thread. */
#ifndef NP_UTF8_H
#define NP_UTF8_H

#include "base/buf.h"

#include <stddef.h>

/* The length (1 to 4) of the character at s, or 0 when it is not one. left > 0:
 * the bytes there are. */
unsigned np_utf8_char(const char *s, size_t left);
/* How many bytes from the start are valid: len when all are. */
size_t np_utf8_valid(const char *s, size_t len);
/* Appends s to out with U+FFFD for each maximal piece that is not UTF-8 (the
 * WHATWG rule). Returns 0 or NP_E_LIMIT without memory. */
int np_utf8_clean(struct np_buf *out, const char *s, size_t len);

#endif
