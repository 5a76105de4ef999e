/* SPDX-License-Identifier: MIT
 * URLs by libcurl's parser, the one that requests go through too. Results are
 * owned by the caller and freed with free(). Any thread. */
#ifndef NP_URL_H
#define NP_URL_H

#include <stddef.h>

/* The absolute URL that relative means on a page at base, or NULL. */
char *np_url_resolve(const char *base, const char *relative);
/* "scheme://host:port", the port always there, or NULL. */
char *np_url_origin(const char *url);
/* The value of the Authorization header that a URL's user and password become
 * (RFC 7617), or NULL: it has none. */
char *np_url_basic(const char *url);
/* Percent-encodes all but letters, digits and -._~. NULL without memory. */
char *np_url_escape(const char *s, size_t len);

#endif
