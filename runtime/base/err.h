/* SPDX-License-Identifier: MIT
 * The closed list of error kinds: one number, one name, one default for
 * "worth retrying". C functions return NP_OK or -kind; Lua sees the name in
 * `err.kind`. struct np_error carries what a kind alone cannot say. Owns
 * nothing; safe to copy. Any thread. */
#ifndef NP_ERR_H
#define NP_ERR_H

#include <stdbool.h>
#include <stdint.h>

/*      id             name             retryable */
#define NP_ERR_MAP(X)                                                          \
  X(DNS, "dns", true)                                                          \
  X(CONNECT, "connect", true)                                                  \
  X(TLS, "tls", false)                                                         \
  X(SEND, "send", true)                                                        \
  X(RECEIVE, "receive", true)                                                  \
  X(TIMEOUT, "timeout", true)                                                  \
  X(QUEUE_FULL, "queue_full", true)                                            \
  X(QUEUE_TIMEOUT, "queue_timeout", true)                                      \
  X(PROTOCOL, "protocol", false)                                               \
  X(TOO_LARGE, "too_large", false)                                             \
  X(REDIRECT, "redirect", false)                                               \
  X(INVALID, "invalid", false)                                                 \
  X(STATUS, "status", false)                                                   \
  X(DECODE, "decode", false)                                                   \
  X(CANCELLED, "cancelled", false)                                             \
  X(CLOSED, "closed", false)                                                   \
  X(CIRCUIT_OPEN, "circuit_open", true)                                        \
  X(BUDGET, "budget", false)                                                   \
  X(LIMIT, "limit", false)                                                     \
  X(INTERNAL, "internal", false)

enum np_err {
  NP_OK = 0,
  NP_PARKED = 1, /* not an error: the task waits and is woken later */
#define X(id, name, retryable) NP_KIND_##id##_,
  NP_KIND_NONE_ = 1,
  NP_ERR_MAP(X)
#undef X
#define X(id, name, retryable) NP_E_##id = -NP_KIND_##id##_,
      NP_ERR_MAP(X)
#undef X
};

/* How far a request got: the test of "was it sent?" is bytes on the wire. */
enum np_sent { NP_SENT_NO, NP_SENT_MAYBE, NP_SENT_YES };

struct np_error {
  int code;          /* NP_E_*; NP_OK when there is none */
  const char *phase; /* static string or NULL: where it was */
  const char *limit; /* static string or NULL: which timeout fired */
  enum np_sent sent; /* meaningful when has_sent */
  bool has_sent;     /* true for errors of the http client */
  uint32_t sends;    /* times the call went onto the wire */
  char message[224]; /* one sentence, NUL-terminated, no secrets */
};

/* The kind's name ("dns", ...) for code NP_E_*; "internal" for others. */
const char *np_err_name(int code);
/* Whether the kind is worth retrying when nothing else is known. */
bool np_err_retryable(int code);
/* The code (negative) of a kind's name, or 0 when there is no such kind. */
int np_err_code(const char *name);
/* Fills e with code, phase and a printf message (cut to fit). Returns code. */
int np_error_set(struct np_error *e, int code, const char *phase,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
