/* SPDX-License-Identifier: MIT
 * Base64 (RFC 4648): the standard alphabet with padding, or the one for URLs
 * and file names, where padding is optional and not written. Decoding is
 * strict: no white space, no other bytes, no bits left over. Pure; any thread.
 */
#ifndef NP_BASE64_H
#define NP_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* Room that the encoding of len bytes needs at most. */
static inline size_t np_base64_room(size_t len) {
  return (len + 2) / 3 * 4;
}
/* Encodes into out; returns the length. */
size_t np_base64_encode(char *out, const void *data, size_t len, bool url);
/* Decodes into out (len / 4 * 3 + 2 bytes of room). Returns true with *out_len
 * set, or false with it set to the offset of the first byte that is wrong. */
bool np_base64_decode(char *out, size_t *out_len, const char *text, size_t len,
                      bool url);

#endif
