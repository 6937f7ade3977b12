import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { giveBack } from '@sepia/base/chunk';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { bodyChunks } from '../../src/bodies/body-chunks.ts';
import { createDispatcher } from '../../src/sockets.ts';

const dispatcher = createDispatcher({ readsBodies: true });
t.teardown(() => dispatcher.destroy());

async function serving(t: Test, answer: (res: ServerResponse) => void): Promise<string> {
  const server = createServer((_req, res) => answer(res));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Bytes of which none equals that a chunk before or behind it has in the same place. */
function pattern(sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; at += 4) bytes.writeUInt32LE(at, at);
  return bytes;
}

t.test('bodies that are read beside each other, and given back, come byte for byte', async (t) => {
  const bytes = pattern(6 * 1024 * 1024);
  const url = await serving(t, (res) => res.end(bytes));
  const read = async (slow: boolean): Promise<boolean> => {
    const { body } = await request(url, { dispatcher });
    let at = 0;
    for await (const chunk of bodyChunks(body)) {
      if (slow) await setImmediate();
      if (Buffer.compare(chunk, bytes.subarray(at, at + chunk.length)) !== 0) return false;
      at += chunk.length;
      giveBack(chunk);
    }
    return at === bytes.length;
  };
  t.same(await Promise.all([read(true), read(false), read(true), read(false)]), [true, true, true, true]);
});

t.test('what waits meanwhile is not joined', async (t) => {
  const given = [Buffer.alloc(100_000, 1), Buffer.alloc(100_000, 2), Buffer.alloc(100_000, 3)];
  const waiting = [...given];
  const body = new Readable({
    read() {
      this.push(waiting.shift() ?? null);
    },
  });
  const found: Uint8Array[] = [];
  for await (const chunk of bodyChunks(body)) {
    await setImmediate();
    found.push(chunk);
  }
  t.equal(found.length, given.length);
  for (const [at, chunk] of found.entries()) t.equal(chunk, given[at], 'the very same memory');
});

t.test('a body that is cut throws once what came was read; one that is left is ended', async (t) => {
  const url = await serving(t, (res) => {
    res.writeHead(200, { 'content-length': 1_000_000 });
    res.write(Buffer.alloc(1_000), () => res.destroy());
  });
  const cut = await request(url, { dispatcher });
  let found = 0;
  await t.rejects(
    (async () => {
      for await (const chunk of bodyChunks(cut.body)) found += chunk.length;
    })(),
    { code: 'UND_ERR_SOCKET' },
  );
  t.ok(found === 1_000 || found === 0);
  const endless = await request(await serving(t, (res) => void res.write(Buffer.alloc(1_000))), {
    dispatcher,
  });
  endless.body.on('error', () => undefined);
  for await (const chunk of bodyChunks(endless.body)) {
    t.ok(chunk.length > 0);
    break;
  }
  t.ok(endless.body.destroyed);
});

t.test('a body that is ended while it is waited for lets go of who waits', async (t) => {
  const { body } = await request(await serving(t, (res) => void res.write(Buffer.alloc(10))), { dispatcher });
  const chunks = bodyChunks(body);
  await chunks.next();
  const waiting = chunks.next();
  void setImmediate().then(() => body.destroy());
  await t.rejects(waiting);
});

t.test('a body that ended before it was read throws why', async (t) => {
  const body = new Readable({ read: () => undefined });
  body.on('error', () => undefined);
  body.destroy(new Error('gone'));
  await t.rejects(bodyChunks(body).next(), { message: 'gone' });
});
