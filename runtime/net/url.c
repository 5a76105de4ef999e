/* SPDX-License-Identifier: MIT */
#include "net/url.h"

#include "base/base64.h"

#include <curl/curl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libcurl's memory becomes ours. */
static char *own(char *from_curl) {
  char *copy = from_curl ? strdup(from_curl) : NULL;
  curl_free(from_curl);
  return copy;
}

char *np_url_resolve(const char *base, const char *relative) {
  char *result = NULL;
  CURLU *u = curl_url();
  if (!u) return NULL;
  if (curl_url_set(u, CURLUPART_URL, base, CURLU_NON_SUPPORT_SCHEME) != 0 ||
      /* servers do send spaces in Location */
      curl_url_set(u, CURLUPART_URL, relative,
                   CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE) != 0 ||
      curl_url_get(u, CURLUPART_URL, &result, 0) != 0)
    result = NULL;
  curl_url_cleanup(u);
  return own(result);
}

static char *join_origin(const char *scheme, const char *host,
                         const char *port) {
  size_t room = strlen(scheme) + strlen(host) + strlen(port) + 5;
  char *out = malloc(room);
  if (out) (void)snprintf(out, room, "%s://%s:%s", scheme, host, port);
  for (char *c = out; c && *c; c++)
    if (*c >= 'A' && *c <= 'Z') *c = (char)(*c - 'A' + 'a');
  return out;
}

char *np_url_origin(const char *url) {
  char *scheme = NULL, *host = NULL, *port = NULL, *out = NULL;
  CURLU *u = curl_url();
  if (!u) return NULL;
  if (curl_url_set(u, CURLUPART_URL, url, 0) == 0 &&
      curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == 0 &&
      curl_url_get(u, CURLUPART_HOST, &host, 0) == 0 &&
      curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == 0)
    out = join_origin(scheme, host, port);
  curl_free(scheme);
  curl_free(host);
  curl_free(port);
  curl_url_cleanup(u);
  return out;
}

static char *join_basic(const char *user, const char *password) {
  static const char scheme[] = "Basic ";
  size_t user_len = strlen(user), len = user_len + 1 + strlen(password);
  char *both = malloc(len + 1);
  char *out = malloc(sizeof scheme + np_base64_room(len));
  if (both && out) {
    (void)snprintf(both, len + 1, "%s:%s", user, password);
    memcpy(out, scheme, sizeof scheme - 1);
    char *coded = out + sizeof scheme - 1;
    coded[np_base64_encode(coded, both, len, false)] = '\0';
  } else {
    free(out);
    out = NULL;
  }
  free(both);
  return out;
}

char *np_url_basic(const char *url) {
  char *user = NULL, *password = NULL, *out = NULL;
  if (!strchr(url, '@')) return NULL;
  CURLU *u = curl_url();
  if (!u) return NULL;
  if (curl_url_set(u, CURLUPART_URL, url, 0) == 0) {
    (void)curl_url_get(u, CURLUPART_USER, &user, CURLU_URLDECODE);
    (void)curl_url_get(u, CURLUPART_PASSWORD, &password, CURLU_URLDECODE);
    if (user || password)
      out = join_basic(user ? user : "", password ? password : "");
  }
  curl_free(user);
  curl_free(password);
  curl_url_cleanup(u);
  return out;
}

char *np_url_escape(const char *s, size_t len) {
  if (len == 0) return strdup(""); /* to libcurl it would mean "to the NUL" */
  return len > INT_MAX ? NULL : own(curl_easy_escape(NULL, s, (int)len));
}
