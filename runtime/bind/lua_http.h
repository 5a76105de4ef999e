/* SPDX-License-Identifier: MIT
 * Shared by the files that bind the http client: reading a request from the
 * Lua stack, pushing a response or an error. */
#ifndef NP_LUA_HTTP_H
#define NP_LUA_HTTP_H

#include "bind/bind.h"
#include "net/http.h"

struct np_lua_client {
  struct np_http_client *client; /* owned; NULL before it is made */
};

/* A streaming call. Its environment keeps the client and the strings that the
 * request borrows. */
struct np_lua_call {
  struct np_http_call *call; /* owned; NULL once closed */
  struct np_http_request request;
  struct np_http_timings timings; /* as they were when it was closed */
};

/* The client at index 1; raises when it is something else. */
struct np_http_client *np_lua_check_client(lua_State *L);
/* Fills c from the options table at index 1; its strings live as long as the
 * table. Raises on misuse. */
void np_lua_read_config(lua_State *L, struct np_http_config *c);
/* Fills r from method, url, headers, body and spec at indices 2 to 6. Raises on
 * misuse. */
void np_lua_read_request(lua_State *L, struct np_http_client *c,
                         struct np_http_request *r);
/* A new call with the header lines at index 4; NULL when they are not usable:
 * then nil and the error are pushed. Raises on misuse. */
struct np_http_call *np_lua_new_call(lua_State *L, struct np_http_client *c);
/* Pushes the response table, with the body unless stream is there. stream: 0,
 * or the index of the call's userdata. */
void np_lua_push_response(lua_State *L, const struct np_http_call *call,
                          int stream);
/* Pushes nil and the call's error, or one of this code where it has none. */
int np_lua_push_failure(lua_State *L, const struct np_http_call *call,
                        int code);

/* lua_http_call.c: registers the class and adds `open` to the methods of the
 * client class. */
void np_open_http_call(lua_State *L, struct np_rt *rt, const char *client);
/* lua_http_response.c */
void np_open_http_response(lua_State *L, struct np_rt *rt);
/* lua_url.c */
void np_open_url(lua_State *L, struct np_rt *rt);

#endif
