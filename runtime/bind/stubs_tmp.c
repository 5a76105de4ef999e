#include "bind/bind.h"
#define W __attribute__((weak))
#define S(n) W void np_open_##n(lua_State *L, struct np_rt *rt) { (void)L; (void)rt; }
S(semaphore) S(limiter) S(queue) S(event) S(http) S(server) S(work) S(json) S(uv) S(versions)
W void np_close_uv(lua_State *L, struct np_rt *rt) { (void)L; (void)rt; }
struct np_http;
W void np_http_free(struct np_http *h) { (void)h; }
