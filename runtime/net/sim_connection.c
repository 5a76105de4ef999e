/* SPDX-License-Identifier: MIT
 * A client's routes, and the connections that it keeps. */
#include "net/sim_impl.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static struct np_sim_transport *of(const struct np_transport *t) {
  return (struct np_sim_transport *)(uintptr_t)t;
}

struct np_transport *np_sim_open(struct np_network *n,
                                 const struct np_network_client *client) {
  struct np_sim *s = np_container_of(n, struct np_sim, base);
  struct np_sim_transport *t = calloc(1, sizeof *t);
  if (!t) return NULL;
  t->base.ops = &np_sim_transport_ops;
  t->sim = s;
  t->client = *client;
  np_list_init(&t->routes);
  np_list_init(&t->oldest);
  np_list_init(&t->spare);
  np_list_push_tail(&s->transports, &t->link);
  return &t->base;
}

static void close_idle(struct np_sim_transport *t,
                       struct np_sim_connection *n) {
  np_list_remove(&n->age);
  np_list_remove(&n->link);
  np_list_push_head(&t->spare, &n->link);
  t->connections--;
}

/* -- Routes ---------------------------------------------------------------- */

static struct np_sim_route *find_route(struct np_sim_transport *t,
                                       const char *host, bool secure) {
  for (struct np_list *n = t->routes.next; n != &t->routes; n = n->next) {
    struct np_sim_route *r = np_container_of(n, struct np_sim_route, link);
    if (r->secure == secure && strcmp(r->host, host) == 0) return r;
  }
  return NULL;
}

static struct np_sim_route *new_route(struct np_sim_transport *t,
                                      const char *host, bool secure) {
  size_t len = strlen(host);
  struct np_sim_route *r = calloc(1, sizeof *r + len + 1);
  if (!r) return NULL;
  memcpy(r->host, host, len + 1);
  r->secure = secure;
  np_list_init(&r->idle);
  np_list_push_head(&t->routes, &r->link);
  return r;
}

struct np_sim_route *np_sim_route(struct np_sim_slot *c) {
  struct np_origin *o = c->x->origin;
  struct np_sim *s = c->sim;
  struct np_sim_route *r = o->way;
  if (!r) {
    bool secure = strncasecmp(c->x->url, "https:", 6) == 0;
    r = find_route(c->via, o->name, secure);
    if (!r) r = new_route(c->via, o->name, secure);
    if (!r) return NULL;
    o->way = r;
  }
  if (r->epoch == s->epoch) return r;
  uint32_t before = r->upstream;
  r->epoch = s->epoch;
  r->nobody = (struct np_error){0};
  r->upstream = s->ops->find(s->ud, r->host, r->secure, &r->nobody);
  /* Another server there, or none: what was open is closed. */
  while (r->upstream != before && !np_list_empty(&r->idle))
    close_idle(c->via,
               np_container_of(r->idle.next, struct np_sim_connection, link));
  return r;
}

/* -- Connections ------------------------------------------------------------
 */

static bool stands(const struct np_sim_transport *t,
                   const struct np_sim_connection *n) {
  return np_loop_now(t->sim->loop) - n->idle_ns < n->keep_ns;
}

struct np_sim_connection *np_sim_reuse(struct np_sim_transport *t,
                                       struct np_sim_route *r) {
  while (!np_list_empty(&r->idle)) {
    struct np_sim_connection *n =
        np_container_of(r->idle.next, struct np_sim_connection, link);
    if (!stands(t, n)) {
      close_idle(t, n);
      continue;
    }
    np_list_remove(&n->age);
    np_list_remove(&n->link);
    n->reused = true;
    return n;
  }
  return NULL;
}

struct np_sim_connection *np_sim_connect(struct np_sim_transport *t,
                                         uint64_t keepalive_ns) {
  /* Clients keep at most as many as they may run requests. */
  while (t->connections >= t->client.max_connections &&
         !np_list_empty(&t->oldest))
    close_idle(t,
               np_container_of(t->oldest.next, struct np_sim_connection, age));
  struct np_list *spare = np_list_pop(&t->spare);
  struct np_sim_connection *n =
      spare ? np_container_of(spare, struct np_sim_connection, link)
            : calloc(1, sizeof *n);
  if (!n) return NULL;
  np_list_init(&n->link);
  np_list_init(&n->age);
  n->reused = false;
  n->keep_ns = keepalive_ns < t->client.keepalive_ns ? keepalive_ns
                                                     : t->client.keepalive_ns;
  t->connections++;
  return n;
}

void np_sim_close(struct np_sim_slot *c) {
  struct np_sim_connection *n = c->connection;
  if (!n) return;
  c->connection = NULL;
  np_list_push_head(&c->via->spare, &n->link);
  c->via->connections--;
}

void np_sim_keep(struct np_sim_slot *c) {
  struct np_sim_connection *n = c->connection;
  if (c->close || c->via->client.force_close || n->keep_ns == 0) {
    np_sim_close(c);
    return;
  }
  c->connection = NULL;
  n->idle_ns = np_loop_now(c->sim->loop);
  np_list_push_head(&c->route->idle, &n->link);
  np_list_push_tail(&c->via->oldest, &n->age);
}

/* -- The transport's own face ----------------------------------------------
 */

static uint32_t sim_connections(const struct np_transport *base) {
  struct np_sim_transport *t = of(base);
  for (struct np_list *n = t->oldest.next, *next; n != &t->oldest; n = next) {
    struct np_sim_connection *k =
        np_container_of(n, struct np_sim_connection, age);
    next = n->next;
    if (!stands(t, k)) close_idle(t, k);
  }
  return t->connections;
}

void np_sim_close_idle(struct np_sim_transport *t) {
  while (!np_list_empty(&t->oldest))
    close_idle(t,
               np_container_of(t->oldest.next, struct np_sim_connection, age));
}

static void sim_close_transport(struct np_transport *base) {
  struct np_sim_transport *t = of(base);
  struct np_list *n;
  np_sim_close_idle(t);
  while ((n = np_list_pop(&t->spare)) != NULL)
    free(np_container_of(n, struct np_sim_connection, link));
  while ((n = np_list_pop(&t->routes)) != NULL)
    free(np_container_of(n, struct np_sim_route, link));
  np_list_remove(&t->link);
  free(t);
}

static int sim_start(struct np_transport *base, struct np_exchange *x,
                     struct np_error *e) {
  struct np_sim_transport *t = of(base);
  struct np_sim *s = t->sim;
  struct np_list *n = np_list_pop(&s->spare);
  struct np_sim_slot *c =
      n ? np_container_of(n, struct np_sim_slot, link) : np_sim_new_slot(s);
  if (!c) return np_error_set(e, NP_E_LIMIT, NULL, "out of memory");
  c->x = x;
  c->via = t;
  c->start_ns = np_loop_now(s->loop);
  x->via = base;
  x->carrier = c;
  np_sim_queue(c, NP_SIM_PENDING);
  return NP_OK;
}

static void sim_resume(struct np_exchange *x, bool receiving) {
  if (receiving)
    np_sim_deliver(x->carrier);
  else
    np_sim_read(x->carrier);
}

static void sim_observe(struct np_exchange *x, struct np_progress *p) {
  np_sim_progress(x->carrier, p);
}

static void sim_cancel(struct np_exchange *x) {
  np_sim_detach(x->carrier);
}

const struct np_transport_ops np_sim_transport_ops = {
    .name = "simulated",
    .start = sim_start,
    .resume = sim_resume,
    .observe = sim_observe,
    .cancel = sim_cancel,
    .connections = sim_connections,
    .free = sim_close_transport};
