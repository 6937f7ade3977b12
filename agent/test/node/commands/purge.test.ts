import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/files/disk-files';
import t from 'tap';
import { purge } from '../../../src/node/commands/purge.ts';

const BYTES = Buffer.from('what is to go');
const DIGEST = digestOf(BYTES, 'sha256');
const NAME = { upstream: 'up', repository: parseRepositoryName('team/app') };

t.test('a purge of what the disk does not read at the moment is none', async (t) => {
  let isBad = false;
  const stat = async (path: string) => {
    if (isBad && path.endsWith(DIGEST.slice('sha256:'.length))) throw new CodedError('DISK_CORRUPT');
    return await diskFiles.stat(path);
  };
  const deps = { dir: t.testdir(), log: silentLogger(), nowMs: Date.now };
  const options = { durable: false, bootId: 'one' };
  const store = await BlobStore.open({ ...deps, files: { ...diskFiles, stat } }, options);
  t.teardown(() => store.close());
  await store.putBytes(DIGEST, BYTES, { class: 'cached', provenance: [NAME], writtenBack: true });
  const forget = (): [] => [];
  const ours = { store, log: silentLogger(), seeds: { drop: forget }, hints: { forget }, tags: { forget } };
  const all = { ...NAME, tag: undefined, digest: undefined };
  isBad = true;
  await t.rejects(purge(ours as never, all as never), { code: 'DISK_CORRUPT' });
  isBad = false;
  t.ok(await store.has(DIGEST), 'it reads again');
  await purge(ours as never, all as never);
  t.notOk(await store.has(DIGEST));
});

t.test('a link that comes while its blob is purged for another repository stays', async (t) => {
  for (const others of [[], [{ ...NAME, repository: 'team/third' }]]) {
    const deps = { dir: t.testdir(), log: silentLogger(), nowMs: Date.now, files: diskFiles };
    const store = await BlobStore.open(deps, { durable: false, bootId: 'one' });
    t.teardown(() => store.close());
    await store.putBytes(DIGEST, BYTES, {
      class: 'cached',
      provenance: [NAME, ...others],
      writtenBack: true,
    });
    const forget = (): [] => [];
    const late = { upstream: 'up', repository: 'team/other' };
    const beside = {
      stat: async (digest: typeof DIGEST) => {
        const found = await store.stat(digest);
        await store.addProvenance(digest, late);
        return found;
      },
      list: () => store.list(),
      deleteUnless: store.deleteUnless.bind(store),
      setAttrs: store.setAttrs.bind(store),
      delete: store.delete.bind(store),
    };
    const ours = { log: silentLogger(), seeds: { drop: forget }, hints: { forget }, tags: { forget } };
    await purge({ ...ours, store: beside } as never, { ...NAME, tag: undefined, digest: undefined } as never);
    t.same((await store.stat(DIGEST))?.attrs.provenance, [...others, late]);
  }
});
