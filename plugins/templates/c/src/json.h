// A reader and a writer of JSON, as much as a plugin needs: strict, UTF-8 only, memory from malloc and never given back,
// because the instance ends with the event.
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Bytes of UTF-8, not ended by a zero: a JSON text may hold one.
typedef struct {
  const char *at;
  size_t length;
} text;

text text_of(const char *zero_ended);
bool text_is(text left, const char *right);

// Where a reader is. After `failed` every call says no, so one look at the end is enough.
typedef struct {
  const char *at;
  const char *end;
  bool failed;
  bool started;
} reader;

// At the beginning of a document. Fails when it is not UTF-8.
reader json_read(const uint8_t *bytes, size_t length);
// Goes into the object that stands here.
void json_object(reader *in);
// The next key of that object, or false at its end. Its value must be read or skipped before the next call.
bool json_key(reader *in, text *key);
// The value that stands here; false, and failed, when it is something else.
bool json_text(reader *in, text *value);
bool json_number(reader *in, double *value);
// True, and past it, when a null stands here; not failed when something else does.
bool json_null(reader *in);
// Past any value.
void json_skip(reader *in);
// Whether all was well and nothing follows.
bool json_done(reader *in);

// A growing text.
typedef struct {
  char *at;
  size_t length;
  size_t room;
} writer;

void put(writer *out, text value);
// With quotes and escapes.
void put_string(writer *out, text value);

#endif
