/* SPDX-License-Identifier: MIT
 * libcurl's multi interface on the loop. It moves transfers and knows nothing
 * of HTTP.
 *
 * A set holds the connections of one client, spread over several CURLM handles
 * ("shards"), because libcurl searches a handle's connections one by one: 125
 * each keeps that search cheap at any total. The owner admits no more transfers
 * than the set has connections, so libcurl itself never queues.
 *
 * Each socket has one uv_poll_t for its life. Between two requests it stays
 * armed, so a request on a kept-alive connection costs no epoll_ctl. A libuv
 * callback only notes the socket; the source's serve calls libcurl, under the
 * loop's budget. Poll handles are unreferenced: what keeps the loop alive is
 * one hold a transfer. Loop thread only. */
#ifndef NP_CURLIO_H
#define NP_CURLIO_H

#include "base/list.h"
#include "base/log.h"
#include "core/loop.h"

struct np_curlio;
struct np_curlset;
struct np_curl_shard;

/* One easy handle on its way; embedded in its owner. */
struct np_transfer {
  struct np_list link;         /* shard's running */
  struct np_curl_shard *shard; /* NULL unless it is under way */
  struct np_curlset *set;      /* borrowed */
  struct np_list opened;       /* sockets it opened and is not known to keep */
  void *easy;                  /* CURL *, owned by the embedder */
  /* It ended with this CURLcode and has left libcurl's hands. */
  void (*done)(struct np_transfer *t, int curl_code);
  /* Its host name is resolved; runs inside libcurl. May be NULL. */
  void (*resolved)(struct np_transfer *t);
};

struct np_curlio *np_curlio_new(struct np_loop *l, const struct np_log *log);
/* All sets are freed before. */
void np_curlio_free(struct np_curlio *io);
/* Sockets open in all sets. */
uint32_t np_curlio_sockets(const struct np_curlio *io);

/* max_connections: the most transfers at a time. Shards left without a transfer
 * for idle_ns give up their connections. NULL without memory. */
struct np_curlset *np_curlset_new(struct np_curlio *io,
                                  uint32_t max_connections, uint64_t idle_ns);
/* Closes all connections; no transfer is under way. */
void np_curlset_free(struct np_curlset *set);
uint32_t np_curlset_sockets(const struct np_curlset *set);

/* Prepares t around a fresh easy handle (CURLOPT_PRIVATE and the socket options
 * are curlio's). The handle stays with this set. */
void np_transfer_init(struct np_transfer *t, struct np_curlset *set,
                      void *easy);
/* Begins t: it is sent in the next turn. Returns 0, NP_E_LIMIT without memory
 * or NP_E_INTERNAL. Not from inside libcurl. */
int np_transfer_start(struct np_transfer *t);
/* Takes t back at once, nothing when it is not under way: done is not called
 * and a connection in mid-request closes. Not from inside libcurl. */
void np_transfer_stop(struct np_transfer *t);
/* Whether a connection that t opened stands, TLS not counted. */
bool np_transfer_connected(const struct np_transfer *t);

#endif
