/* SPDX-License-Identifier: MIT
 * What libcurl says about a transfer, in neap's words: error kinds, phases,
 * times. No text of libcurl's passes but on TLS, where it carries neither URL
 * nor credentials. */
#include "net/http_easy.h"

#include <stdio.h>
#include <string.h>

static uint64_t time_ns(const struct np_easy *e, CURLINFO info) {
  curl_off_t us = 0;
  (void)curl_easy_getinfo(e->transfer.easy, info, &us); /* us stays 0 */
  return us > 0 ? (uint64_t)us * 1000 : 0;
}

static uint64_t wire_bytes(const struct np_easy *e) {
  long bytes = 0;
  (void)curl_easy_getinfo(e->transfer.easy, CURLINFO_REQUEST_SIZE, &bytes);
  return bytes > 0 ? (uint64_t)bytes : 0;
}

uint64_t np_easy_sent_bytes(const struct np_easy *e) {
  uint64_t bytes = wire_bytes(e);
  return e->counting && bytes > e->base_bytes ? bytes - e->base_bytes : 0;
}

static const char *phase_of(const struct np_easy *e, uint64_t dns_ns,
                            uint64_t connect_ns) {
  if (e->counting) return "send";
  if (dns_ns == 0 && !e->x->origin->is_address) return "dns";
  /* libcurl 7.88 counts the time to connect only after the TLS handshake. */
  if (connect_ns == 0 && !np_transfer_connected(&e->transfer)) return "connect";
  return e->secure ? "tls" : "connect";
}

void np_easy_progress(const struct np_easy *e, struct np_progress *p) {
  if (e->held) { /* libcurl still shows the exchange before */
    *p = (struct np_progress){.phase = "dns"};
    return;
  }
  uint64_t dns_ns = time_ns(e, CURLINFO_NAMELOOKUP_TIME_T);
  uint64_t connect_ns = time_ns(e, CURLINFO_CONNECT_TIME_T);
  uint64_t tls_ns = time_ns(e, CURLINFO_APPCONNECT_TIME_T);
  p->phase = phase_of(e, dns_ns, connect_ns);
  p->dns_ns = dns_ns;
  p->connect_ns = connect_ns > dns_ns ? connect_ns - dns_ns : 0;
  p->tls_ns = tls_ns > connect_ns ? tls_ns - connect_ns : 0;
  p->before_send_ns = time_ns(e, CURLINFO_PRETRANSFER_TIME_T);
  p->first_byte_ns = time_ns(e, CURLINFO_STARTTRANSFER_TIME_T);
  p->total_ns = time_ns(e, CURLINFO_TOTAL_TIME_T);
  p->sent = np_easy_sent_bytes(e) > 0;
}

static const char *why(const struct np_easy *e, char *out, size_t room) {
  long number = 0;
  (void)curl_easy_getinfo(e->transfer.easy, CURLINFO_OS_ERRNO, &number);
  out[0] = '\0';
  if (number != 0)
    (void)snprintf(out, room, ": %s", strerrordesc_np((int)number));
  return out;
}

static bool says(const struct np_easy *e, const char *text) {
  return strstr(e->error, text) != NULL;
}

static bool lost(const struct np_easy *e) {
  long number = 0;
  (void)curl_easy_getinfo(e->transfer.easy, CURLINFO_OS_ERRNO, &number);
  return number != 0 || says(e, "SSL_ERROR_SYSCALL") ||
         says(e, "unexpected eof");
}

static int tls_error(const struct np_easy *e, CURLcode code,
                     struct np_error *out) {
  const char *origin = e->x->origin->name;
  /* The peer hung up in mid-handshake: that is the network, not the trust. */
  if (code == CURLE_SSL_CONNECT_ERROR && lost(e))
    return np_error_set(out, NP_E_CONNECT, "tls",
                        "%s closed the connection during the TLS handshake",
                        origin);
  return np_error_set(out, NP_E_TLS, "tls", "TLS to %s failed: %s", origin,
                      e->error[0] ? e->error : curl_easy_strerror(code));
}

