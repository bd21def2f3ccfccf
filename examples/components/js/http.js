// An HTTP handler for wasi:http, written as a service worker. All languages' handlers answer alike.
addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

const TEXT = { 'content-type': 'text/plain; charset=utf-8' };

async function answer(request) {
  const url = new URL(request.url);
  switch (`${request.method} ${url.pathname}`) {
    case 'GET /hello':
      return new Response(`Hello, ${url.searchParams.get('name') || 'world'}!`, { headers: TEXT });
    case 'POST /echo': {
      // Passed on as it comes.
      const type = request.headers.get('content-type') ?? 'application/octet-stream';
      return new Response(request.body, { headers: { 'content-type': type } });
    }
    case 'POST /count-words': {
      const text = await request.text();
      const words = text.split(/[ \t\n\v\f\r]+/).filter((word) => word !== '');
      return new Response(`{"words":${words.length}}`, { headers: { 'content-type': 'application/json' } });
    }
    default:
      return new Response(`nothing at ${url.pathname}`, { status: 404, headers: TEXT });
  }
}
