import { once } from 'node:events';
import { createServer } from 'node:http';
import { createDispatcher } from '@sepia/http/sockets';
import t from 'tap';
import { S3Keys } from '../../src/s3/core/s3-keys.ts';
import { S3Backend } from '../../src/s3/s3-backend.ts';
import { S3Store } from '../../src/s3/s3-store.ts';
import { soon } from '../contract.ts';

const HEX = 'ab'.repeat(32);
const LISTING = `<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated>
<NextContinuationToken>same</NextContinuationToken>
<Contents><Key>blobs/sha256/ab/${HEX}</Key><Size>7</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>
</ListBucketResult>`;
const UPLOADS = `<?xml version="1.0"?><ListMultipartUploadsResult><IsTruncated>true</IsTruncated>
<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker></ListMultipartUploadsResult>`;

t.test('a store that names the same page for ever is not believed', async (t) => {
  let asked = 0;
  const server = createServer((req, res) => {
    asked += 1;
    res.writeHead(200, { 'content-type': 'application/xml' });
    res.end(req.url!.includes('uploads') ? UPLOADS : LISTING);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const endpoint = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
  const dispatcher = createDispatcher({ connections: 2 });
  const store = new S3Store(
    {
      dispatcher: () => dispatcher,
      close: async () => await dispatcher.destroy(),
      nowMs: () => performance.now(),
      credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
    },
    { bucket: 'images', region: 'us-east-1', endpoint, pathStyle: true },
    { connections: 2, headersTimeoutMs: 20_000, bodyTimeoutMs: 20_000 },
  );
  const backend = new S3Backend({ store, keys: new S3Keys('', 'sepia') }, { upstream: 'local' });
  t.teardown(async () => await backend.close());
  const lies = { code: 'UPSTREAM_LIES', message: /s3:\/\/images .* same page again/ } as const;
  await t.rejects(async () => {
    for await (const { digest } of backend.listBlobs(undefined, soon()))
      t.equal(digest, `sha256:${HEX}`, 'what it lists is told');
  }, lies);
  await t.rejects(backend.tidy(0, soon()), lies);
  t.ok(asked <= 6, `${asked} questions`);
});
