// What examples/components/rust/http answers to the requests that are measured, for node and workerd.

const TYPE = "text/plain; charset=utf-8";

export function answer(method, target) {
  const at = target.indexOf("?");
  const path = at < 0 ? target : target.slice(0, at);
  if (method !== "GET" || path !== "/hello") {
    return { status: 404, type: TYPE, body: `nothing at ${path}` };
  }
  const names = new URLSearchParams(at < 0 ? "" : target.slice(at)).getAll("name");
  return { status: 200, type: TYPE, body: `Hello, ${names.find((name) => name !== "") ?? "world"}!` };
}
