/* SPDX-License-Identifier: MIT */
#include "core/work.h"

#include <stdlib.h>
#include <uv.h>

struct np_work {
  uv_work_t req;
  struct np_post post;
  struct np_loop *loop;
  np_work_fn run, done;
  void *ud;
  bool cancelled;
  bool in_order; /* posted at its submission: the post waits for the thread */
  bool left_pool;
};

static void on_thread(uv_work_t *req) {
  struct np_work *w = np_container_of(req, struct np_work, req);
  w->run(w->ud);
}

static void finish(struct np_post *p) {
  struct np_work *w = np_container_of(p, struct np_work, post);
  while (!w->left_pool) np_loop_poll(w->loop);
  np_loop_release(w->loop);
  if (w->done && !w->cancelled) w->done(w->ud);
  free(w);
}

static void on_done(uv_work_t *req, int status) {
  struct np_work *w = np_container_of(req, struct np_work, req);
  (void)status; /* UV_ECANCELED only after np_work_cancel */
  w->left_pool = true;
  if (!w->in_order) np_loop_post(w->loop, &w->post);
}

struct np_work *np_work_submit(struct np_loop *l, np_work_fn run,
                               np_work_fn done, void *ud) {
  struct np_work *w = calloc(1, sizeof *w);
  if (!w) return NULL;
  w->loop = l;
  w->run = run;
  w->done = done;
  w->ud = ud;
  w->post.run = finish;
  np_list_init(&w->post.link);
  if (uv_queue_work(np_loop_uv(l), &w->req, on_thread, on_done) != 0) {
    free(w);
    return NULL;
  }
  np_loop_hold(l);
  w->in_order = l->clock->is_virtual;
  if (w->in_order) np_loop_post(l, &w->post);
  return w;
}

bool np_work_cancel(struct np_work *w) {
  w->cancelled = uv_cancel((uv_req_t *)&w->req) == 0;
  return w->cancelled;
}
