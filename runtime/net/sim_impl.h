/* SPDX-License-Identifier: MIT
 * The structs behind sim.h, shared by its own files only: what a client keeps
 * (routes, connections) and what a request is on its way (a slot). */
#ifndef NP_SIM_IMPL_H
#define NP_SIM_IMPL_H

#include "base/buf.h"
#include "net/sim.h"

/* One scheme, host and port as a client sees it. Lives as long as the client's
 * transport. */
struct np_sim_route {
  struct np_list link; /* transport's routes */
  struct np_list idle; /* np_sim_connection, the one used last first */
  uint32_t upstream;   /* 0: nobody */
  uint32_t epoch;      /* the network's when upstream was found */
  struct np_error nobody;
  bool secure;
  char host[]; /* "name:port" */
};

struct np_sim_connection {
  struct np_list link; /* route's idle, or the transport's spare ones */
  struct np_list age;  /* transport's idle ones, the oldest first */
  uint64_t idle_ns;    /* since when it is idle */
  uint64_t keep_ns;    /* how long it may be */
  bool reused;
};

struct np_sim_transport {
  struct np_transport base;
  struct np_list link; /* network's transports */
  struct np_sim *sim;
  struct np_network_client client;
  struct np_list routes;
  struct np_list oldest; /* idle connections by age */
  struct np_list spare;  /* np_sim_connection, closed */
  uint32_t connections;  /* open, idle ones included */
};

enum np_sim_state {
  NP_SIM_FREE,
  NP_SIM_PENDING,    /* begins, or begins anew, in the next post */
  NP_SIM_CONNECTING, /* the timer runs, or it hangs */
  NP_SIM_SENDING,    /* its body is not complete */
  NP_SIM_COMPLETE,   /* it is; it arrives in the next post */
  NP_SIM_SERVED,     /* the other side has it */
  NP_SIM_ENDING,     /* the other side is done; the client has yet to read */
  NP_SIM_GONE,       /* the client has left; the other side does not know */
  NP_SIM_TIMER
};

struct np_sim_slot {
  struct np_list link; /* network's pending or spare */
  struct np_sim *sim;
  struct np_exchange *x; /* NULL: nobody waits */
  struct np_sim_transport *via;
  struct np_sim_route *route;
  struct np_sim_connection *connection;
  struct np_timer timer;
  struct np_buf in, out; /* body as read; answer not taken yet */
  size_t out_at;
  uint64_t start_ns, send_ns, first_ns;
  uint64_t dns_ns, connect_ns, tls_ns;
  uint32_t number;
  uint8_t state;   /* enum np_sim_state */
  uint8_t tries;   /* times it went onto the wire before this one */
  int fails;       /* the plan: no connection, and why */
  bool close;      /* the answer says that the connection is not kept */
  bool head_begun; /* a byte of the answer has come */
  bool wants_room; /* the other side waits until all is read */
};

struct np_sim {
  struct np_network base;
  struct np_loop *loop; /* borrowed until free */
  const struct np_sim_ops *ops;
  void *ud;
  struct np_list transports;
  struct np_list pending; /* slots in the order of what is to be done */
  struct np_list spare;
  struct np_post post;
  bool posted;
  uint32_t epoch;
  struct np_sim_slot **slots; /* owned; by number, 0 unused */
  uint32_t count, capacity;
};

/* sim.c */

/* A slot out of thin air; NULL without memory. */
struct np_sim_slot *np_sim_new_slot(struct np_sim *s);
/* Has c looked at in a post, behind those that are there. */
void np_sim_queue(struct np_sim_slot *c, enum np_sim_state state);
/* The client has bytes again, or they have come to their end. */
void np_sim_read(struct np_sim_slot *c);
void np_sim_progress(const struct np_sim_slot *c, struct np_progress *p);
/* c ends for its client; e is NULL for a complete answer. */
void np_sim_finish(struct np_sim_slot *c, const struct np_error *e);
/* The client leaves: the other side is told if it has to know. */
void np_sim_detach(struct np_sim_slot *c);
/* Nobody knows c any more. */
void np_sim_release(struct np_sim_slot *c);

/* sim_answer.c */

/* Offers what the client has not taken yet. */
void np_sim_deliver(struct np_sim_slot *c);

/* sim_connection.c */

struct np_transport *np_sim_open(struct np_network *n,
                                 const struct np_network_client *client);
/* The way to c's origin; NULL without memory. */
struct np_sim_route *np_sim_route(struct np_sim_slot *c);
/* An idle connection of r that still stands, or NULL. */
struct np_sim_connection *np_sim_reuse(struct np_sim_transport *t,
                                       struct np_sim_route *r);
struct np_sim_connection *np_sim_connect(struct np_sim_transport *t,
                                         uint64_t keepalive_ns);
/* c is done with its connection: kept for the next one, or closed. */
void np_sim_keep(struct np_sim_slot *c);
void np_sim_close(struct np_sim_slot *c);
void np_sim_close_idle(struct np_sim_transport *t);

extern const struct np_transport_ops np_sim_transport_ops;

#endif
