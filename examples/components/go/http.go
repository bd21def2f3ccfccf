// Package export_wasi_http_incoming_handler is an HTTP handler for wasi:http. All languages' handlers
// answer alike. wit-bindgen makes the rest of the module, and wants this name.
package export_wasi_http_incoming_handler

import (
	"bytes"
	"fmt"
	"iter"
	"net/url"
	"strings"

	"wit_component/wasi_http_types"
	"wit_component/wasi_io_streams"

	. "go.bytecodealliance.org/pkg/wit/types"
)

const (
	text = "text/plain; charset=utf-8"
	// What BlockingWriteAndFlush takes at once.
	chunk = 4096
)

func Handle(request *wasi_http_types.IncomingRequest, out *wasi_http_types.ResponseOutparam) {
	path, query, _ := strings.Cut(request.PathWithQuery().SomeOr("/"), "?")
	method := request.Method().Tag()
	get, post := method == wasi_http_types.Method_Get, method == wasi_http_types.Method_Post
	switch {
	case get && path == "/hello":
		values, _ := url.ParseQuery(query)
		name := values.Get("name")
		if name == "" {
			name = "world"
		}
		respondText(out, 200, text, "Hello, "+name+"!")
	case post && path == "/echo":
		headers := request.Headers()
		contentType := []byte("application/octet-stream")
		if types := headers.Get("content-type"); len(types) != 0 {
			contentType = bytes.Clone(types[0])
		}
		headers.Drop()
		// Passed on as it comes.
		respond(out, 200, string(contentType), chunks(request))
	case post && path == "/count-words":
		words, within := 0, false
		for part := range chunks(request) {
			for _, letter := range part {
				isLetter := !bytes.ContainsRune([]byte(" \t\n\v\f\r"), rune(letter))
				if isLetter && !within {
					words++
				}
				within = isLetter
			}
		}
		respondText(out, 200, "application/json", fmt.Sprintf(`{"words":%d}`, words))
	default:
		respondText(out, 404, text, "nothing at "+path)
	}
	request.Drop()
}

// A request's body, as it comes.
func chunks(request *wasi_http_types.IncomingRequest) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		body := request.Consume().Ok()
		defer body.Drop()
		stream := body.Stream().Ok()
		defer stream.Drop()
		for {
			read := stream.BlockingRead(chunk)
			if read.IsErr() {
				if read.Err().Tag() != wasi_io_streams.StreamError_Closed {
					panic("cannot read the request")
				}
				return
			}
			if !yield(read.Ok()) {
				return
			}
		}
	}
}

func respondText(out *wasi_http_types.ResponseOutparam, status uint16, contentType, body string) {
	respond(out, status, contentType, func(yield func([]byte) bool) { yield([]byte(body)) })
}

func respond(out *wasi_http_types.ResponseOutparam, status uint16, contentType string, parts iter.Seq[[]byte]) {
	headers := []Tuple2[string, []uint8]{{F0: "content-type", F1: []byte(contentType)}}
	response := wasi_http_types.MakeOutgoingResponse(wasi_http_types.FieldsFromList(headers).Ok())
	response.SetStatusCode(status).Ok()
	body := response.Body().Ok()
	wasi_http_types.ResponseOutparamSet(
		out, Ok[*wasi_http_types.OutgoingResponse, wasi_http_types.ErrorCode](response))
	stream := body.Write().Ok()
	for part := range parts {
		for len(part) != 0 {
			now := part[:min(len(part), chunk)]
			stream.BlockingWriteAndFlush(now).Ok()
			part = part[len(now):]
		}
	}
	stream.Drop()
	wasi_http_types.OutgoingBodyFinish(body, None[*wasi_http_types.Fields]()).Ok()
}
