import { copyFileSync, cpSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CreateMultipartUploadCommand } from '@aws-sdk/client-s3';
import { digestOf } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { createDispatcher } from '@sepia/http/sockets';
import { openUploads, s3ClientOf } from '@sepia/test-support/s3/s3-client';
import { S3Faults, type SeenRequest } from '@sepia/test-support/s3/s3-faults';
import { noS3, S3_CREDENTIALS, S3Server } from '@sepia/test-support/s3/s3-server';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { isBlob } from '../../src/blob-backend.ts';
import { S3Keys } from '../../src/s3/core/s3-keys.ts';
import { S3Backend } from '../../src/s3/s3-backend.ts';
import { S3Store } from '../../src/s3/s3-store.ts';
import { backendContract, bytesIn, bytesOf, contentOf, REPOSITORY, soon } from '../contract.ts';

const MIB = 1024 * 1024;
/** What S3 itself takes as the least. */
const PART_BYTES = 5 * MIB;
/** Where a store is made to say nothing, it is waited for so long. */
const SILENT_MS = 3_000;
const KEYS = new S3Keys('cluster one/', 'sepia');

function open(
  t: Test,
  endpoint: string,
  bucket: string,
  credentials = S3_CREDENTIALS,
  headersTimeoutMs = 20_000,
): S3Backend {
  const dispatcher = createDispatcher({ connections: 16 });
  const place = { bucket, region: 'us-east-1', endpoint, pathStyle: true };
  const store = new S3Store(
    {
      dispatcher: () => dispatcher,
      close: async () => await dispatcher.destroy(),
      nowMs: () => performance.now(),
      credentials,
    },
    place,
    { connections: 16, headersTimeoutMs, bodyTimeoutMs: 20_000 },
  );
  const backend = new S3Backend({ store, keys: KEYS }, { upstream: 'local', partBytes: PART_BYTES });
  t.teardown(async () => await backend.close());
  return backend;
}

const isPart = ({ method, path }: SeenRequest): boolean => method === 'PUT' && path.includes('partNumber=');
const partOf = ({ path }: SeenRequest): number => Number(/partNumber=(\d+)/.exec(path)?.[1]);

