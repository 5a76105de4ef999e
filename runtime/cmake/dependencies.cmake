# SPDX-License-Identifier: MIT
# Finds the libraries that neap stands on, and defines
#   neap_headers              their include directories
#   neap_dependencies         their libraries for a program, in link order
#   neap_shared_dependencies  the same for a shared library
#   NEAP_INSTALLED_LIBS       plain names, for users of an installed libneap.a
#   NEAP_HIDDEN_ARCHIVES      link options that keep archives' symbols private
# With NEAP_STATIC_DEPS a program takes the archives: it is then one file that
# needs only libc, libcurl and what Debian's libcurl brings along.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(CURL 7.81 REQUIRED)
pkg_check_modules(LUAJIT REQUIRED luajit)
pkg_check_modules(UV REQUIRED libuv>=1.42)
pkg_check_modules(MHD REQUIRED libmicrohttpd)
# luv tells its version only here.
pkg_search_module(LUV lua5.1-luv luv libluv)
if(NOT LUV_VERSION)
  set(LUV_VERSION unknown)
endif()
find_path(NEAP_LUV_HEADERS NAMES luv.h PATH_SUFFIXES lua5.1/luv luv REQUIRED)

# neap_find(NAME archive shared...) sets NEAP_<NAME>_SHARED, and NEAP_<NAME> to
# the archive where it is wanted and there.
macro(neap_find name archive)
  find_library(NEAP_${name}_SHARED NAMES ${ARGN} REQUIRED)
  find_library(NEAP_${name}_ARCHIVE NAMES ${archive})
  set(NEAP_${name} ${NEAP_${name}_SHARED})
  if(NEAP_STATIC_DEPS AND NEAP_${name}_ARCHIVE)
    set(NEAP_${name} ${NEAP_${name}_ARCHIVE})
  endif()
  message(STATUS "neap takes ${NEAP_${name}}")
endmacro()

neap_find(LUV liblua5.1-luv.a lua5.1-luv luv)
neap_find(CJSON liblua5.1-cjson.a lua5.1-cjson)
neap_find(UV libuv_a.a uv)
neap_find(LUAJIT libluajit-5.1.a luajit-5.1)
neap_find(MHD libmicrohttpd.a microhttpd)

add_library(neap_headers INTERFACE)
target_include_directories(neap_headers SYSTEM INTERFACE
  ${LUAJIT_INCLUDE_DIRS} ${UV_INCLUDE_DIRS} ${MHD_INCLUDE_DIRS}
  ${CURL_INCLUDE_DIRS} ${NEAP_LUV_HEADERS})

set(system_libs Threads::Threads m ${CMAKE_DL_LIBS} rt)

# The archive of libmicrohttpd wants GnuTLS, which Debian's libcurl brings along
# (by its RTMP library); without the development files the shared one must do.
find_library(NEAP_GNUTLS NAMES gnutls)
if(NEAP_MHD MATCHES "\\.a$")
  if(NEAP_GNUTLS)
    list(PREPEND system_libs ${NEAP_GNUTLS})
  else()
    set(NEAP_MHD ${NEAP_MHD_SHARED})
  endif()
endif()

# The whole of LuaJIT: modules loaded at run time may call any lua_*.
set(luajit ${NEAP_LUAJIT})
if(NEAP_LUAJIT MATCHES "\\.a$")
  set(luajit -Wl,--whole-archive ${NEAP_LUAJIT} -Wl,--no-whole-archive)
endif()
add_library(neap_dependencies INTERFACE)
target_link_libraries(neap_dependencies INTERFACE ${NEAP_LUV} ${NEAP_CJSON}
  ${NEAP_MHD} CURL::libcurl ${NEAP_UV} ${luajit} ${system_libs})

# Debian builds these archives for programs only (-fPIE, not -fPIC): a shared
# library links the shared ones.
add_library(neap_shared_dependencies INTERFACE)
target_link_libraries(neap_shared_dependencies INTERFACE ${NEAP_LUV_SHARED}
  ${NEAP_CJSON_SHARED} ${NEAP_MHD_SHARED} CURL::libcurl ${NEAP_UV_SHARED}
  ${NEAP_LUAJIT_SHARED} ${system_libs})

set(NEAP_INSTALLED_LIBS lua5.1-luv lua5.1-cjson microhttpd curl uv luajit-5.1
  pthread m dl rt)

set(NEAP_HIDDEN_ARCHIVES)
foreach(library ${NEAP_LUV} ${NEAP_CJSON} ${NEAP_MHD} ${NEAP_UV})
  if(library MATCHES "\\.a$")
    get_filename_component(name ${library} NAME)
    list(APPEND NEAP_HIDDEN_ARCHIVES -Wl,--exclude-libs,${name})
  endif()
endforeach()
