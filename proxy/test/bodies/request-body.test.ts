import { createServer, type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { RequestBody } from '../../src/bodies/request-body.ts';

/** A request of ten bytes, as the server has it, and its client. */
async function sending(t: Test) {
  let taken: (req: IncomingMessage) => void = () => {};
  const came = new Promise<IncomingMessage>((resolve) => {
    taken = resolve;
  });
  const server = createServer((req) => taken(req));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  const client = request({ port, method: 'PUT', headers: { 'content-length': '10' } });
  client.on('error', () => undefined);
  client.write('hello');
  return { body: new RequestBody(await came), client };
}

t.test('a small body is gathered', async (t) => {
  const { body, client } = await sending(t);
  const whole = body.gathered(60_000);
  client.end('world');
  t.equal((await whole)?.toString(), 'helloworld');
  t.ok(body.isComplete);
  t.ok(body.takenChunks > 0, 'its watch sees that it was taken');
});

t.test('a small body is gathered in however many chunks it comes', async (t) => {
  const { body, client } = await sending(t);
  const whole = body.gathered(60_000);
  for (const [at, char] of [...'world'].entries()) {
    await until(() => body.receivedBytes === 5 + at, 'what was sent is here');
    client.write(char);
  }
  client.end();
  t.equal((await whole)?.toString(), 'helloworld');
});

/** What is left to read of it. */
async function rest(body: RequestBody): Promise<string> {
  let read = '';
  for await (const chunk of body) read += String(chunk);
  return read;
}

t.test('a small body that is slow is read as it comes', async (t) => {
  const { body, client } = await sending(t);
  t.equal(await body.gathered(1), undefined);
  client.end('world');
  t.equal(await rest(body), 'helloworld');
  const cut = await sending(t);
  t.equal(await cut.body.gathered(1), undefined);
  cut.client.destroy();
  await t.rejects(rest(cut.body), { code: 'UPLOAD_INVALID' });
});

t.test('a small body that its client cuts while it is gathered is none', async (t) => {
  const { body, client } = await sending(t);
  const whole = body.gathered(60_000);
  client.destroy();
  t.equal(await whole, undefined);
  await until(() => body.errored !== null, 'it has failed');
  t.match(body.errored, { code: 'UPLOAD_INVALID' });
});
