/* SPDX-License-Identifier: MIT */
#include "net/http_easy.h"

#include "net/http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* From here on libcurl would ask the server for permission ("Expect:
 * 100-continue") and lose a second where none comes. */
enum { EXPECT_FROM = 1024 * 1024 };

#define SET(e, option, value)                                                  \
  curl_easy_setopt((e)->transfer.easy, CURLOPT_##option, value)

/* -- Set once -------------------------------------------------------------- */

static int set_client(struct np_easy *e, CURLSH *share,
                      const struct np_http_config *c) {
  CURLcode rc = CURLE_OK;
#define TRY(option, value)                                                     \
  if (rc == CURLE_OK) rc = SET(e, option, value)
  TRY(ERRORBUFFER, e->error);
  TRY(SHARE, share);
  TRY(NOSIGNAL, 1L);
  /* Or taking a handle back waits for a getaddrinfo that hangs. */
  TRY(QUICK_EXIT, 1L);
  TRY(PROTOCOLS_STR, "http,https");
  TRY(FOLLOWLOCATION, 0L);
  TRY(SUPPRESS_CONNECT_HEADERS, 1L);
  TRY(TCP_KEEPALIVE, 1L);
  TRY(DNS_CACHE_TIMEOUT, c->dns_cache_ttl_s);
  TRY(MAXAGE_CONN, (long)(c->keepalive_ns / NP_NS_PER_S));
  if (c->force_close) {
    TRY(FRESH_CONNECT, 1L);
    TRY(FORBID_REUSE, 1L);
  }
  /* libcurl's own limit is 300 s from now; ours are exact and its does not
   * know the queue. */
  if (c->limits.connect_ns > 200 * NP_NS_PER_S)
    TRY(CONNECTTIMEOUT_MS, 30L * 86400 * 1000);
  if (!c->proxy || strcmp(c->proxy, "env") != 0) {
    TRY(PROXY, c->proxy ? c->proxy : "");
    TRY(NOPROXY, "");
    e->proxied = c->proxy && *c->proxy;
  }
  if (c->tls_ca_file) {
    TRY(CAINFO, c->tls_ca_file);
    TRY(PROXY_CAINFO, c->tls_ca_file);
  }
  if (c->tls_cert) TRY(SSLCERT, c->tls_cert);
  if (c->tls_key) TRY(SSLKEY, c->tls_key);
  TRY(SSL_VERIFYPEER, c->tls_verify ? 1L : 0L);
  TRY(SSL_VERIFYHOST, c->tls_verify ? 2L : 0L);
  if (c->cookies) TRY(COOKIEFILE, "");
#undef TRY
  return rc == CURLE_OK ? NP_OK : NP_E_LIMIT;
}

struct np_easy *np_easy_new(struct np_curlset *set, CURLSH *share,
                            const struct np_http_config *c) {
  struct np_easy *e = calloc(1, sizeof *e);
  if (!e) return NULL;
  np_list_init(&e->link);
  CURL *easy = curl_easy_init();
  if (!easy) goto fail;
  np_transfer_init(&e->transfer, set, easy);
  if (set_client(e, share, c) < 0) goto fail;
  e->compression[0] = '-';
  e->version = UINT8_MAX; /* not set yet */
  return e;
fail:
  np_easy_free(e);
  return NULL;
}

void np_easy_free(struct np_easy *e) {
  curl_easy_cleanup(e->transfer.easy);
  np_buf_fini(&e->url);
  free(e->lines);
  free(e);
}

/* -- Set for a request ------------------------------------------------------
 */

static CURLcode set_url(struct np_easy *e, const struct np_exchange *x) {
  if (e->url.len == x->url_len && x->url_len > 0 &&
      memcmp(e->url.data, x->url, x->url_len) == 0)
    return CURLE_OK;
  np_buf_clear(&e->url);
  if (np_buf_append(&e->url, x->url, x->url_len) < 0)
    return CURLE_OUT_OF_MEMORY;
  CURLcode rc = SET(e, URL, x->url);
  if (rc != CURLE_OK) np_buf_clear(&e->url);
  bool secure = strncasecmp(x->url, "https:", 6) == 0;
  if (secure != e->secure) e->version = UINT8_MAX; /* depends on it */
  e->secure = secure;
  return rc;
}

static CURLcode set_version(struct np_easy *e, const struct np_exchange *x) {
  if (e->version == x->version) return CURLE_OK;
  long version = CURL_HTTP_VERSION_2TLS;
  if (x->version == NP_HTTP_1_1) version = CURL_HTTP_VERSION_1_1;
  if (x->version == NP_HTTP_2 && !e->secure)
    version = CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
  CURLcode rc = SET(e, HTTP_VERSION, version);
  /* Where HTTP/2 may come: waits for the first connection to say so instead of
   * opening one for each request. */
  bool multiplex = version == CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE ||
                   (e->secure && version != CURL_HTTP_VERSION_1_1);
  if (rc == CURLE_OK) rc = SET(e, PIPEWAIT, multiplex ? 1L : 0L);
  e->version = rc == CURLE_OK ? (uint8_t)x->version : UINT8_MAX;
  return rc;
}

static CURLcode set_compression(struct np_easy *e, const char *value) {
  if (strcmp(e->compression, value ? value : "-") == 0) return CURLE_OK;
  CURLcode rc = SET(e, ACCEPT_ENCODING, value);
  if (!value) value = "-";
  size_t len = strlen(value);
  e->compression[0] = '\0';
  if (rc == CURLE_OK && len < sizeof e->compression)
    memcpy(e->compression, value, len + 1);
  else
    e->compression[0] = '?'; /* too long to remember: set it every time */
  return rc;
}

static CURLcode set_mode(struct np_easy *e, enum np_easy_mode mode) {
  if (e->mode == mode) return CURLE_OK;
  CURLcode rc = CURLE_OK;
  if (e->mode == NP_EASY_UPLOAD) rc = SET(e, UPLOAD, 0L);
  if (e->mode == NP_EASY_HEAD && rc == CURLE_OK) rc = SET(e, NOBODY, 0L);
  if (rc != CURLE_OK) return rc;
  e->mode = (uint8_t)mode;
  switch (mode) {
  case NP_EASY_GET:
    return SET(e, HTTPGET, 1L);
  case NP_EASY_HEAD:
    return SET(e, NOBODY, 1L);
  case NP_EASY_POST:
    return SET(e, POST, 1L);
  case NP_EASY_UPLOAD:
    return SET(e, UPLOAD, 1L);
  }
  return rc;
}

static CURLcode set_method(struct np_easy *e, const struct np_exchange *x,
                           enum np_easy_mode mode) {
  static const char *const own[] = {"GET", "HEAD", "POST", "PUT"};
  const char *custom = strcmp(x->method, own[mode]) == 0 ? "" : x->method;
  if (strcmp(custom, e->method) == 0) return CURLE_OK;
  CURLcode rc = SET(e, CUSTOMREQUEST, *custom ? custom : NULL);
  size_t len = strlen(custom);
  if (rc != CURLE_OK || len >= sizeof e->method) {
    memcpy(e->method, "?", 2); /* no method: set it again the next time */
    return rc;
  }
  memcpy(e->method, custom, len + 1);
  return rc;
}

static CURLcode set_body(struct np_easy *e, const struct np_exchange *x) {
  bool upload = x->has_body && !x->body;
  enum np_easy_mode mode = NP_EASY_GET;
  if (strcmp(x->method, "HEAD") == 0)
    mode = NP_EASY_HEAD;
  else if (x->has_body || strcmp(x->method, "POST") == 0 ||
           strcmp(x->method, "PUT") == 0 || strcmp(x->method, "PATCH") == 0)
    mode = upload ? NP_EASY_UPLOAD : NP_EASY_POST;
  CURLcode rc = set_mode(e, mode);
  if (rc == CURLE_OK) rc = set_method(e, x, mode);
  if (rc == CURLE_OK && mode == NP_EASY_UPLOAD)
    rc = SET(e, INFILESIZE_LARGE,
             x->body_len == NP_BODY_UNKNOWN ? -1 : (curl_off_t)x->body_len);
  if (rc == CURLE_OK && mode == NP_EASY_POST)
    rc = SET(e, POSTFIELDSIZE_LARGE, x->has_body ? (curl_off_t)x->body_len : 0);
  /* A pointer into the owner's memory, not a copy. */
  if (rc == CURLE_OK && mode == NP_EASY_POST)
    rc = SET(e, POSTFIELDS, x->has_body ? x->body : "");
  return rc;
}

/* libcurl reads "Name:" as "leave this header out" and "Name;" as one without
 * a value. */
static CURLcode set_headers(struct np_easy *e, struct np_exchange *x) {
  uint32_t count = 0;
  if (x->headers->count + 3 > e->line_capacity) {
    uint32_t capacity = x->headers->count + 8;
    struct curl_slist *grown = realloc(e->lines, capacity * sizeof *grown);
    if (!grown) return CURLE_OUT_OF_MEMORY;
    e->lines = grown;
    e->line_capacity = capacity;
  }
  char *line = x->headers->lines.data;
  for (uint32_t i = 0; i < x->headers->count; i++) {
    size_t len = strlen(line);
    if (len > 2 && line[len - 1] == ' ' && line[len - 2] == ':')
      memcpy(line + len - 2, ";", 2); /* the byte after it is unused */
    e->lines[count++].data = line;
    line += len + 1;
  }
  /* Nothing goes out that was not asked for. */
  if (!x->headers->has_accept) e->lines[count++].data = "Accept:";
  if (e->mode == NP_EASY_POST && !x->headers->has_content_type)
    e->lines[count++].data = "Content-Type:";
  if (!x->headers->has_expect &&
      (e->mode == NP_EASY_UPLOAD ||
       (e->mode == NP_EASY_POST && x->body_len >= EXPECT_FROM)))
    e->lines[count++].data = "Expect:";
  for (uint32_t i = 0; i < count; i++)
    e->lines[i].next = i + 1 < count ? &e->lines[i + 1] : NULL;
  return SET(e, HTTPHEADER, count > 0 ? e->lines : NULL);
}

static CURLcode set_buffer_size(struct np_easy *e, uint32_t size) {
  if (e->buffer_size == size) return CURLE_OK;
  e->buffer_size = size;
  return SET(e, BUFFERSIZE, (long)size);
}

int np_easy_prepare(struct np_easy *e, struct np_exchange *x,
                    uint32_t buffer_size) {
  e->x = x;
  e->held = e->receive_paused = e->send_paused = e->counting = false;
  e->error[0] = '\0';
  e->received = 0;
  CURLcode rc = set_buffer_size(e, buffer_size);
  if (rc == CURLE_OK) rc = set_url(e, x);
  if (rc == CURLE_OK) rc = set_version(e, x);
  if (rc == CURLE_OK) rc = set_compression(e, x->compression);
  if (rc == CURLE_OK) rc = set_body(e, x);
  if (rc == CURLE_OK) rc = set_headers(e, x);
  if (rc == CURLE_OK) return NP_OK;
  return rc == CURLE_OUT_OF_MEMORY ? NP_E_LIMIT : NP_E_INVALID;
}
