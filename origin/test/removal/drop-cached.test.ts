import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { BlobAttrs } from '@sepia/store/sidecar';
import t, { type Test } from 'tap';
import { dropCached } from '../../src/removal/drop-cached.ts';
import { Removals } from '../../src/removal/removals.ts';

const BYTES = Buffer.from('a manifest');
const DIGEST = digestOf(BYTES);
const PLACE = { upstream: 'hub', repository: 'team/app' };
const OTHER = { upstream: 'hub', repository: 'team/other' };

function attrs(kind: BlobAttrs['class'], ...provenance: BlobAttrs['provenance']): BlobAttrs {
  return { class: kind, writtenBack: kind === 'cached', provenance };
}

async function openStore(t: Test): Promise<BlobStore> {
  const dir = join(t.testdir({ v1: {} }), 'v1');
  const deps = { files: diskFiles, dir, log: silentLogger(), nowMs: () => 1e12 };
  const store = await BlobStore.open(deps, { durable: true });
  t.teardown(async () => await store.close());
  return store;
}

t.test('a cached copy goes with the only place that brought it', async (t) => {
  const store = await openStore(t);
  await store.putBytes(DIGEST, BYTES, attrs('cached', PLACE, OTHER));
  t.notOk(await dropCached(store, PLACE, DIGEST, () => false));
  t.equal((await store.stat(DIGEST))?.attrs.provenance.length, 2, 'not meant');
  t.notOk(await dropCached(store, PLACE, DIGEST));
  t.same((await store.stat(DIGEST))?.attrs.provenance, [OTHER]);
  t.notOk(await dropCached(store, PLACE, DIGEST), 'again');
  t.ok(await dropCached(store, OTHER, DIGEST));
  t.notOk(await store.has(DIGEST));
  t.notOk(await dropCached(store, OTHER, DIGEST), 'there is none');
});

t.test('what is pushed while it is being dropped stays, with all that brought it', async (t) => {
  const store = await openStore(t);
  const push = async (): Promise<void> => void (await store.putBytes(DIGEST, BYTES, attrs('pushed', PLACE)));
  /** Each change comes after a push that nobody saw who looked before. */
  const late = new Proxy(store, {
    get: (_, key: 'stat') => {
      const call = store[key].bind(store) as (...args: unknown[]) => unknown;
      return async (...args: unknown[]) => {
        if (key !== 'stat') await push();
        return await call(...args);
      };
    },
  });
  const deps = { store: late, manifests: { forget: () => undefined } };
  const removals = new Removals(deps as unknown as ConstructorParameters<typeof Removals>[0]);
  for (const brought of [[PLACE], [PLACE, OTHER]]) {
    await store.putBytes(DIGEST, BYTES, attrs('cached', ...brought));
    t.equal(await removals.drop(PLACE as never, [DIGEST]), 0);
    const stat = await store.stat(DIGEST);
    t.equal(stat?.attrs.class, 'pushed');
    t.same(stat?.attrs.provenance, brought);
    await store.delete(DIGEST);
  }
});
