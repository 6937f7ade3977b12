import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobHandle } from '@sepia/store/blob-handle';
import type { BlobStore } from '@sepia/store/blob-store';
import t from 'tap';
import { SwarmPieces } from '../../src/downloads/swarm-pieces.ts';

t.test('a stored blob that could not be opened once is opened at the next read', async (t) => {
  const digest = digestOf(Buffer.from('x'));
  let opened = 0;
  let isShort = true;
  const handle = {
    read: (_offset: number, into: Uint8Array) => Promise.resolve(into.fill(7)),
    close: () => Promise.resolve(),
  } as unknown as BlobHandle;
  const open = async (): Promise<BlobHandle> => {
    opened += 1;
    if (isShort) throw new CodedError('MEMBER_BUSY', { message: 'no descriptor is free' });
    return handle;
  };
  const store = { open } as unknown as BlobStore;
  const pieces = SwarmPieces.ofBlob(store, { digest, pieceCount: 1 }, () => undefined);
  t.teardown(() => pieces.close());
  await t.rejects(pieces.readPiece(0, 0, 4, new Uint8Array(4)), { code: 'MEMBER_BUSY' });
  isShort = false;
  t.same(await pieces.readPiece(0, 0, 4, new Uint8Array(4)), new Uint8Array(4).fill(7));
  t.equal(opened, 2);
  await pieces.readPiece(0, 0, 4, new Uint8Array(4));
  t.equal(opened, 2, 'it stays open');
});
