import type { BlobSource } from '@sepia/backend/blob-backend';
import { digestOf } from '@sepia/base/digest';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { keptSize } from '../../src/upstream/kept-size.ts';

t.test('what a GET says of a blob counts more than its HEAD', async (t) => {
  const name = {
    upstream: 'one',
    repository: parseRepositoryName('a/b'),
    digest: digestOf(Buffer.from('x')),
  };
  for (const [sizeBytes, expected] of [
    [1_000, 1_000],
    [undefined, 1_001],
  ] as const) {
    const source = {
      headBlob: () => Promise.resolve({ sizeBytes: 1_001 }),
      getBlob: () =>
        Promise.resolve({ status: 'partial', start: 0, sizeBytes, body: { destroy: () => undefined } }),
    } as unknown as BlobSource;
    t.equal(await keptSize(source, name, new AbortController().signal), expected);
  }
});
