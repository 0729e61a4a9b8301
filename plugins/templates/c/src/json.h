// A reader and a writer of JSON for plugins: strict, UTF-8 only. Memory comes from malloc and is never freed, because
// the instance ends with the event.
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Bytes of UTF-8 without a final zero, because a JSON text may contain one.
typedef struct {
  const char *at;
  size_t length;
} text;

text text_of(const char *zero_ended);
bool text_is(text left, const char *right);

// The position of a reader. After `failed` every function returns false, so one check at the end is enough.
typedef struct {
  const char *at;
  const char *end;
  bool failed;
  bool started;
} reader;

// A reader at the beginning of a document. Fails when the document is not UTF-8.
reader json_read(const uint8_t *bytes, size_t length);
// Enters the object that comes next.
void json_object(reader *in);
// The next key of that object, or false at its end. Its value must be read or skipped before the next call.
bool json_key(reader *in, text *key);
// Reads a string. Any other value gives false and fails the reader.
bool json_text(reader *in, text *value);
bool json_number(reader *in, double *value);
// Moves past a null and gives true. Any other value gives false and does not fail the reader.
bool json_null(reader *in);
// Moves past any value.
void json_skip(reader *in);
// True when nothing failed and nothing follows.
bool json_done(reader *in);

// A text that grows.
typedef struct {
  char *at;
  size_t length;
  size_t room;
} writer;

void put(writer *out, text value);
// Adds quotes and escapes.
void put_string(writer *out, text value);

#endif
