import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { Links } from '../../src/records/links.ts';

const NAME: BlobName = {
  upstream: 'hub',
  repository: parseRepositoryName('team/app'),
  digest: digestOf(Buffer.from('a blob')),
};
const never = new AbortController().signal;

/** Links before owners of which too few answer just now, and a registry that has every blob; `writes` counts those of links. */
function bench(takesDeletes: boolean) {
  const writes: unknown[] = [];
  const set = {
    read: async () => {
      throw new CodedError('QUORUM_LOST');
    },
    write: async (...write: unknown[]) => void writes.push(write),
  };
  const client = { headBlob: async () => ({ sizeBytes: 6 }) };
  const upstreams = { client: () => client, takesDeletes: () => takesDeletes };
  const links = new Links({ set, upstreams, nowMs: () => 0, dateMs: () => 0 } as never);
  return { links, writes };
}

t.test('while nobody knows whether a link was deleted, no registry brings it back', async (t) => {
  const { links, writes } = bench(true);
  await t.rejects(links.require(NAME, never), { code: 'QUORUM_LOST' });
  t.same(writes, []);
});

t.test('where nothing is deleted the registry is believed while too few origins answer', async (t) => {
  const { links, writes } = bench(false);
  t.match(await links.require(NAME, never), { ...NAME, sizeBytes: 6 });
  t.equal(writes.length, 1);
});
