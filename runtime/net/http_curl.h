/* SPDX-License-Identifier: MIT
 * The transport on libcurl: one a client, over that client's curlio set. Spare
 * easy handles are kept and used again. Requests that would look up the same
 * name at the same moment wait for the first one's answer: libcurl starts a
 * thread for each look-up. Part of http. */
#ifndef NP_HTTP_CURL_H
#define NP_HTTP_CURL_H

#include "net/curlio.h"
#include "net/transport.h"

struct np_http_config;

/* config is borrowed until free. NULL without memory. */
struct np_transport *np_http_curl_new(struct np_curlio *io, struct np_loop *l,
                                      const struct np_http_config *config);
/* Easy handles it holds, spare or in use. */
uint32_t np_http_curl_easies(const struct np_transport *t);

#endif
