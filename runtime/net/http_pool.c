/* SPDX-License-Identifier: MIT */
#include "net/http_pool.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { KEEP_HOSTS = 256, MAX_HOST_LEN = 255 };

void np_pool_init(struct np_pool *p, struct np_loop *l) {
  memset(p, 0, sizeof *p);
  p->loop = l;
  np_heap_init(&p->runnable);
  for (int i = 0; i < NP_POOL_BUCKETS; i++) np_list_init(&p->buckets[i]);
}

/* -- Hosts ------------------------------------------------------------------
 */

struct url_parts {
  size_t raw_len; /* scheme and authority as they stand */
  bool secure;
  char host[MAX_HOST_LEN + 1]; /* lower case; brackets stay */
  unsigned port;
};

static bool ends_authority(char c) {
  return c == '/' || c == '?' || c == '#' || c == '\0';
}

static bool parse_port(const char *s, const char *end, unsigned *port) {
  if (s == end) return true; /* "host:" has the default */
  unsigned value = 0;
  for (; s < end; s++) {
    if (*s < '0' || *s > '9') return false;
    value = value * 10 + (unsigned)(*s - '0');
    if (value > 65535) return false;
  }
  *port = value;
  return value > 0;
}

static bool parse_authority(const char *s, const char *end,
                            struct url_parts *out) {
  for (const char *at = end; at > s; at--) {
    if (at[-1] != '@') continue;
    s = at; /* user and password are libcurl's business */
    break;
  }
  const char *host_end = s;
  if (s < end && *s == '[') {
    host_end = memchr(s, ']', (size_t)(end - s));
    if (!host_end) return false;
    host_end++;
  } else {
    while (host_end < end && *host_end != ':') host_end++;
  }
  size_t len = (size_t)(host_end - s);
  if (len == 0 || len > MAX_HOST_LEN) return false;
  if (host_end < end && *host_end != ':') return false;
  if (host_end < end && !parse_port(host_end + 1, end, &out->port))
    return false;
  for (size_t i = 0; i < len; i++)
    out->host[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] - 'A' + 'a' : s[i]);
  out->host[len] = '\0';
  return true;
}

/* Only as far as admission and messages need it; libcurl parses it again. */
static int parse_url(const char *url, size_t len, struct url_parts *out,
                     struct np_error *e) {
  for (size_t i = 0; i < len; i++)
    if ((unsigned char)url[i] <= ' ' || url[i] == 127)
      return np_error_set(e, NP_E_INVALID, NULL,
                          "the URL has a space or a control character");
  out->secure = strncasecmp(url, "https://", 8) == 0;
  if (!out->secure && strncasecmp(url, "http://", 7) != 0)
    return np_error_set(e, NP_E_INVALID, NULL,
                        "the URL does not begin with http:// or https://");
  out->port = out->secure ? 443 : 80;
  const char *authority = url + (out->secure ? 8 : 7), *end = authority;
  while (!ends_authority(*end)) end++;
  out->raw_len = (size_t)(end - url);
  if (!parse_authority(authority, end, out))
    return np_error_set(e, NP_E_INVALID, NULL,
                        "the URL has a malformed host or port");
  return NP_OK;
}

static bool is_address(const char *host) {
  struct in_addr a;
  size_t len = strlen(host);
  if (host[0] == '[' || inet_pton(AF_INET, host, &a) == 1) return true;
  /* libcurl answers for localhost itself, without a thread. */
  if (strcmp(host, "localhost") == 0) return true;
  return len > 10 && strcmp(host + len - 10, ".localhost") == 0;
}

static struct np_list *bucket_of(struct np_pool *p, const char *text) {
  uint32_t hash = 2166136261u; /* FNV-1a */
  for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 16777619u;
  return &p->buckets[hash % NP_POOL_BUCKETS];
}

static struct np_host *host_new(struct np_pool *p, const char *text,
                                const char *url, const struct url_parts *u) {
  size_t text_len = strlen(text);
  struct np_host *h = calloc(1, sizeof *h + text_len + 1 + u->raw_len);
  if (!h) return NULL;
  memcpy(h->text, text, text_len + 1);
  h->raw = h->text + text_len + 1;
  h->raw_len = (uint32_t)u->raw_len;
  memcpy(h->raw, url, u->raw_len);
  np_origin_init(&h->origin);
  h->origin.name = strstr(h->text, "://") + 3;
  h->origin.is_address = is_address(u->host);
  np_waitq_init(&h->queue, 0);
  np_heap_node_init(&h->runnable);
  np_list_push_tail(bucket_of(p, text), &h->link);
  p->host_count++;
  return h;
}

static void host_free(struct np_pool *p, struct np_host *h) {
  if (p->last == h) p->last = NULL;
  np_list_remove(&h->link);
  np_origin_fini(&h->origin);
  p->host_count--;
  free(h);
}

