import type { BackendEntry } from '@sepia/backend/blob-backend';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { REMOVE_MS } from '../../src/deadlines/members.ts';
import { Fence } from '../../src/fence/core/fence.ts';
import { BackendContent } from '../../src/gc/backend-content.ts';

const DAY_MS = 24 * 3_600_000;
const digests = ['a', 'b', 'c'].map((name) => digestOf(Buffer.from(name)));

interface Fake {
  readonly entries?: readonly BackendEntry[];
  readonly fault?: (digest: Digest) => unknown;
  /** Why it is not this cluster's. */
  readonly claim?: CodedError;
}

function contentOf({ entries = [], fault = () => undefined, claim }: Fake = {}) {
  const fence = new Fence();
  const gone: Digest[] = [];
  const clock = { ms: 0 };
  const backend = {
    place: 's3://images',
    claim: async () => {
      if (claim !== undefined) throw claim;
    },
    requireFree: async () => undefined,
    listBlobs: async function* () {
      yield* entries;
      const failure = fault(digests[0]!);
      if (failure !== undefined) throw failure;
    },
    deleteBlob: async ({ digest }: { readonly digest: Digest }) => {
      const failure = fault(digest);
      if (failure !== undefined) throw failure;
      gone.push(digest);
    },
  };
  const { signal } = new AbortController();
  const content = new BackendContent({
    ...{ upstream: 'local', backend, owner: 'us', isDry: false, fence, signal, log: silentLogger() },
    elapsedMs: () => clock.ms,
  });
  fence.condemn('g', digests, 0);
  return { content, fence, gone, clock };
}

t.test('nothing is a candidate where another cluster keeps its blobs', async (t) => {
  const bed = contentOf({
    entries: [{ digest: digests[0]!, sizeBytes: 1, writtenMs: DAY_MS }],
    claim: new CodedError('UPSTREAM_DENIED', { message: 'belongs to another cluster' }),
  });
  for await (const batch of bed.content.candidates(2 * DAY_MS, 0)) t.same(batch, []);
  t.equal(bed.content.left, 'belongs to another cluster');
});

t.test('what is old, and not older than all records, is a candidate', async (t) => {
  const at = (writtenMs: number, index: number): BackendEntry => ({
    digest: digests[index]!,
    sizeBytes: 1,
    writtenMs,
  });
  const bed = contentOf({ entries: [at(10 * DAY_MS, 0), at(20 * DAY_MS, 1), at(30 * DAY_MS, 2)] });
  const found: BackendEntry[][] = [];
  for await (const batch of bed.content.candidates(25 * DAY_MS, 15 * DAY_MS)) found.push(batch);
  t.match(found, [[{ digest: digests[1] }]]);
  t.equal(bed.content.older, 1);
  const down = new CodedError('BACKEND_DOWN', { message: 'store is away' });
  const cut = contentOf({ entries: [at(20 * DAY_MS, 1)], fault: () => down });
  for await (const batch of cut.content.candidates(25 * DAY_MS, 0)) t.equal(batch.length, 1);
  t.equal(cut.content.left, 'store is away', 'what came before it failed is taken');
  const bug = contentOf({ fault: () => new TypeError('bug') });
  await t.rejects(bug.content.candidates(1, 0).next(), { name: 'TypeError' });
});

t.test('only what is condemned at this moment is deleted', async (t) => {
  const { content, fence, gone, clock } = contentOf();
  fence.rescue(digests[1]!);
  t.same(await content.withdraw('g', digests), { digests: [digests[0], digests[2]], isUnclear: false });
  t.same(gone, [digests[0], digests[2]]);
  t.equal(content.left, undefined, 'what was rescued is nothing that is left');
  clock.ms = REMOVE_MS;
  t.same(await content.withdraw('g', digests), { digests: [], isUnclear: false });
  t.match(content.left, /no time/);
});

t.test('a failure ends it; only silence leaves it unclear what is there', async (t) => {
  for (const [code, isUnclear] of [
    ['UPSTREAM_DENIED', false],
    ['UPSTREAM_LIMITED', false],
    ['BACKEND_DOWN', true],
  ] as const) {
    const fault = (digest: Digest): unknown =>
      digest === digests[0] ? new CodedError(code, { message: `said ${code}` }) : undefined;
    const { content } = contentOf({ fault });
    t.equal((await content.withdraw('g', digests)).isUnclear, isUnclear, code);
    t.equal(content.left, `said ${code}`);
    t.same(await content.withdraw('g', digests), { digests: [], isUnclear: false }, 'nothing more is asked');
  }
  const late = contentOf({ fault: () => new DOMException('late', 'TimeoutError') });
  t.equal((await late.content.withdraw('g', digests)).isUnclear, true);
  t.match(late.content.left, /does not answer in time/);
  const bug = contentOf({ fault: () => new TypeError('bug') });
  await t.rejects(bug.content.withdraw('g', digests), { name: 'TypeError' });
});
