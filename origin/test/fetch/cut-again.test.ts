import type { BlobSource } from '@sepia/backend/blob-backend';
import { CodedError } from '@sepia/base/errors';
import { bytesOf } from '@sepia/test-support/seeded';
import t from 'tap';
import { loneFetch, streamOf } from '../support/lone-fetch.ts';

/** Each answer is cut after `share` of what was asked. */
function cutting(
  blob: Uint8Array,
  share: number,
  honoursRange: boolean,
): { source: BlobSource; asked: number[] } {
  const asked: number[] = [];
  const source: BlobSource = {
    headBlob: async () => ({ sizeBytes: blob.length }),
    getBlob: async ({ range }) => {
      const start = honoursRange ? (range?.start ?? 0) : 0;
      asked.push(start);
      const bytes = blob.subarray(start);
      const cut = new CodedError('BACKEND_DOWN', { message: 'reset' });
      const body = streamOf(bytes.subarray(0, Math.ceil(bytes.length * share)), cut);
      return { status: start > 0 ? 'partial' : 'whole', start, sizeBytes: blob.length, body };
    },
  };
  return { source, asked };
}

t.test('a blob whose every connection is cut at 40 % is whole without a pause', async (t) => {
  const blob = bytesOf(3_300_000, 7);
  const { source, asked } = cutting(blob, 0.4, true);
  const { fetch } = await loneFetch(t, blob, source);
  fetch.start();
  await fetch.whenFinal(AbortSignal.timeout(20_000));
  t.equal(fetch.state, 'final');
  t.ok(asked.length > 20, `${asked.length} connections`);
  t.same(
    asked,
    asked.toSorted((a, b) => a - b),
    'each goes on where the one before it ended',
  );
  t.equal(new Set(asked).size, asked.length, 'and brings something');
});
