/* SPDX-License-Identifier: MIT */
#include "net/transport.h"

static int none_start(struct np_transport *t, struct np_exchange *x,
                      struct np_error *e) {
  (void)t;
  return np_error_set(e, NP_E_CONNECT, "connect",
                      "no network in simulated time: nothing answers for %s "
                      "(neap.sim.mock() and neap.sim.world() put a network up; "
                      "a test that needs sockets is tagged #real)",
                      x->origin->name);
}

static uint32_t none_connections(const struct np_transport *t) {
  (void)t;
  return 0;
}

static void none_free(struct np_transport *t) {
  (void)t; /* without state */
}

/* Nothing ever starts, so the calls on a started exchange are absent. */
const struct np_transport_ops np_transport_none = {.name = "none",
                                                   .start = none_start,
                                                   .connections =
                                                       none_connections,
                                                   .free = none_free};
