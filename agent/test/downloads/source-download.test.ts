import { Bitfield } from '@sepia/base/bitfield';
import { digestOf } from '@sepia/base/digest';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { PartialBlob } from '@sepia/store/partial-blob';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import t from 'tap';
import { fetchFromUpstream, SourceGuide } from '../../src/downloads/source-download.ts';

t.test('a body of another size than the blob has is let go of', async (t) => {
  const digest = digestOf(Buffer.from('x'));
  const name = { digest, upstream: 'hub', repository: parseRepositoryName('app') };
  let isOpen = true;
  const body = {
    destroy: (): void => {
      isOpen = false;
    },
  };
  const client = { getBlob: async () => ({ status: 'whole', start: 0, sizeBytes: 5, body }) };
  const partial = { sizeBytes: 10, have: new Bitfield(1) };
  const hooks = { guide: new SourceGuide(name, 10), onPiece: () => undefined };
  await t.rejects(
    fetchFromUpstream(
      client as unknown as UpstreamClient,
      name,
      partial as PartialBlob,
      hooks,
      new AbortController().signal,
    ),
    { code: 'SIZE_MISMATCH' },
  );
  t.notOk(isOpen, 'its connection, and its slot among those to the upstream, are free');
});