static int receive_error(const struct np_easy *e, CURLcode code,
                         struct np_error *out) {
  const char *origin = e->x->origin->name;
  char reason[96];
  if (!e->counting) /* a proxy refused, or broke, before the request */
    return np_error_set(out, NP_E_CONNECT, "connect",
                        "no connection to %s through the proxy", origin);
  /* libcurl 7.88 has no code of its own for it. */
  if (says(e, "chunked-encoding"))
    return np_error_set(out, NP_E_PROTOCOL, "download",
                        "%s sent a malformed chunk", origin);
  if (code == CURLE_GOT_NOTHING)
    return np_error_set(out, NP_E_RECEIVE, NULL,
                        "%s closed the connection without an answer", origin);
  if (code == CURLE_PARTIAL_FILE)
    return np_error_set(out, NP_E_RECEIVE, "download",
                        "%s closed the connection in the middle of the body",
                        origin);
  return np_error_set(out, NP_E_RECEIVE, NULL,
                      "the connection to %s broke while receiving%s", origin,
                      why(e, reason, sizeof reason));
}

static int other_error(const struct np_easy *e, CURLcode code,
                       struct np_error *out) {
  const char *origin = e->x->origin->name;
  switch (code) {
  case CURLE_URL_MALFORMAT:
    return np_error_set(out, NP_E_INVALID, NULL, "the URL is malformed");
  case CURLE_UNSUPPORTED_PROTOCOL:
    if (!e->counting)
      return np_error_set(out, NP_E_INVALID, NULL,
                          "only http and https URLs are supported");
    return np_error_set(out, NP_E_PROTOCOL, NULL,
                        "%s answered with something that is not HTTP", origin);
  case CURLE_WEIRD_SERVER_REPLY:
  case CURLE_FILESIZE_EXCEEDED:
  case CURLE_HTTP2:
    return np_error_set(out, NP_E_PROTOCOL, NULL,
                        "%s sent a malformed response", origin);
  case CURLE_BAD_CONTENT_ENCODING:
    return np_error_set(out, NP_E_DECODE, "download",
                        "the body from %s cannot be decompressed", origin);
  case CURLE_OPERATION_TIMEDOUT: /* libcurl's own limit: ours come first */
    return np_error_set(out, NP_E_TIMEOUT, NULL, "%s took too long", origin);
  case CURLE_OUT_OF_MEMORY:
    /* libcurl 7.88 also says so of a header line above 100 kB. */
    if (e->counting)
      return np_error_set(out, NP_E_TOO_LARGE, "first_byte",
                          "%s sent a header line that is too long", origin);
    return np_error_set(out, NP_E_LIMIT, NULL, "out of memory");
  default:
    return np_error_set(out, NP_E_INTERNAL, NULL, "libcurl failed on %s: %s",
                        origin, curl_easy_strerror(code));
  }
}

void np_easy_error(const struct np_easy *e, CURLcode code,
                   struct np_error *out) {
  const char *origin = e->x->origin->name;
  char reason[96];
  switch (code) {
  case CURLE_COULDNT_RESOLVE_HOST:
    (void)np_error_set(out, NP_E_DNS, "dns", "no address found for %s", origin);
    return;
  case CURLE_COULDNT_RESOLVE_PROXY:
    (void)np_error_set(out, NP_E_DNS, "dns",
                       "no address found for the proxy to %s", origin);
    return;
  case CURLE_COULDNT_CONNECT:
  case CURLE_PROXY:
  case CURLE_INTERFACE_FAILED:
    (void)np_error_set(out, NP_E_CONNECT, "connect", "cannot connect to %s%s%s",
                       e->proxied ? "the proxy for " : "", origin,
                       why(e, reason, sizeof reason));
    return;
  case CURLE_SEND_ERROR:
  case CURLE_SEND_FAIL_REWIND:
    (void)np_error_set(out, NP_E_SEND, "send",
                       "the connection to %s broke while sending%s", origin,
                       why(e, reason, sizeof reason));
    return;
  case CURLE_GOT_NOTHING:
  case CURLE_RECV_ERROR:
  case CURLE_PARTIAL_FILE:
  case CURLE_HTTP2_STREAM:
    (void)receive_error(e, code, out);
    return;
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CIPHER:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_CRL_BADFILE:
  case CURLE_SSL_ISSUER_ERROR:
  case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
  case CURLE_SSL_INVALIDCERTSTATUS:
  case CURLE_SSL_CLIENTCERT:
  case CURLE_SSL_ENGINE_INITFAILED:
    (void)tls_error(e, code, out);
    return;
  default:
    (void)other_error(e, code, out);
  }
}
