/* SPDX-License-Identifier: MIT
 * One libcurl easy handle that carries exchange after exchange: it remembers
 * what it was told, so that the next request sets only what differs. Part of
 * http's transport on libcurl. */
#ifndef NP_HTTP_EASY_H
#define NP_HTTP_EASY_H

#include "base/buf.h"
#include "net/curlio.h"
#include "net/transport.h"

#include <curl/curl.h>

struct np_http_config;

enum np_easy_mode { NP_EASY_GET, NP_EASY_HEAD, NP_EASY_POST, NP_EASY_UPLOAD };

struct np_easy {
  struct np_transfer transfer; /* its easy is owned here */
  struct np_list link;         /* the transport's spare handles, or held */
  struct np_exchange *x;       /* borrowed; NULL while spare */
  struct np_buf url;           /* as set last, NUL-terminated */
  struct curl_slist *lines;    /* owned array; its strings are borrowed */
  uint32_t line_capacity;
  char method[24];      /* CUSTOMREQUEST; empty: the mode's own */
  char compression[64]; /* as set last; "-" for none */
  uint8_t mode;         /* enum np_easy_mode */
  uint8_t version;      /* enum np_http_version */
  bool secure;          /* https was used last */
  bool held;            /* has not begun: waits for another's look-up */
  bool receive_paused, send_paused;
  bool counting;        /* base_bytes is known */
  bool proxied;         /* the client has a proxy (not the environment's) */
  uint32_t buffer_size; /* of libcurl's receive buffer */
  uint64_t received;    /* bytes of the exchange's head and body */
  uint64_t base_bytes;  /* sent before the request itself: a proxy's CONNECT */
  char error[CURL_ERROR_SIZE];
};

/* A handle with everything set that never changes. NULL without memory. */
struct np_easy *np_easy_new(struct np_curlset *set, CURLSH *share,
                            const struct np_http_config *c);
void np_easy_free(struct np_easy *e);
/* Sets what x asks for, and the size of libcurl's receive buffer. Returns 0,
 * NP_E_INVALID or NP_E_LIMIT. */
int np_easy_prepare(struct np_easy *e, struct np_exchange *x,
                    uint32_t buffer_size);
/* Bytes of the request itself on the wire so far, all tries together. */
uint64_t np_easy_sent_bytes(const struct np_easy *e);

/* Fills e for a transfer that ended with code (not CURLE_OK). */
void np_easy_error(const struct np_easy *easy, CURLcode code,
                   struct np_error *e);
/* Fills p from libcurl's counters. */
void np_easy_progress(const struct np_easy *easy, struct np_progress *p);

#endif
