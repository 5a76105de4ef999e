/* SPDX-License-Identifier: MIT
 * The http client: admission, time limits, what may be sent again, bodies and
 * back-pressure. What carries the bytes is a transport.
 *
 *   engine   one a runtime; owns what all clients share
 *   client   a pool of connections, its limits and its settings
 *   call     one request, from its making to its release
 *
 * A call is admitted in FIFO order when the client runs fewer than
 * max_connections calls and fewer than max_connections_per_host to the same
 * origin; each running call uses at most one connection, so these are also
 * limits on connections, and libcurl itself never queues. Time limits count
 * from admission. Nothing here blocks; cancelling is immediate. Loop thread
 * only. */
#ifndef NP_HTTP_H
#define NP_HTTP_H

#include "core/task.h"
#include "net/http_headers.h"
#include "net/transport.h"

struct np_http;
struct np_http_client;
struct np_http_call;

struct np_http_limits {
  /* NP_FOREVER for none */
  uint64_t queue_ns, connect_ns, first_byte_ns, idle_ns, total_ns;
  uint64_t max_body;    /* decoded bytes of a whole response */
  uint32_t max_headers; /* bytes, interim responses included */
};

/* Strings are copied. */
struct np_http_config {
  uint32_t max_connections, max_connections_per_host;
  uint32_t max_waiting; /* UINT32_MAX: unbounded */
  uint64_t keepalive_ns;
  long dns_cache_ttl_s;
  enum np_http_version version;
  bool force_close, tls_verify, cookies;
  const char *compression; /* Accept-Encoding; "" all known, NULL none */
  const char *proxy;       /* NULL none; "env": the environment's */
  const char *tls_ca_file, *tls_cert, *tls_key; /* NULL: not given */
  struct np_http_limits limits;
};

struct np_http_stats {
  uint32_t clients, calls, waiting, in_flight, connections;
  uint32_t easies; /* libcurl handles, spare ones included */
  uint64_t sends;
};

/* The timings of a call, ns; those it did not reach are 0. */
struct np_http_timings {
  uint64_t queue, dns, connect, tls, send, first_byte, download, total;
};

/* What a call asks for. method, url and body are borrowed until the call has
 * ended. */
struct np_http_request {
  const char *method, *url, *body;
  size_t method_len, url_len, body_len;
  bool has_body;
  bool streams_body;     /* the body comes through np_http_call_write */
  uint64_t streamed_len; /* of a streamed body, or NP_BODY_UNKNOWN */
  bool streams_response; /* the body leaves through np_http_call_read */
  bool replay_safe;      /* may be sent again after it may have arrived */
  enum np_http_version version;
  const char *compression; /* as in the config */
  uint64_t operation;      /* as in struct np_exchange */
  struct np_http_limits limits;
};

/* What a call brought. Borrowed until the call is released. */
struct np_http_result {
  int status;
  const char *version; /* static: "1.0", "1.1", "2" */
  const char *head;    /* the raw final head */
  size_t head_len;
  const char *body;
  size_t body_len;
  uint32_t sends;
  bool replay_safe;
};

/* What the libcurl at hand can do. */
struct np_http_features {
  bool gzip, deflate, br, zstd, http2, tls;
};

void np_http_features(struct np_http_features *out);
/* libcurl's and its libraries' versions in one line. Static. */
const char *np_http_library_versions(void);

/* -- The engine ------------------------------------------------------------ */

/* NULL without memory. */
struct np_http *np_http_new(struct np_loop *l, const struct np_log *log);
/* All clients and calls are released. */
void np_http_free(struct np_http *h);
void np_http_stats(const struct np_http *h, struct np_http_stats *out);
/* From now on n (moved to h) carries requests on a virtual clock. */
void np_http_set_network(struct np_http *h, struct np_network *n);
struct np_network *np_http_network(const struct np_http *h);

/* -- Clients --------------------------------------------------------------- */

struct np_http_client *np_http_client_new(struct np_http *h,
                                          const struct np_http_config *c);
/* Waiting and running calls end with kind "closed"; idempotent. */
void np_http_client_close(struct np_http_client *c);
/* Gives up the owner's reference: closes, and frees once no call is left. */
void np_http_client_release(struct np_http_client *c);
void np_http_client_stats(const struct np_http_client *c,
                          struct np_http_stats *out);
/* The settings that requests start from. */
const struct np_http_config *
np_http_client_config(const struct np_http_client *c);

/* -- Calls ----------------------------------------------------------------- */

/* A call with no header lines yet. NULL without memory. */
struct np_http_call *np_http_call_new(struct np_http_client *c);
struct np_headers *np_http_call_headers(struct np_http_call *call);

/* Starts call and parks t until the whole response is there (streams_response
 * false) or until it is admitted (true). Returns NP_PARKED, NP_OK when it need
 * not wait, or an error; a woken task finds NP_OK or the error too. Details of
 * an error are in np_http_call_error. A wait that is cancelled or times out in
 * the queue ends the call; t->wait_ud is the call while it still exists, else
 * NULL, and a call that streams stays. */
int np_http_call_run(struct np_http_call *call, struct np_task *t,
                     const struct np_http_request *r);
/* For a streaming call: waits for the final head. */
int np_http_call_head(struct np_http_call *call, struct np_task *t);
/* Waits for bytes of the body. NP_OK with nothing to take is the end. */
int np_http_call_read(struct np_http_call *call, struct np_task *t);
/* Copies bytes of a streamed body; waits while too many are unsent. */
int np_http_call_write(struct np_http_call *call, struct np_task *t,
                       const char *data, size_t len);
/* Ends a streamed body. */
int np_http_call_finish(struct np_http_call *call);
/* Ends the call at once, whatever it is doing: kind "closed" for who waits. */
void np_http_call_close(struct np_http_call *call);
/* Closes and frees. */
void np_http_call_release(struct np_http_call *call);

void np_http_call_result(const struct np_http_call *call,
                         struct np_http_result *out);
/* Forgets the bytes of the body that np_http_call_result showed; receiving goes
 * on if it was paused. */
void np_http_call_taken(struct np_http_call *call);
void np_http_call_timings(const struct np_http_call *call,
                          struct np_http_timings *out);
const struct np_error *np_http_call_error(const struct np_http_call *call);

#endif
