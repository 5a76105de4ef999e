/* SPDX-License-Identifier: MIT
 * The yardstick: a plain libcurl-multi + libuv client, as libcurl's own manual
 * describes it. One CURLM, one poll handle a socket, reused easy handles, no
 * tricks. Sends COUNT posts to URL with IN_FLIGHT at a time and keep-alive.
 *
 * usage: plain_curl URL COUNT IN_FLIGHT BODY */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct transfer {
  CURL *easy;
  char *data;
  size_t len, capacity;
};

struct socket_watch {
  uv_poll_t poll;
  curl_socket_t fd;
};

static uv_loop_t *loop;
static uv_timer_t timer;
static CURLM *multi;
static long to_start, done_count, failed_count;

static size_t on_body(char *data, size_t size, size_t count, void *ud) {
  struct transfer *t = ud;
  size_t len = size * count;
  if (t->len + len > t->capacity) {
    t->capacity = (t->len + len) * 2;
    t->data = realloc(t->data, t->capacity);
    if (!t->data) return 0;
  }
  memcpy(t->data + t->len, data, len);
  t->len += len;
  return len;
}

static void start(struct transfer *t) {
  to_start--;
  t->len = 0;
  curl_multi_add_handle(multi, t->easy);
}

static void drain(void) {
  CURLMsg *m;
  int left;
  while ((m = curl_multi_info_read(multi, &left)) != NULL) {
    if (m->msg != CURLMSG_DONE) continue;
    struct transfer *t;
    long status = 0;
    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
    curl_easy_getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &status);
    if (m->data.result != CURLE_OK || status != 200 || t->len == 0)
      failed_count++;
    done_count++;
    curl_multi_remove_handle(multi, t->easy);
    if (to_start > 0) start(t);
  }
}

static void on_poll(uv_poll_t *poll, int status, int events) {
  struct socket_watch *w = (struct socket_watch *)poll->data;
  int flags = status < 0 ? CURL_CSELECT_ERR : 0, running;
  if (events & UV_READABLE) flags |= CURL_CSELECT_IN;
  if (events & UV_WRITABLE) flags |= CURL_CSELECT_OUT;
  curl_multi_socket_action(multi, w->fd, flags, &running);
  drain();
}

static void on_timer(uv_timer_t *t) {
  int running;
  (void)t;
  curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
  drain();
}

static int on_multi_timer(CURLM *m, long timeout_ms, void *ud) {
  (void)m;
  (void)ud;
  if (timeout_ms < 0)
    uv_timer_stop(&timer);
  else
    uv_timer_start(&timer, on_timer, timeout_ms == 0 ? 1 : timeout_ms, 0);
  return 0;
}

static void on_closed(uv_handle_t *h) {
  free(h->data);
}

static int on_socket(CURL *easy, curl_socket_t fd, int action, void *ud,
                     void *socket_ud) {
  struct socket_watch *w = socket_ud;
  (void)easy;
  (void)ud;
  if (action == CURL_POLL_REMOVE) {
    if (!w) return 0;
    uv_poll_stop(&w->poll);
    curl_multi_assign(multi, fd, NULL);
    uv_close((uv_handle_t *)&w->poll, on_closed);
    return 0;
  }
  if (!w) {
    w = calloc(1, sizeof *w);
    if (!w) return 0;
    w->fd = fd;
    w->poll.data = w;
    uv_poll_init_socket(loop, &w->poll, fd);
    curl_multi_assign(multi, fd, w);
  }
  int events = 0;
  if (action != CURL_POLL_OUT) events |= UV_READABLE;
  if (action != CURL_POLL_IN) events |= UV_WRITABLE;
  uv_poll_start(&w->poll, events, on_poll);
  return 0;
}

static struct transfer *transfers_new(long n, const char *url, const char *body,
                                      struct curl_slist *headers) {
  struct transfer *all = calloc((size_t)n, sizeof *all);
  if (!all) abort();
  for (long i = 0; i < n; i++) {
    CURL *e = all[i].easy = curl_easy_init();
    curl_easy_setopt(e, CURLOPT_URL, url);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, &all[i]);
    curl_easy_setopt(e, CURLOPT_PRIVATE, &all[i]);
  }
  return all;
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: plain_curl URL COUNT IN_FLIGHT BODY\n");
    return 2;
  }
  long count = atol(argv[2]), in_flight = atol(argv[3]);
  loop = uv_default_loop();
  uv_timer_init(loop, &timer);
  curl_global_init(CURL_GLOBAL_ALL);
  multi = curl_multi_init();
  curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_multi_timer);
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, in_flight);
  struct curl_slist *headers =
      curl_slist_append(NULL, "Content-Type: application/json");
  struct transfer *all = transfers_new(in_flight, argv[1], argv[4], headers);
  to_start = count;
  for (long i = 0; i < in_flight && to_start > 0; i++) start(&all[i]);
  uv_run(loop, UV_RUN_DEFAULT);
  printf("%ld done, %ld failed\n", done_count, failed_count);
  for (long i = 0; i < in_flight; i++) {
    curl_easy_cleanup(all[i].easy);
    free(all[i].data);
  }
  free(all);
  curl_multi_cleanup(multi);
  curl_slist_free_all(headers);
  return failed_count > 0 || done_count != count;
}
