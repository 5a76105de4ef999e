/* SPDX-License-Identifier: MIT
 * A strict JSON scanner (RFC 8259, valid UTF-8, bounded depth): says whether a
 * text is JSON, where it is not, and where the parts lie that a caller wants to
 * handle as bytes. It builds nothing, allocates nothing and does not recurse.
 * Pure; any thread. */
#ifndef NP_JSONSCAN_H
#define NP_JSONSCAN_H

#include <stdbool.h>
#include <stddef.h>

enum { NP_JSON_MAX_DEPTH = 1000 }; /* arrays and objects within each other */

#define NP_JSON_NOWHERE ((size_t)-1)

enum np_json_event {
  NP_JSON_MEMBER,       /* of the outermost object: key and value */
  NP_JSON_WIDE_INTEGER, /* value: an integer beyond +-2^53, no '.', no 'e' */
  NP_JSON_EMPTY_ARRAY   /* value: from '[' to ']' */
};

/* Byte ranges of the text; what no event sets is 0. */
struct np_json_span {
  const char *key; /* between the quotes, escapes as they are */
  size_t key_len;
  bool key_escaped; /* the key has escapes: see np_json_unescape */
  const char *value;
  size_t value_len;
};

typedef void (*np_json_visit_fn)(void *ud, enum np_json_event event,
                                 const struct np_json_span *span);

struct np_json_scan {
  /* In: called in the order of the text, also before a problem is found. May
   * be NULL. */
  np_json_visit_fn visit;
  void *ud;
  /* Out. problem is a static sentence without a full stop, NULL when the text
   * is JSON; at is its byte offset. The rest is complete only without one. */
  const char *problem;
  size_t at;
  size_t wide_integers, empty_arrays; /* how many */
  size_t huge_number; /* offset of the first number beyond a double's range */
  size_t lone_surrogate; /* offset of the first \u escape that is half a pair */
};

/* Scans text; true when it is JSON. Legal by the grammar, but no double or no
 * Unicode: those are facts (huge_number, lone_surrogate), not problems. */
bool np_json_scan(struct np_json_scan *s, const char *text, size_t len);

/* Undoes the escapes of a scanned string's inside; out has room for len bytes
 * (it never grows). A lone surrogate becomes U+FFFD. Returns the length. */
size_t np_json_unescape(char *out, const char *text, size_t len);

#endif
