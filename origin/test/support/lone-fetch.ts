import type { BlobSource } from '@sepia/backend/blob-backend';
import type { Bitfield } from '@sepia/base/bitfield';
import { digestOf } from '@sepia/base/digest';
import { createLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { FilePort } from '@sepia/store/files/file-port';
import type { BlobStream } from '@sepia/upstream/queries';
import type { Test } from 'tap';
import { Fetch } from '../../src/fetch/fetch.ts';

const ignore = (): void => undefined;

/** A body of these bytes that then fails, if with an error. `onEnd`: it was let go of. */
export function streamOf(bytes: Uint8Array, error?: Error, onEnd: () => void = ignore): BlobStream {
  async function* chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    for (let at = 0; at < bytes.length; at += 65_536) yield bytes.slice(at, at + 65_536);
    if (error !== undefined) throw error;
  }
  return { lent: chunks, [Symbol.asyncIterator]: chunks, destroy: onEnd };
}

/** A fetch of its own, and what it did. */
export interface LoneFetch {
  readonly fetch: Fetch;
  /** The states in which it was told to have ended. */
  readonly ends: readonly string[];
  /** What was logged as an error. */
  readonly errors: readonly string[];
  readonly store: BlobStore;
}

interface LoneOptions {
  readonly files?: FilePort;
  readonly sizeHint?: number;
  readonly wantAll?: boolean;
  /** What another leader made known; members have pieces of it. */
  readonly adopt?: Metainfo;
  /** What members hold. */
  readonly peerPieces?: () => Bitfield | undefined;
}

/** A fetch of a blob whose clock stands still: whatever it would wait for never comes. `files`: what it is written by. */
export async function loneFetch(
  t: Test,
  blob: Uint8Array,
  client: BlobSource,
  options: LoneOptions = {},
): Promise<LoneFetch> {
  const { files = diskFiles, sizeHint, wantAll = true, adopt, peerPieces = () => undefined } = options;
  const errors: string[] = [];
  const log = createLogger('origin', 'o1', 'error', { write: (line) => void errors.push(line) });
  const nowMs = (): number => 0;
  const store = await BlobStore.open(
    { dir: t.testdir(), log, nowMs, files },
    { durable: false, budgetBytes: 1e9 },
  );
  const ends: string[] = [];
  const ended = ({ state }: Pick<Fetch, 'state'>): void => void ends.push(state);
  const events = { started: ignore, landed: ignore, restarted: ignore, cameWrong: ignore, peerPieces, ended };
  const room = { require: ignore };
  const fetch = new Fetch(
    { store, client, room, log, nowMs, events, onUpstreamBytes: ignore },
    { upstream: 'hub', repository: parseRepositoryName('lib/x'), digest: digestOf(blob) },
    {
      ...{ sizeHint, wantAll, adopt, hasPeers: adopt !== undefined },
      ...{ progressMs: 10_000, firstByteMs: 10_000, lingerMs: 10_000 },
    },
  );
  t.teardown(async () => {
    fetch.stop();
    await store.close();
  });
  return { fetch, ends, errors, store };
}
