// An HTTP handler for wasi:http. All languages' handlers answer alike. wit-bindgen makes proxy.h.
#include "proxy.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What blocking_write_and_flush takes at once.
enum { CHUNK = 4096 };

static const char TEXT[] = "text/plain; charset=utf-8";

typedef wasi_http_types_own_incoming_request_t own_request;
typedef wasi_http_types_own_response_outparam_t own_out;

// What cannot be helped ends in a trap, and the server answers.
static void check(bool right) {
  if (!right) {
    abort();
  }
}

// A response that is being written, from here on.
typedef struct {
  wasi_http_types_own_outgoing_body_t body;
  wasi_io_streams_own_output_stream_t stream;
} response;

static response respond(own_out out, uint16_t status, const uint8_t *type, size_t type_length) {
  wasi_http_types_tuple2_field_name_field_value_t header = {
      .f0 = {(uint8_t *)"content-type", strlen("content-type")},
      .f1 = {(uint8_t *)type, type_length},
  };
  wasi_http_types_list_tuple2_field_name_field_value_t headers = {&header, 1};
  wasi_http_types_own_fields_t fields;
  wasi_http_types_header_error_t error;
  check(wasi_http_types_static_fields_from_list(&headers, &fields, &error));
  wasi_http_types_own_outgoing_response_t outgoing = wasi_http_types_constructor_outgoing_response(fields);
  wasi_http_types_borrow_outgoing_response_t borrowed = wasi_http_types_borrow_outgoing_response(outgoing);
  check(wasi_http_types_method_outgoing_response_set_status_code(borrowed, status));
  response made;
  check(wasi_http_types_method_outgoing_response_body(borrowed, &made.body));
  wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = outgoing};
  wasi_http_types_static_response_outparam_set(out, &result);
  check(wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(made.body), &made.stream));
  return made;
}

static void write_bytes(response *to, const void *bytes, size_t length) {
  const uint8_t *at = bytes;
  while (length != 0) {
    size_t now = length < CHUNK ? length : CHUNK;
    proxy_list_u8_t list = {(uint8_t *)at, now};
    wasi_io_streams_stream_error_t error;
    check(wasi_io_streams_method_output_stream_blocking_write_and_flush(
        wasi_io_streams_borrow_output_stream(to->stream), &list, &error));
    at += now;
    length -= now;
  }
}

static void finish(response *to) {
  wasi_io_streams_output_stream_drop_own(to->stream);
  wasi_http_types_error_code_t error;
  check(wasi_http_types_static_outgoing_body_finish(to->body, NULL, &error));
}

static void respond_text(own_out out, uint16_t status, const char *type, const char *text) {
  response to = respond(out, status, (const uint8_t *)type, strlen(type));
  write_bytes(&to, text, strlen(text));
  finish(&to);
}

static wasi_io_streams_own_input_stream_t body_of(wasi_http_types_borrow_incoming_request_t request,
                                                  wasi_http_types_own_incoming_body_t *body) {
  wasi_io_streams_own_input_stream_t stream;
  check(wasi_http_types_method_incoming_request_consume(request, body));
  check(wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(*body), &stream));
  return stream;
}

// Some bytes of a body, for proxy_list_u8_free; false at its end.
static bool read_bytes(wasi_io_streams_own_input_stream_t stream, proxy_list_u8_t *bytes) {
  wasi_io_streams_stream_error_t error;
  if (wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(stream), CHUNK, bytes,
                                                        &error)) {
    return true;
  }
  check(error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED);
  return false;
}

static void close_body(wasi_io_streams_own_input_stream_t stream, wasi_http_types_own_incoming_body_t body) {
  wasi_io_streams_input_stream_drop_own(stream);
  wasi_http_types_incoming_body_drop_own(body);
}

