// node handlers/node.mjs PORT
import { createServer } from "node:http";
import { answer } from "./hello.mjs";

createServer((request, response) => {
  const { status, type, body } = answer(request.method, request.url);
  response.writeHead(status, { "content-type": type });
  response.end(body);
}).listen(Number(process.argv[2]), "127.0.0.1");
