import type { BlobSource } from '@sepia/backend/blob-backend';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { createLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { BlobStore } from '@sepia/store/blob-store';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { Fetches } from '../../src/fetch/fetches.ts';
import type { Upstreams } from '../../src/upstream/upstreams.ts';

const never = new AbortController().signal;
const ALL = { wantAll: true, sizeHint: undefined };

/** Fetches from an upstream that answers nothing, or else fails; `failed` gets the codes that are counted. */
function silentFetches(failed: string[] = [], error?: CodedError): Fetches {
  const silent = async (_asked: unknown, signal: AbortSignal): Promise<never> =>
    await new Promise((_, reject) =>
      error === undefined ? signal.addEventListener('abort', () => reject(signal.reason)) : reject(error),
    );
  const source: BlobSource = { headBlob: silent, getBlob: silent };
  const ignore = (): void => undefined;
  return new Fetches(
    {
      store: { has: async () => false } as unknown as BlobStore,
      upstreams: { blobs: () => source } as unknown as Upstreams,
      room: { check: ignore, require: ignore },
      log: createLogger('origin', 'o1', 'silent'),
      nowMs: () => performance.now(),
      events: {
        started: ignore,
        landed: ignore,
        restarted: ignore,
        peerPieces: () => undefined,
        ended: ignore,
      },
      onUpstreamBytes: ignore,
      onFetched: ignore,
      onFailed: (upstream, code) => void failed.push(`${upstream} ${code}`),
    },
    { progressMs: 60_000, firstByteMs: 60_000 },
  );
}

function nameOf(index: number): BlobName {
  return {
    upstream: 'hub',
    repository: parseRepositoryName('lib/x'),
    digest: digestOf(Buffer.from(`blob ${index}`)),
  };
}

t.test('a blob more than are fetched at once waits until one of them ends', async (t) => {
  const fetches = silentFetches();
  t.teardown(() => fetches.stop());
  for (let index = 0; index < 512; index++) await fetches.begin(nameOf(index), ALL, never);
  const begun: number[] = [];
  const more = [512, 513].map(
    async (index) => await fetches.begin(nameOf(index), ALL, never).then(() => begun.push(index)),
  );
  t.equal(
    await fetches.begin(nameOf(7), ALL, never),
    fetches.running(nameOf(7).digest),
    'one that runs is joined',
  );
  const gone = new AbortController();
  const left = fetches.begin(nameOf(600), ALL, gone.signal);
  gone.abort(new CodedError('TIMEOUT'));
  await t.rejects(left, { code: 'TIMEOUT' }, 'who leaves waits no more');
  t.same(begun, []);
  fetches.running(nameOf(0).digest)?.stop();
  await until(() => begun.length === 1, 'one goes on');
  t.equal(fetches.size, 512);
  fetches.running(nameOf(1).digest)?.stop();
  await Promise.all(more);
  t.equal(fetches.size, 512);
});

t.test('who comes while others wait begins no fetch before them, and upstreams take turns', async (t) => {
  const fetches = silentFetches();
  t.teardown(() => fetches.stop());
  for (let index = 0; index < 512; index++) await fetches.begin(nameOf(index), ALL, never);
  const begun: string[] = [];
  const begin = (upstream: string, index: number): void =>
    void fetches
      .begin({ ...nameOf(index), upstream }, ALL, never)
      .then(() => begun.push(`${upstream} ${index}`))
      .catch(() => undefined);
  for (const index of [512, 513, 514]) begin('hub', index);
  begin('other', 515);
  fetches.running(nameOf(0).digest)?.stop();
  begin('late', 516);
  await until(() => begun.length === 1, 'one goes on');
  for (const index of [1, 2]) fetches.running(nameOf(index).digest)?.stop();
  await until(() => begun.length === 3, 'two more go on');
  t.same(begun, ['hub 512', 'hub 513', 'other 515']);
});

t.test('who waits is refused when the origin stops', async (t) => {
  const fetches = silentFetches();
  for (let index = 0; index < 512; index++) await fetches.begin(nameOf(index), ALL, never);
  const waiting = fetches.begin(nameOf(512), ALL, never);
  fetches.stop();
  await t.rejects(waiting, { code: 'DRAINING' });
});

t.test('a fetch that an upstream fails is counted, one that nobody wants any more is not', async (t) => {
  const failed: string[] = [];
  const missing = silentFetches(failed, new CodedError('BLOB_UNKNOWN'));
  await missing.begin(nameOf(1), ALL, never);
  await until(() => missing.size === 0, 'it ends');
  t.same(failed, ['hub BLOB_UNKNOWN']);
  const stopped = silentFetches(failed);
  await stopped.begin(nameOf(1), ALL, never);
  stopped.stop();
  await until(() => stopped.size === 0, 'it ends');
  t.equal(failed.length, 1);
});

t.test('an upstream that lied about a blob is not asked again for a while, another one is', async (t) => {
  const fetches = silentFetches([], new CodedError('UPSTREAM_LIES'));
  t.teardown(() => fetches.stop());
  await fetches.begin(nameOf(1), ALL, never).then((fetch) => fetch.stop(new CodedError('UPSTREAM_LIES')));
  await t.rejects(fetches.begin(nameOf(1), ALL, never), { code: 'UPSTREAM_LIES' });
  const other = { ...nameOf(1), upstream: 'other' };
  t.same((await fetches.begin(other, ALL, never)).name, other);
});