// Passed on as it comes.
static void echo(wasi_http_types_borrow_incoming_request_t request, own_out out) {
  wasi_http_types_own_fields_t headers = wasi_http_types_method_incoming_request_headers(request);
  proxy_string_t name = {(uint8_t *)"content-type", strlen("content-type")};
  wasi_http_types_list_field_value_t types;
  wasi_http_types_method_fields_get(wasi_http_types_borrow_fields(headers), &name, &types);
  static const char fallback[] = "application/octet-stream";
  response to = types.len != 0 ? respond(out, 200, types.ptr[0].ptr, types.ptr[0].len)
                               : respond(out, 200, (const uint8_t *)fallback, strlen(fallback));
  wasi_http_types_list_field_value_free(&types);
  wasi_http_types_fields_drop_own(headers);

  wasi_http_types_own_incoming_body_t body;
  wasi_io_streams_own_input_stream_t stream = body_of(request, &body);
  for (proxy_list_u8_t bytes; read_bytes(stream, &bytes); proxy_list_u8_free(&bytes)) {
    write_bytes(&to, bytes.ptr, bytes.len);
  }
  close_body(stream, body);
  finish(&to);
}

static void count_words(wasi_http_types_borrow_incoming_request_t request, own_out out) {
  wasi_http_types_own_incoming_body_t body;
  wasi_io_streams_own_input_stream_t stream = body_of(request, &body);
  size_t words = 0;
  bool within = false;
  for (proxy_list_u8_t bytes; read_bytes(stream, &bytes); proxy_list_u8_free(&bytes)) {
    for (size_t i = 0; i < bytes.len; i++) {
      bool letter = !isspace(bytes.ptr[i]);
      words += letter && !within;
      within = letter;
    }
  }
  close_body(stream, body);
  char text[64];
  snprintf(text, sizeof text, "{\"words\":%zu}", words);
  respond_text(out, 200, "application/json", text);
}

static int hex(char digit) {
  return isdigit((unsigned char)digit) ? digit - '0' : tolower((unsigned char)digit) - 'a' + 10;
}

// Takes percent signs and plus signs away, in place.
static void decode(char *text) {
  char *to = text;
  for (; *text != '\0'; text++) {
    if (*text == '%' && isxdigit((unsigned char)text[1]) && isxdigit((unsigned char)text[2])) {
      *to++ = (char)(hex(text[1]) * 16 + hex(text[2]));
      text += 2;
    } else {
      *to++ = *text == '+' ? ' ' : *text;
    }
  }
  *to = '\0';
}

// The parameter "name" of a query that is taken apart, or "world".
static const char *name_in(char *query) {
  for (char *pair = strtok(query, "&"); pair != NULL; pair = strtok(NULL, "&")) {
    if (strncmp(pair, "name=", 5) == 0 && pair[5] != '\0') {
      decode(pair + 5);
      return pair + 5;
    }
  }
  return "world";
}

void exports_wasi_http_incoming_handler_handle(own_request owned, own_out out) {
  wasi_http_types_borrow_incoming_request_t request = wasi_http_types_borrow_incoming_request(owned);
  wasi_http_types_method_t method;
  wasi_http_types_method_incoming_request_method(request, &method);
  bool get = method.tag == WASI_HTTP_TYPES_METHOD_GET;
  bool post = method.tag == WASI_HTTP_TYPES_METHOD_POST;
  wasi_http_types_method_free(&method);

  char *path = NULL;
  proxy_string_t target;
  if (wasi_http_types_method_incoming_request_path_with_query(request, &target)) {
    path = strndup((const char *)target.ptr, target.len);
    proxy_string_free(&target);
  } else {
    path = strdup("/");
  }
  check(path != NULL);
  char *query = strchr(path, '?');
  if (query != NULL) {
    *query++ = '\0';
  }

  if (get && strcmp(path, "/hello") == 0) {
    const char *name = query == NULL ? "world" : name_in(query);
    response to = respond(out, 200, (const uint8_t *)TEXT, strlen(TEXT));
    write_bytes(&to, "Hello, ", 7);
    write_bytes(&to, name, strlen(name));
    write_bytes(&to, "!", 1);
    finish(&to);
  } else if (post && strcmp(path, "/echo") == 0) {
    echo(request, out);
  } else if (post && strcmp(path, "/count-words") == 0) {
    count_words(request, out);
  } else {
    response to = respond(out, 404, (const uint8_t *)TEXT, strlen(TEXT));
    write_bytes(&to, "nothing at ", 11);
    write_bytes(&to, path, strlen(path));
    finish(&to);
  }
  free(path);
  wasi_http_types_incoming_request_drop_own(owned);
}
