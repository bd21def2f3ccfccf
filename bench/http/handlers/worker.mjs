// For workerd (workerd.capnp).
import { answer } from "./hello.mjs";

export default {
  fetch(request) {
    // The URL without its scheme and host, as node has it.
    const target = request.url.slice(request.url.indexOf("/", "http://".length));
    const { status, type, body } = answer(request.method, target);
    return new Response(body, { status, headers: { "content-type": type } });
  },
};
