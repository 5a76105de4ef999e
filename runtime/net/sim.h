/* SPDX-License-Identifier: MIT
 * A network on a virtual clock: the transport under http's clients, and the
 * other side of the wire. What answers is not here but behind struct np_sim_ops
 * (bind/lua_sim.c, then Lua), which is told of requests one after the other, in
 * the order of their start, outside any task, and never from within a call that
 * a client makes.
 *
 * A request is known by its slot, a small number. The slot belongs to the other
 * side from `arrive` until np_sim_end, np_sim_drop or `gone`. Its client may
 * leave before: then what is sent into it is lost, and `gone` follows. Equal
 * instants are served in the order in which they were asked for. Loop thread
 * only. */
#ifndef NP_SIM_H
#define NP_SIM_H

#include "core/loop.h"
#include "net/transport.h"

struct np_sim;

/* What a new connection costs. */
struct np_sim_plan {
  uint64_t dns_ns, connect_ns, tls_ns;
  uint64_t keepalive_ns; /* the server closes one that is idle for so long */
  int fails; /* NP_OK, or why it never stands: NP_E_CONNECT (refused), NP_E_DNS,
              * NP_E_TLS */
  bool hang; /* it never stands, and nobody says so */
};

struct np_sim_ops {
  /* Who answers for host ("name:port"): a number above 0; 0 and e: nobody. It
   * is asked once a client, until np_sim_reroute. */
  uint32_t (*find)(void *ud, const char *host, bool secure, struct np_error *e);
  /* The request of slot opens a connection; it is not the other side's yet. */
  void (*connect)(void *ud, uint32_t upstream, uint32_t slot,
                  struct np_sim_plan *plan);
  /* A request is complete. */
  void (*arrive)(void *ud, uint32_t upstream, uint32_t slot);
  /* The instant of np_sim_wake has come, or what was unread has been taken. */
  void (*due)(void *ud, uint32_t slot);
  /* The client has left before the end of its answer. */
  void (*gone)(void *ud, uint32_t slot);
};

struct np_sim_request {
  const char *method, *url;
  size_t url_len;
  const char *body;
  size_t body_len;
  bool has_body;
  const char *compression;          /* as in struct np_exchange */
  const struct np_headers *headers; /* what its owner added */
  const char *host;                 /* "name:port" */
  uint64_t operation;
};

/* A network that is down. NULL without memory. Freed by np_network's free. */
struct np_sim *np_sim_new(struct np_loop *l);
struct np_network *np_sim_network(struct np_sim *s);
/* Puts ops behind the network; NULL takes it down: requests under way end with
 * kind "closed", slots are all given back without a word. */
void np_sim_set_ops(struct np_sim *s, const struct np_sim_ops *ops, void *ud);
/* Who answers for which host may have changed: `find` is asked again. */
void np_sim_reroute(struct np_sim *s);

/* A slot without a request, for a deadline of one's own; 0 without memory. */
uint32_t np_sim_timer(struct np_sim *s);
/* Calls `due` at at_ns, once; NP_FOREVER: not any more. */
void np_sim_wake(struct np_sim *s, uint32_t slot, uint64_t at_ns);

/* Borrowed until the client leaves; false when it has. While a connection is
 * opened the body is not there yet. */
bool np_sim_request(struct np_sim *s, uint32_t slot,
                    struct np_sim_request *out);
/* Whether somebody still waits for the answer. */
bool np_sim_is_there(struct np_sim *s, uint32_t slot);

/* Lines of a head, each with its CR and LF, the last one empty. close: the
 * connection is not used again. */
void np_sim_head(struct np_sim *s, uint32_t slot, const char *lines, size_t len,
                 bool close);
/* Bytes of the body; what the client does not take yet is kept. */
void np_sim_body(struct np_sim *s, uint32_t slot, const char *data, size_t len);
/* Bytes that the client has not taken. */
size_t np_sim_unread(struct np_sim *s, uint32_t slot);
/* Asks for `due` once nothing is unread. */
void np_sim_wake_when_read(struct np_sim *s, uint32_t slot);
/* The answer is complete: the slot is given back. */
void np_sim_end(struct np_sim *s, uint32_t slot);
/* The connection is reset, or (orderly) closed, wherever the answer is: the
 * slot is given back. As with a real client, a request on a connection that was
 * used before, and of whose answer nothing came, goes out again if it may. */
void np_sim_drop(struct np_sim *s, uint32_t slot, bool orderly);
/* The other side has failed: the request ends with e. The slot is given back.
 */
void np_sim_fail(struct np_sim *s, uint32_t slot, const struct np_error *e);

#endif
