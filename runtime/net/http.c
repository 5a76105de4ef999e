/* SPDX-License-Identifier: MIT
 * The engine and its clients. */
#include "net/http.h"

#include "net/curlio.h"
#include "net/http_client.h"
#include "net/http_curl.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

/* -- The engine ---------------------------------------------------------------
 */

struct np_http *np_http_new(struct np_loop *l, const struct np_log *log) {
  struct np_http *h = calloc(1, sizeof *h);
  if (!h) return NULL;
  h->loop = l;
  h->log = log;
  h->none.ops = &np_transport_none;
  np_list_init(&h->clients);
  return h;
}

void np_http_free(struct np_http *h) {
  if (!h) return;
  /* A task that was thrown away with its runtime leaves its call behind. */
  while (!np_list_empty(&h->clients)) {
    struct np_http_client *c =
        np_container_of(h->clients.next, struct np_http_client, link);
    np_http_client_close(c);
    c->refs++; /* the last call must not free it yet */
    while (!np_list_empty(&c->calls))
      np_http_call_release(
          np_container_of(c->calls.next, struct np_http_call, link));
    c->refs = 1;
    np_http_client_release(c);
  }
  np_curlio_free(h->io);
  if (h->network) h->network->free(h->network);
  free(h);
}

void np_http_set_network(struct np_http *h, struct np_network *n) {
  h->network = n;
}

struct np_network *np_http_network(const struct np_http *h) {
  return h->network;
}

const char *np_http_library_versions(void) {
  return curl_version();
}

void np_http_features(struct np_http_features *out) {
  int bits = curl_version_info(CURLVERSION_NOW)->features;
  out->gzip = out->deflate = bits & CURL_VERSION_LIBZ;
  out->br = bits & CURL_VERSION_BROTLI;
  out->zstd = bits & CURL_VERSION_ZSTD;
  out->http2 = bits & CURL_VERSION_HTTP2;
  out->tls = bits & CURL_VERSION_SSL;
}

/* libcurl starts with the first request on a real clock: a simulation never
 * pays for it. */
static struct np_curlio *engine_io(struct np_http *h) {
  if (h->io) return h->io;
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return NULL;
  h->io = np_curlio_new(h->loop, h->log);
  return h->io;
}

static struct np_transport *simulated(struct np_http_client *c) {
  struct np_network *n = c->http->network;
  if (!n || !n->is_up(n)) return &c->http->none;
  if (c->sim) return c->sim;
  c->sim = n->open(n, &(struct np_network_client){
                          .keepalive_ns = c->config.keepalive_ns,
                          .max_connections = c->config.max_connections,
                          .force_close = c->config.force_close});
  return c->sim;
}

struct np_transport *np_client_transport(struct np_http_client *c) {
  struct np_http *h = c->http;
  if (h->loop->clock->is_virtual) return simulated(c);
  if (c->curl) return c->curl;
  struct np_curlio *io = engine_io(h);
  if (io) c->curl = np_http_curl_new(io, h->loop, &c->config);
  return c->curl;
}

/* -- Clients --------------------------------------------------------------- */

static bool copy_string(const char **field) {
  if (!*field) return true;
  *field = strdup(*field);
  return *field != NULL;
}

static void free_strings(struct np_http_config *c) {
  free((void *)(uintptr_t)c->compression);
  free((void *)(uintptr_t)c->proxy);
  free((void *)(uintptr_t)c->tls_ca_file);
  free((void *)(uintptr_t)c->tls_cert);
  free((void *)(uintptr_t)c->tls_key);
}

static bool copy_config(struct np_http_config *to,
                        const struct np_http_config *from) {
  *to = *from;
  /* All are tried, so that each field is a copy or NULL. */
  bool ok = copy_string(&to->compression);
  ok = copy_string(&to->proxy) && ok;
  ok = copy_string(&to->tls_ca_file) && ok;
  ok = copy_string(&to->tls_cert) && ok;
  return copy_string(&to->tls_key) && ok;
}

static void on_admitted(void *ud) {
  struct np_http_call *call = ud;
  uint64_t now_ns = np_loop_now(call->client->http->loop);
  if (np_call_begin(call, now_ns) == NP_OK && call->streams_response)
    np_call_wake(&call->reader, NP_OK);
}

struct np_http_client *np_http_client_new(struct np_http *h,
                                          const struct np_http_config *config) {
  struct np_http_client *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  if (!copy_config(&c->config, config)) {
    free_strings(&c->config);
    free(c);
    return NULL;
  }
  c->http = h;
  c->refs = 1;
  np_list_init(&c->calls);
  np_list_init(&c->spare);
  np_pool_init(&c->pool, h->loop);
  c->pool.max = config->max_connections;
  c->pool.max_per_host = config->max_connections_per_host;
  c->pool.max_waiting = config->max_waiting;
  c->pool.admitted = on_admitted;
  np_list_push_tail(&h->clients, &c->link);
  return c;
}

void np_http_client_close(struct np_http_client *c) {
  if (c->closed) return;
  c->closed = c->pool.closed = true;
  for (struct np_list *n = c->calls.next; n != &c->calls; n = n->next)
    np_http_call_close(np_container_of(n, struct np_http_call, link));
  if (c->curl) c->curl->ops->free(c->curl);
  c->curl = NULL;
  if (c->sim) c->sim->ops->free(c->sim);
  c->sim = NULL;
}

void np_client_unref(struct np_http_client *c) {
  if (--c->refs > 0) return;
  struct np_list *n;
  np_http_client_close(c);
  while ((n = np_list_pop(&c->spare)) != NULL)
    np_call_free(np_container_of(n, struct np_http_call, link));
  while (c->buffer_count > 0) np_buf_fini(&c->buffers[--c->buffer_count]);
  np_list_remove(&c->link);
  np_pool_fini(&c->pool);
  free_strings(&c->config);
  free(c);
}

void np_http_client_release(struct np_http_client *c) {
  np_http_client_close(c);
  np_client_unref(c);
}

const struct np_http_config *
np_http_client_config(const struct np_http_client *c) {
  return &c->config;
}

/* -- Counts -----------------------------------------------------------------
 */

void np_http_client_stats(const struct np_http_client *c,
                          struct np_http_stats *out) {
  *out = (struct np_http_stats){.clients = 1,
                                .calls = c->call_count,
                                .waiting = c->pool.waiting,
                                .in_flight = c->pool.in_flight,
                                .sends = c->sends};
  if (c->sim) out->connections = c->sim->ops->connections(c->sim);
  if (!c->curl) return;
  out->connections += c->curl->ops->connections(c->curl);
  out->easies = np_http_curl_easies(c->curl);
}

void np_http_stats(const struct np_http *h, struct np_http_stats *out) {
  *out = (struct np_http_stats){.sends = h->sends};
  for (struct np_list *n = h->clients.next; n != &h->clients; n = n->next) {
    struct np_http_stats s;
    np_http_client_stats(np_container_of(n, struct np_http_client, link), &s);
    out->clients++;
    out->calls += s.calls;
    out->waiting += s.waiting;
    out->in_flight += s.in_flight;
    out->connections += s.connections;
    out->easies += s.easies;
  }
}
