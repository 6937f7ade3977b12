import { once } from 'node:events';
import type { Server } from 'node:http';
import { createDispatcher } from '@sepia/http/sockets';
import type { Test } from 'tap';
import { S3Keys } from '../src/s3/core/s3-keys.ts';
import { S3Backend } from '../src/s3/s3-backend.ts';
import { S3Store } from '../src/s3/s3-store.ts';

/** Blobs in a bucket of what `server` makes of S3; both end with the test. */
export async function s3At(t: Test, server: Server): Promise<S3Backend> {
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
  return backend;
}
