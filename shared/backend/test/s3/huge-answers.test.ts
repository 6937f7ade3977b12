import { createServer } from 'node:http';
import { digestOf } from '@sepia/base/digest';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { soon } from '../contract.ts';
import { s3At } from '../s3-at.ts';

const DIGEST = digestOf(Buffer.from('anything'));
const CHUNK = Buffer.alloc(64 * 1024, 'x');
const SENT_BYTES = 64 * 1024 * 1024;

t.test('a store or a proxy before it that answers without end is not read to its end', async (t) => {
  let status = 500;
  let [sentBytes, ended] = [0, 0];
  const server = createServer((_, res) => {
    res.writeHead(status, { 'content-type': 'text/html' });
    res.write('<?xml version="1.0"?><html>');
    const more = (): void => {
      while (sentBytes < SENT_BYTES && !res.destroyed) {
        sentBytes += CHUNK.length;
        if (!res.write(CHUNK)) return;
      }
      res.end();
    };
    res.on('drain', more).on('close', () => (ended += 1));
    more();
  });
  const backend = await s3At(t, server);
  const down = {
    code: 'BACKEND_DOWN',
    message: /S3 store 127\.0\.0\.1:\d+ is larger than \d+ bytes/,
  } as const;
  await t.rejects(
    backend.getBlob({ repository: 'team/app' as never, digest: DIGEST }, soon()),
    down,
    'an error page',
  );
  status = 200;
  await t.rejects(
    async () => {
      for await (const entry of backend.listBlobs(undefined, soon())) t.fail(`${entry.digest} was listed`);
    },
    down,
    'a listing',
  );
  await until(() => ended === 2, 'both connections are ended');
  t.ok(sentBytes < SENT_BYTES, `${sentBytes} bytes were sent`);
});
