# SPDX-License-Identifier: MIT
# Writes OUT: a C table of the Lua modules below DIR (module names relative to
# DIR; editor stubs in _meta stay out).
# Run with cmake -DDIR=... -DOUT=... -P embed.cmake.
file(GLOB_RECURSE files RELATIVE ${DIR} ${DIR}/*.lua)
list(SORT files)
set(arrays "")
set(rows "")
set(n 0)
foreach(file ${files})
  if(file MATCHES "/_meta/")
    continue()
  endif()
  string(REGEX REPLACE "\\.lua$" "" name ${file})
  string(REPLACE "/" "." name ${name})
  string(REGEX REPLACE "\\.init$" "" name ${name})
  file(READ ${DIR}/${file} hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR len "${digits} / 2")
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(APPEND arrays "static const unsigned char m${n}[] = {${bytes}0};\n")
  string(APPEND rows
    "  {\"${name}\", \"@${file}\", (const char *)m${n}, ${len}},\n")
  math(EXPR n "${n} + 1")
endforeach()
file(WRITE ${OUT} "/* Generated from lua/. */\n#include \"bind/modules.h\"\n\n"
  "${arrays}\nconst struct np_module np_modules[] = {\n${rows}"
  "  {0, 0, 0, 0}};\n")
