/* SPDX-License-Identifier: MIT
 * What leaves the loop thread: whole files, read (and turned into base64) in
 * one job on the thread pool. And what stays: base64 of strings, the lock of an
 * open file. */
#include "bind/bind.h"

#include "base/base64.h"
#include "base/buf.h"
#include "core/work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char class_name[] = "neap.file_job";

enum {
  MAX_FILE = 1 << 30, /* LuaJIT's strings end at 2 GB */
  FIRST_READ = 64 * 1024,
  BASE64_PIECE = 48 * 1024 /* a multiple of 3: no padding but at the end */
};

/* Lives until both sides are done with it: the userdata and the thread. */
struct job {
  char *path; /* owned */
  bool base64;
  struct np_buf data;   /* the result */
  int error;            /* errno of the failure; EFBIG beyond MAX_FILE; 0 */
  struct np_work *work; /* NULL: not under way */
  struct np_task *task; /* who waits; NULL: nobody */
  np_token token;
  bool orphaned; /* the userdata is gone */
};

struct job_ref {
  struct job *job; /* NULL: none */
};

static void job_free(struct job *j) {
  np_buf_fini(&j->data);
  free(j->path);
  free(j);
}

/* -- On the pool ----------------------------------------------------------- */

/* Reads up to len bytes, fewer only at the end. Returns them, or -errno. */
static ssize_t read_full(int fd, char *to, size_t len) {
  size_t got = 0;
  while (got < len) {
    ssize_t n = read(fd, to + got, len - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (n == 0) break;
    got += (size_t)n;
  }
  return (ssize_t)got;
}

static int read_plain(struct job *j, int fd, size_t size) {
  /* A byte more than the size: the end shows without another read. */
  size_t piece = size + 1 > FIRST_READ ? size + 1 : FIRST_READ;
  for (;;) {
    if (j->data.len > MAX_FILE) return EFBIG;
    if (np_buf_reserve(&j->data, piece) < 0) return ENOMEM;
    ssize_t n = read_full(fd, j->data.data + j->data.len, piece);
    if (n < 0) return (int)-n;
    j->data.len += (size_t)n;
    if ((size_t)n < piece) return 0;
    piece = j->data.len; /* the file grew, or it has no size (/proc) */
  }
}

static int read_base64(struct job *j, int fd, size_t size) {
  char *piece = malloc(BASE64_PIECE);
  int error =
      piece && np_buf_reserve(&j->data, np_base64_room(size)) == 0 ? 0 : ENOMEM;
  while (error == 0) {
    ssize_t n = read_full(fd, piece, BASE64_PIECE);
    if (n < 0)
      error = (int)-n;
    else if (j->data.len > MAX_FILE)
      error = EFBIG;
    else if (np_buf_reserve(&j->data, np_base64_room((size_t)n)) < 0)
      error = ENOMEM;
    if (error != 0) break;
    j->data.len +=
        np_base64_encode(j->data.data + j->data.len, piece, (size_t)n, false);
    if (n < BASE64_PIECE) break;
  }
  free(piece);
  return error;
}

static void run(void *ud) {
  struct job *j = ud;
  struct stat st;
  int fd = open(j->path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    j->error = errno;
    return;
  }
  if (fstat(fd, &st) != 0)
    j->error = errno;
  else if (S_ISDIR(st.st_mode))
    j->error = EISDIR;
  else if (st.st_size > MAX_FILE)
    j->error = EFBIG;
  else
    j->error =
        (j->base64 ? read_base64 : read_plain)(j, fd, (size_t)st.st_size);
  (void)close(fd);
}

/* -- On the loop ----------------------------------------------------------- */

static void done(void *ud) {
  struct job *j = ud;
  j->work = NULL;
  if (j->orphaned) {
    job_free(j);
    return;
  }
  if (j->task) (void)np_task_wake(j->task, j->token, NP_OK);
  j->task = NULL;
}

static void undo(struct np_task *t) {
  struct job *j = t->wait_ud;
  j->task = NULL;
  if (np_work_cancel(j->work)) j->work = NULL;
}

static const struct np_wait_ops wait_file = {.what = "file", .undo = undo};

static int push_data(lua_State *L, struct np_task *t, int status) {
  struct job_ref *ref = lua_touserdata(L, 1);
  struct job *j = ref->job;
  (void)t;
  if (status != NP_OK) return np_fail_wait(L, status, "file");
  if (j->error != 0) {
    lua_pushnil(L);
    lua_pushinteger(L, j->error);
    return 2;
  }
  lua_pushlstring(L, j->data.len ? j->data.data : "", j->data.len);
  np_buf_fini(&j->data);
  return 1;
}

/* job:read() -> data | nil, errno. Waits. */
static int l_read(lua_State *L) {
  struct job_ref *ref = luaL_checkudata(L, 1, class_name);
  struct job *j = ref->job;
  struct np_task *t = np_wait_begin(L);
  if (!j || j->work || j->task) return luaL_error(L, "a job is read once");
  j->work = np_work_submit(np_bind_rt(L)->loop, run, done, j);
  if (!j->work) return luaL_error(L, "not enough memory");
  j->task = t;
  j->token = np_task_park(t, &wait_file, j, NP_FOREVER);
  return np_wait_end(L, t, NP_PARKED, push_data);
}

static int job_gc(lua_State *L) {
  struct job_ref *ref = lua_touserdata(L, 1);
  struct job *j = ref->job;
  ref->job = NULL;
  if (!j) return 0;
  if (j->work)
    j->orphaned = true;
  else
    job_free(j);
  return 0;
}

/* core.file_job(path, base64): reading the whole file, not begun. */
static int l_file_job(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct job_ref *ref = np_bind_new(L, class_name, sizeof *ref);
  ref->job = calloc(1, sizeof *ref->job);
  if (ref->job) ref->job->path = strdup(path);
  if (!ref->job || !ref->job->path) return luaL_error(L, "not enough memory");
  ref->job->base64 = lua_toboolean(L, 2);
  return 1;
}

/* core.file_lock(fd) -> nothing | errno; EAGAIN: somebody else has the lock */
static int l_file_lock(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return 0;
  lua_pushinteger(L, errno == EWOULDBLOCK ? EAGAIN : errno);
  return 1;
}

/* -- Base64 of strings ------------------------------------------------------
 */

/* core.base64_encode(data, url) -> text */
static int l_encode(lua_State *L) {
  size_t len;
  const char *data = luaL_checklstring(L, 1, &len);
  if (len > MAX_FILE) return luaL_argerror(L, 1, "more than 1 GB");
  char *out = lua_newuserdata(L, np_base64_room(len));
  len = np_base64_encode(out, data, len, lua_toboolean(L, 2));
  lua_pushlstring(L, out, len);
  return 1;
}

/* core.base64_decode(text, url) -> data | nil, position from 1 */
static int l_decode(lua_State *L) {
  size_t len, out_len;
  const char *text = luaL_checklstring(L, 1, &len);
  char *out = lua_newuserdata(L, len / 4 * 3 + 2);
  if (np_base64_decode(out, &out_len, text, len, lua_toboolean(L, 2))) {
    lua_pushlstring(L, out, out_len);
    return 1;
  }
  lua_pushnil(L);
  lua_pushnumber(L, (lua_Number)(out_len + 1));
  return 2;
}

static const luaL_Reg functions[] = {{"file_job", l_file_job},
                                     {"file_lock", l_file_lock},
                                     {"base64_encode", l_encode},
                                     {"base64_decode", l_decode},
                                     {NULL, NULL}};
static const luaL_Reg waits[] = {{"read", l_read}, {NULL, NULL}};

void np_open_work(lua_State *L, struct np_rt *rt) {
  np_bind_class(L, rt, class_name, NULL, waits, job_gc);
  np_bind_funcs(L, rt, functions);
}