static struct np_host *find_host(struct np_pool *p, const char *text) {
  struct np_list *bucket = bucket_of(p, text);
  for (struct np_list *n = bucket->next; n != bucket; n = n->next) {
    struct np_host *h = np_container_of(n, struct np_host, link);
    if (strcmp(h->text, text) == 0) return h;
  }
  return NULL;
}

static bool begins_like(const struct np_host *h, const char *url, size_t len) {
  return h && len >= h->raw_len && memcmp(h->raw, url, h->raw_len) == 0 &&
         ends_authority(url[h->raw_len]);
}

struct np_host *np_pool_host(struct np_pool *p, const char *url, size_t url_len,
                             struct np_error *e) {
  struct url_parts u;
  char text[MAX_HOST_LEN + 32];
  struct np_host *h = p->last;
  if (!begins_like(h, url, url_len)) {
    if (parse_url(url, url_len, &u, e) < 0) return NULL;
    (void)snprintf(text, sizeof text, "%s://%s:%u", u.secure ? "https" : "http",
                   u.host, u.port);
    h = find_host(p, text);
    if (!h) h = host_new(p, text, url, &u);
    if (!h) {
      (void)np_error_set(e, NP_E_LIMIT, NULL, "out of memory");
      return NULL;
    }
    p->last = h;
  } else {
    for (size_t i = h->raw_len; i < url_len; i++)
      if ((unsigned char)url[i] <= ' ' || url[i] == 127) {
        (void)np_error_set(e, NP_E_INVALID, NULL,
                           "the URL has a space or a control character");
        return NULL;
      }
  }
  h->refs++;
  return h;
}

void np_pool_unref(struct np_pool *p, struct np_host *h) {
  if (--h->refs == 0 && p->host_count > KEEP_HOSTS) host_free(p, h);
}

void np_pool_fini(struct np_pool *p) {
  for (int i = 0; i < NP_POOL_BUCKETS; i++)
    while (!np_list_empty(&p->buckets[i]))
      host_free(p, np_container_of(p->buckets[i].next, struct np_host, link));
  np_heap_fini(&p->runnable);
}

/* -- Admission ----------------------------------------------------------------
 */

static bool host_has_room(const struct np_pool *p, const struct np_host *h) {
  return h->in_flight < p->max_per_host;
}

/* Brings h's place in the heap up to date. Without memory for a place its
 * waiters stay until the next call to h ends, which tries again. */
static void rank(struct np_pool *p, struct np_host *h) {
  struct np_task *first = np_waitq_first(&h->queue);
  np_heap_remove(&p->runnable, &h->runnable);
  if (first && host_has_room(p, h))
    (void)np_heap_push(&p->runnable, &h->runnable, first->wait_arg);
}

static void count_in(struct np_pool *p, struct np_host *h) {
  p->in_flight++;
  h->in_flight++;
}

int np_pool_enter(struct np_pool *p, struct np_host *h, struct np_task *t,
                  const struct np_wait_ops *ops, void *call,
                  uint64_t timeout_ns) {
  if (p->closed) return NP_E_CLOSED;
  if (p->in_flight < p->max && host_has_room(p, h)) {
    count_in(p, h);
    return NP_OK;
  }
  if (timeout_ns == 0) return NP_E_QUEUE_TIMEOUT;
  if (p->waiting >= p->max_waiting) return NP_E_QUEUE_FULL;
  int rc = np_waitq_park(&h->queue, t, ops, call, timeout_ns);
  if (rc != NP_PARKED) return rc;
  t->wait_arg = p->next_ticket++;
  p->waiting++;
  if (h->queue.count == 1) rank(p, h);
  return NP_PARKED;
}

/* The call runs from here on: its task stays parked, now without a deadline. */
static void admit(struct np_pool *p, struct np_host *h) {
  struct np_task *t = np_waitq_first(&h->queue);
  np_waitq_leave(&h->queue, t);
  np_timer_stop(&p->loop->timers, &t->timer);
  p->waiting--;
  count_in(p, h);
  rank(p, h);
  p->admitted(t->wait_ud);
}

void np_pool_leave(struct np_pool *p, struct np_host *h) {
  struct np_heap_node *n;
  uint64_t ticket;
  p->in_flight--;
  h->in_flight--;
  rank(p, h);
  if (p->admitting) return; /* a call that failed at once: no recursion */
  p->admitting = true;
  while (!p->closed && p->in_flight < p->max &&
         (n = np_heap_min(&p->runnable, &ticket)) != NULL)
    admit(p, np_container_of(n, struct np_host, runnable));
  p->admitting = false;
}

void np_pool_quit(struct np_pool *p, struct np_host *h, struct np_task *t) {
  np_waitq_leave(&h->queue, t);
  p->waiting--;
  rank(p, h);
}
