/* SPDX-License-Identifier: MIT
 * Work on libuv's thread pool: run() on a pool thread, then done() on the loop
 * thread as a post (never inside a libuv callback). A submitted job holds the
 * loop and cannot be taken back once it runs: its memory stays valid until
 * done(). run() sees no Lua and nothing of the loop's.
 *
 * On a virtual clock jobs are done in the order of their submission, each in
 * the turn after it, however long the threads take: the post is made at once
 * and waits for its job. What a script sees then does not depend on the pool;
 * jobs of one turn still run side by side. */
#ifndef NP_WORK_H
#define NP_WORK_H

#include "core/loop.h"

struct np_work;
typedef void (*np_work_fn)(void *ud);

/* Submits a job. done may be NULL. Returns the job (owned by the loop, valid
 * until done returns), or NULL without memory. */
struct np_work *np_work_submit(struct np_loop *l, np_work_fn run,
                               np_work_fn done, void *ud);
/* Takes the job back if no thread has begun it: then done() is not called and
 * true comes back. False: it runs, done() will come. */
bool np_work_cancel(struct np_work *w);

#endif