t.test('blobs in a bucket', { skip: noS3() }, async (t) => {
  const server = await S3Server.start();
  t.teardown(async () => await server.remove());
  let count = 0;
  const bucket = (): string => {
    const name = `bucket${++count}`;
    server.makeBucket(name);
    return name;
  };
  const through = async (
    t: Test,
    headersTimeoutMs?: number,
  ): Promise<{ faults: S3Faults; backend: S3Backend; name: string }> => {
    const faults = await S3Faults.start(server.url);
    t.teardown(async () => await faults.stop());
    const name = bucket();
    return { faults, backend: open(t, faults.url, name, S3_CREDENTIALS, headersTimeoutMs), name };
  };
  const large = contentOf(bytesOf(PART_BYTES * 3 + 1_000, 7));
  const largeBytes = bytesOf(PART_BYTES * 3 + 1_000, 7);
  const uploads = async (name: string): Promise<string[]> => await openUploads(server, name);

  await t.test('keep the contract', async (t) => {
    const names = new WeakMap<object, string>();
    const at = (t: Test, name: string): S3Backend => {
      const backend = open(t, server.url, name);
      names.set(backend, name);
      return backend;
    };
    await backendContract(t, {
      open: async (t) => at(t, bucket()),
      again: async (t, backend) => at(t, names.get(backend)!),
      largeBytes: PART_BYTES * 2 + 12_345,
    });
  });

  await t.test('a store that asks for patience or fails is asked again, part by part', async (t) => {
    const { faults, backend } = await through(t);
    let failed = 0;
    faults.fault = (seen) => {
      if (!isPart(seen) || failed >= 3) return undefined;
      failed += 1;
      return {
        type: 'answer',
        status: failed === 1 ? 503 : 500,
        code: failed === 1 ? 'SlowDown' : 'InternalError',
      };
    };
    t.equal(await backend.putBlob(large, soon()), 'written');
    t.equal(failed, 3);
    t.ok((await bytesIn(backend, large.digest)).equals(largeBytes));
    faults.fault = ({ method }) =>
      method === 'GET' ? { type: 'answer', status: 503, code: 'SlowDown' } : undefined;
    await t.rejects(backend.getBlob(large, soon()), {
      code: 'UPSTREAM_LIMITED',
      detail: { retryAfterSeconds: 1 },
    });
  });

  await t.test('parts that are there are not sent again', async (t) => {
    const { faults, backend, name } = await through(t);
    faults.fault = (seen) =>
      isPart(seen) && partOf(seen) === 3 ? { type: 'silence', after: false } : undefined;
    const enough = new AbortController();
    const begun = t.rejects(backend.putBlob(large, enough.signal), { message: 'enough' });
    const isStored = (part: number): boolean =>
      faults.seen.some((seen) => isPart(seen) && partOf(seen) === part && seen.status === 200);
    await until(() => isStored(1) && isStored(2), 'two parts are there');
    enough.abort(new Error('enough'));
    await begun;
    t.equal((await uploads(name)).length, 1, 'an upload stands there');
    faults.fault = () => undefined;
    faults.seen.length = 0;
    t.equal(await open(t, faults.url, name).putBlob(large, soon()), 'written');
    const sent = faults.seen.filter(isPart).map(partOf);
    t.ok(sent.includes(3) && !sent.includes(1) && !sent.includes(2), `parts sent: ${sent}`);
    t.ok((await bytesIn(backend, large.digest)).equals(largeBytes));
    t.same(await uploads(name), [], 'nothing half is left');
  });

  await t.test('a part that is cut in the middle is sent again', async (t) => {
    const { faults, backend } = await through(t);
    const cut = new Set<number>();
    faults.fault = (seen) => {
      if (!isPart(seen) || cut.has(partOf(seen))) return undefined;
      cut.add(partOf(seen));
      return { type: 'cut-request', afterBytes: MIB };
    };
    t.equal(await backend.putBlob(large, soon()), 'written');
    t.equal(cut.size, 4);
    t.ok((await bytesIn(backend, large.digest)).equals(largeBytes));
  });

  await t.test('an answer to the last call that is lost: the object is looked for', async (t) => {
    const { faults, backend, name } = await through(t, SILENT_MS);
    let lost = 0;
    faults.fault = ({ method, path }) =>
      method === 'POST' && path.includes('uploadId=') && lost++ === 0
        ? { type: 'silence', after: true }
        : undefined;
    const first = backend.putBlob(large, soon());
    await t.rejects(first, { code: 'BACKEND_DOWN' });
    t.equal(await backend.putBlob(large, soon()), 'there', 'it was written');
    t.ok((await bytesIn(backend, large.digest)).equals(largeBytes));
    t.same(await uploads(name), []);
  });

  await t.test('an ETag that lies is found out: a clear error, and right bytes when it ends', async (t) => {
    const { faults, backend, name } = await through(t);
    faults.fault = (seen) =>
      isPart(seen) ? { type: 'etag', etag: '"0123456789abcdef0123456789abcdef"' } : undefined;
    await t.rejects(backend.putBlob(large, soon()), {
      code: 'UPSTREAM_LIES',
      message: /acknowledged parts that it does not have/,
    });
    t.same(await uploads(name), [], 'its parts are let go');
    await t.rejects(backend.headBlob(large, soon()), { code: 'BLOB_UNKNOWN' });
    faults.fault = () => undefined;
    t.equal(await backend.putBlob(large, soon()), 'written');
    t.ok((await bytesIn(backend, large.digest)).equals(largeBytes));
  });

  await t.test('of several uploads that were left the one with the most parts is gone on with', async (t) => {
    const { faults, backend, name } = await through(t);
    faults.fault = (seen) =>
      isPart(seen) && partOf(seen) > 2 ? { type: 'answer', status: 403, code: 'AccessDenied' } : undefined;
    await t.rejects(backend.putBlob(large, soon()), { code: 'UPSTREAM_DENIED' });
    const client = s3ClientOf(server);
    t.teardown(() => client.destroy());
    const begin = { Bucket: name, Key: KEYS.keyOf(large.digest), ChecksumAlgorithm: 'SHA256' } as const;
    await client.send(new CreateMultipartUploadCommand(begin));
    t.equal((await uploads(name)).length, 2);
    faults.seen.length = 0;
    faults.fault = () => undefined;
    t.equal(await backend.putBlob(large, soon()), 'written');
    t.same(faults.seen.filter(isPart).map(partOf).sort(), [3, 4], 'parts that are there are not sent again');
    t.same(await uploads(name), [], 'the other one is ended');
  });

  await t.test('an upload begun in vain is ended when another writer brought the blob', async (t) => {
    const { faults, backend, name } = await through(t);
    let isLate = true;
    faults.fault = async (seen) => {
      if (!isPart(seen) || !isLate) return undefined;
      isLate = false;
      // The other one completes an upload of its own, and ends what it sees: this one's.
      t.equal(await open(t, server.url, name).putBlob(large, soon()), 'written');
      return undefined;
    };
    t.equal(await backend.putBlob(large, soon()), 'there');
    // One that comes to stand there behind the other's look, and whose writer fails.
    const client = s3ClientOf(server);
    t.teardown(() => client.destroy());
    const begin = { Bucket: name, Key: KEYS.keyOf(large.digest), ChecksumAlgorithm: 'SHA256' } as const;
    await client.send(new CreateMultipartUploadCommand(begin));
    t.equal((await uploads(name)).length, 1);
    t.equal(await backend.putBlob(large, soon()), 'there');
    t.same(await uploads(name), [], 'it is ended');
    await client.send(new CreateMultipartUploadCommand(begin));
    faults.fault = ({ method, path }) =>
      method === 'GET' && path.includes('uploads')
        ? { type: 'answer', status: 403, code: 'AccessDenied' }
        : undefined;
    t.equal(await backend.putBlob(large, soon()), 'there', 'a store that does not list them holds up nobody');
  });

  await t.test('parts that another writer takes away by completing the upload are no lie', async (t) => {
    const { faults, backend, name } = await through(t);
    const other = open(t, server.url, name);
    let completed: 'written' | 'there' | undefined;
    faults.fault = async ({ method, path }) => {
      if (method !== 'POST' || !path.includes('uploadId=')) return undefined;
      // It goes on with the same upload, all of whose parts are there.
      completed = await other.putBlob(large, soon());
      return { type: 'answer', status: 400, code: 'InvalidPart' };
    };
    t.equal(await backend.putBlob(large, soon()), 'there');
    t.equal(completed, 'written');
    t.equal(faults.seen.filter(({ method }) => method === 'DELETE').length, 0, 'nobody ended it');
    t.ok((await bytesIn(backend, large.digest)).equals(largeBytes));
    t.same(await uploads(name), []);
  });

  await t.test('bytes that change on their way there are refused by the store, and sent again', async (t) => {
    const { faults, backend } = await through(t);
    const flipped: string[] = [];
    faults.fault = (seen) => {
      if (seen.method !== 'PUT' || flipped.includes(seen.path)) return undefined;
      flipped.push(seen.path);
      return { type: 'flip-request', at: 4_000 };
    };
    t.equal(await backend.putBlob(large, soon()), 'written');
    t.equal(flipped.length, 4, 'each part once');
    t.ok((await bytesIn(backend, large.digest)).equals(largeBytes));
    const small = contentOf(bytesOf(40_000, 8));
    await t.rejects(backend.putBlob(small, soon()), { code: 'BACKEND_DOWN' });
    await t.rejects(backend.headBlob(small, soon()), { code: 'BLOB_UNKNOWN' });
    t.equal(await backend.putBlob(small, soon()), 'written');
    faults.fault = () => ({ type: 'flip-answer', at: 4_000 });
    t.notOk(
      (await bytesIn(backend, small.digest)).equals(bytesOf(40_000, 8)),
      'a reader checks the digest itself',
    );
  });

  await t.test('an object with other bytes of the same size is found by its checksum', async (t) => {
    const name = bucket();
    const backend = open(t, server.url, name);
    for (const content of [contentOf(bytesOf(40_000, 9)), large]) {
      const key = KEYS.keyOf(content.digest);
      const other = bytesOf(content.sizeBytes, 10);
      await backend.putBlob(contentOf(other), soon());
      const from = join(server.files, name, KEYS.keyOf(digestOf(other)));
      await backend.putBlob(content, soon());
      copyFileSync(from, join(server.files, name, key));
      const meta = join(server.files, '../meta', name);
      cpSync(join(meta, KEYS.keyOf(digestOf(other))), join(meta, key), { recursive: true });
      t.equal(await backend.putBlob(content, soon()), 'written', 'it is written over');
      t.equal(await backend.putBlob(content, soon()), 'there');
      // Rotten under the checksum of before: who read it says so.
      const bytes = readFileSync(join(server.files, name, key));
      bytes[1_000]! ^= 1;
      writeFileSync(join(server.files, name, key), bytes);
      t.notOk(await isBlob(backend, content, soon()));
      t.equal(await backend.putBlob(content, soon(), true), 'written');
      t.ok(await isBlob(backend, content, soon()));
      t.equal(digestOf(await bytesIn(backend, content.digest)), content.digest);
    }
  });

  await t.test(
    'rot is not taken for the blob where somebody else ends the upload that mends it',
    async (t) => {
      const { faults, backend, name } = await through(t);
      await backend.putBlob(large, soon());
      const path = join(server.files, name, KEYS.keyOf(large.digest));
      const bytes = readFileSync(path);
      bytes[1_000]! ^= 1;
      writeFileSync(path, bytes);
      faults.fault = ({ method, path: asked }) =>
        method === 'POST' && asked.includes('uploadId=')
          ? { type: 'answer', status: 404, code: 'NoSuchUpload' }
          : undefined;
      await t.rejects(backend.putBlob(large, soon(), true), { code: 'BACKEND_DOWN' });
      faults.fault = () => undefined;
      t.equal(await backend.putBlob(large, soon(), true), 'written');
      t.ok(await isBlob(backend, large, soon()));
    },
  );

  await t.test('a body that is cut, or silent, is told; the rest may be asked for', async (t) => {
    const { faults, backend } = await through(t, SILENT_MS);
    await backend.putBlob(large, soon());
    const read = async (): Promise<number> => {
      let found = 0;
      const { body } = await backend.getBlob(large, soon());
      try {
        for await (const chunk of body.lent()) found += chunk.length;
      } catch (error) {
        if (!isCoded(error, 'BACKEND_DOWN')) throw error;
        return found;
      }
      return found;
    };
    faults.fault = ({ method }) =>
      method === 'GET' ? { type: 'cut-answer', afterBytes: 2 * MIB } : undefined;
    const found = await read();
    t.ok(found > 0 && found < largeBytes.length);
    faults.fault = () => undefined;
    const rest = await bytesIn(backend, large.digest, { start: found });
    t.ok(rest.equals(largeBytes.subarray(found)));
    faults.fault = ({ method }) => (method === 'GET' ? { type: 'silence', after: false } : undefined);
    await t.rejects(backend.getBlob(large, soon()), {
      code: 'BACKEND_DOWN',
      message: /S3 store .* did not answer/,
    });
    await t.rejects(backend.headBlob(large, AbortSignal.abort(new Error('mine'))), { message: 'mine' });
  });

  await t.test('who may not, and what is not there, is told apart', async (t) => {
    const name = bucket();
    const wrong = open(t, server.url, name, { ...S3_CREDENTIALS, secretAccessKey: 'wrong' } as never);
    await t.rejects(wrong.getBlob(large, soon()), {
      code: 'UPSTREAM_DENIED',
      message: /secret key is not right/,
    });
    await t.rejects(wrong.putBlob(large, soon()), { code: 'UPSTREAM_DENIED' });
    const nowhere = open(t, server.url, 'no-such-bucket');
    const missing = { code: 'UPSTREAM_DENIED', message: /no such bucket/ };
    await t.rejects(nowhere.headBlob(large, soon()), missing);
    await t.rejects(nowhere.getBlob(large, soon()), missing);
    const gone = open(t, 'http://127.0.0.1:1', name);
    await t.rejects(gone.headBlob(large, soon()), { code: 'BACKEND_DOWN', message: /S3 store 127.0.0.1:1/ });
  });

  await t.test('an object of another size is no blob, and is written over', async (t) => {
    const name = bucket();
    const backend = open(t, server.url, name);
    await backend.putBlob(large, soon());
    truncateSync(join(server.files, name, KEYS.keyOf(large.digest)), 1_000);
    t.equal(await backend.putBlob(large, soon()), 'written');
    t.ok((await bytesIn(backend, large.digest)).equals(largeBytes));
  });

  await t.test('a server that is killed in mid-write loses nothing that it said was written', async (t) => {
    const name = bucket();
    const backend = open(t, server.url, name);
    const written: { digest: ReturnType<typeof digestOf>; bytes: Buffer }[] = [];
    for (let round = 0; round < 3; round++) {
      const bytes = bytesOf(PART_BYTES * 2 + round, 20 + round);
      const content = contentOf(bytes);
      const read: typeof content.read = async (at, into) => {
        if (at >= PART_BYTES && round === 1) await server.kill();
        return await content.read(at, into);
      };
      const put = backend.putBlob({ ...content, read }, soon());
      if (round === 1) {
        await t.rejects(put, { code: 'BACKEND_DOWN' });
        await server.resume();
        await backend.putBlob(content, soon());
      } else await put;
      written.push({ digest: digestOf(bytes), bytes });
    }
    for (const { digest, bytes } of written) t.ok((await bytesIn(backend, digest)).equals(bytes));
    t.equal(
      (await backend.headBlob({ repository: REPOSITORY, digest: written[1]!.digest }, soon())).sizeBytes,
      written[1]!.bytes.length,
    );
  });
});
