import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { digestOf } from '@sepia/base/digest';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { clientOf, readAll, REPOSITORY as repository, soon } from './client-fixture.ts';

const BYTES = seededBytes(300_000, 'interim');
const INTERIM = [
  'HTTP/1.1 100 Continue\r\n\r\n',
  'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n',
  'HTTP/1.1 101 Other\r\n\r\n',
];

t.test('answers that are not final are skipped, also through an HTTP proxy', async (t) => {
  const body = BYTES;
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (request) => {
      if (request.toString('latin1').startsWith('CONNECT '))
        return void socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      for (const interim of INTERIM) socket.write(interim);
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`);
      socket.write(body);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const digest = digestOf(body);
  for (const proxy of [undefined, url]) {
    const client = clientOf(t, url, proxy === undefined ? {} : { upstream: { proxy } });
    for (let round = 0; round < 3; round++) {
      const found = await client.getBlob({ repository, digest }, soon());
      t.ok((await readAll(found.body)).equals(body), `round ${round}`);
    }
  }
});
