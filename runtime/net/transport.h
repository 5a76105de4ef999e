/* SPDX-License-Identifier: MIT
 * The seam between http and what carries a request: libcurl on a real clock, a
 * simulated network on a virtual one. Http decides when an exchange starts,
 * whether it may be sent again and when it has taken too long; a transport
 * moves it and reports through struct np_exchange_ops. An exchange is embedded
 * in its owner. Between start and either done or cancel the transport borrows
 * it, afterwards it has forgotten it. Loop thread only. */
#ifndef NP_TRANSPORT_H
#define NP_TRANSPORT_H

#include "base/err.h"
#include "base/list.h"

#include <stddef.h>
#include <stdint.h>

struct np_exchange;
struct np_headers;
struct np_transport;

#define NP_BODY_UNKNOWN UINT64_MAX

enum np_http_version { NP_HTTP_AUTO, NP_HTTP_1_1, NP_HTTP_2 };

/* What became of bytes that were offered. */
enum np_take { NP_TAKE_OK, NP_TAKE_PAUSE, NP_TAKE_REFUSE };

#define NP_READ_PAUSE SIZE_MAX

/* How far an exchange got; durations in ns, 0 where a phase was skipped. */
struct np_progress {
  uint64_t dns_ns, connect_ns, tls_ns;
  uint64_t before_send_ns; /* from the start to the first byte sent */
  uint64_t first_byte_ns;  /* from the start to the first byte of the answer */
  uint64_t total_ns;
  bool sent;         /* a byte of the request went onto the wire */
  const char *phase; /* static: dns, connect, tls, send */
};

/* Upcalls. All may be called during resume, none during start or cancel; they
 * must not call the transport. */
struct np_exchange_ops {
  /* The connection stands; the request goes out when this returns true. again:
   * bytes of an earlier try went onto the wire. */
  bool (*sending)(struct np_exchange *x, bool again);
  /* Up to room bytes of the body; 0 at its end, NP_READ_PAUSE for none yet.
   * Only when body is NULL and there is one. */
  size_t (*read)(struct np_exchange *x, char *out, size_t room);
  /* Starts the body over. False when that is impossible. */
  bool (*rewind)(struct np_exchange *x);
  /* One raw line of a head, its line end included; an empty one ends it. */
  bool (*head)(struct np_exchange *x, const char *line, size_t len);
  /* Decoded bytes of the body. Paused: they are offered again on resume. */
  enum np_take (*body)(struct np_exchange *x, const char *data, size_t len);
  /* It ended; e is NULL when the answer is complete. p and e are borrowed until
   * done returns. */
  void (*done)(struct np_exchange *x, const struct np_progress *p,
               const struct np_error *e);
};

/* One scheme, host and port. Http keeps it as long as an exchange needs it; the
 * lookup part belongs to the transport. */
struct np_origin {
  const char *name; /* "host:port", for messages */
  bool is_address;  /* no name that would have to be looked up */
  void *way;        /* the transport's; of a simulated network */
  struct {
    struct np_list held; /* exchanges that wait for the first one's answer */
    struct np_list ripe; /* link: the held ones may go */
    struct np_exchange *scout; /* the one that asks */
    uint64_t fresh_until_ns;
  } lookup;
};

static inline void np_origin_init(struct np_origin *o) {
  np_list_init(&o->lookup.held);
  np_list_init(&o->lookup.ripe);
  o->lookup.scout = NULL;
  o->lookup.fresh_until_ns = 0;
  o->way = NULL;
}
static inline void np_origin_fini(struct np_origin *o) {
  np_list_remove(&o->lookup.ripe); /* no exchange is held any more */
}

struct np_exchange {
  const struct np_exchange_ops *up;
  struct np_transport *via; /* borrowed; NULL unless it is under way */
  void *carrier;            /* the transport's */
  /* The request, borrowed until the exchange has ended. */
  const char *method;
  const char *url;
  struct np_origin *origin;
  struct np_headers *headers;
  const char *body; /* NULL: none, or read through up->read */
  uint64_t body_len;
  const char *compression; /* Accept-Encoding; "" all known, NULL none */
  size_t url_len;
  /* In a simulation: what this is an attempt at, by its number; 0: unknown. */
  uint64_t operation;
  enum np_http_version version;
  bool has_body;
};

struct np_transport_ops {
  const char *name;
  /* Returns 0, or fills e and returns its code; then nothing was started. */
  int (*start)(struct np_transport *t, struct np_exchange *x,
               struct np_error *e);
  /* Ends a pause: of receiving (room for the body is there again), else of
   * sending (bytes are there). */
  void (*resume)(struct np_exchange *x, bool receiving);
  /* Looks at x without disturbing it. */
  void (*observe)(struct np_exchange *x, struct np_progress *p);
  /* Drops x at once, its connection with it; never blocks. */
  void (*cancel)(struct np_exchange *x);
  /* Open connections, idle ones included. */
  uint32_t (*connections)(const struct np_transport *t);
  /* Closes all; no exchange is under way. */
  void (*free)(struct np_transport *t);
};

struct np_transport {
  const struct np_transport_ops *ops;
};

/* What a simulated network must know of a client. */
struct np_network_client {
  uint64_t keepalive_ns;
  uint32_t max_connections;
  bool force_close;
};

/* Takes the place of libcurl on a virtual clock. */
struct np_network {
  /* The transport of one client; NULL without memory. */
  struct np_transport *(*open)(struct np_network *n,
                               const struct np_network_client *c);
  /* Whether it carries anything at all at the moment. */
  bool (*is_up)(const struct np_network *n);
  /* The last transport is closed. */
  void (*free)(struct np_network *n);
};

/* Carries nothing: every start fails with kind "connect". A runtime on a
 * virtual clock has it until a simulated network takes its place. */
extern const struct np_transport_ops np_transport_none;

#endif
