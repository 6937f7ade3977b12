import type { BlobBackend, BlobContent } from '@sepia/backend/blob-backend';
import { FsBackend } from '@sepia/backend/fs/fs-backend';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { FilePort } from '@sepia/store/files/file-port';
import type { BlobAttrs } from '@sepia/store/sidecar';
import { LogLines } from '@sepia/test-support/log-lines';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { WriteBehind, type WriteBehindDeps } from '../../src/backend/write-behind.ts';
import { Fence } from '../../src/fence/core/fence.ts';
import { until } from './bed.ts';

const BLOBS = 50;

interface Bed {
  readonly behind: WriteBehind;
  readonly log: LogLines;
  /** What the backend says to a write. */
  fault: () => CodedError | undefined;
  /** What the disk says to an eviction. */
  evictFault: () => CodedError | undefined;
  /** Pushes one more blob. */
  readonly push: (text: string) => Digest;
  readonly asked: Digest[];
  readonly written: Set<Digest>;
}

/** As {@link until}, on a virtual clock: for backends that are of the test, and no folder. */
function virtually(t: Test): typeof until {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  return async (look, what) => await time.settle(until(look, what));
}

/** What brings 50 blobs of one origin to a backend of this test. */
function bedOf(t: Test, folder?: BlobBackend): Bed {
  const log = new LogLines('info');
  const contents = Array.from({ length: BLOBS }, (_, at) => Buffer.from(`blob ${at}`));
  const byDigest = new Map(contents.map((bytes) => [digestOf(bytes), bytes]));
  const digests = [...byDigest.keys()];
  const attrs = new Map(
    digests.map((digest): [Digest, BlobAttrs] => {
      const provenance = [{ upstream: 'local', repository: 'team/app' }];
      return [digest, { class: 'pushed', provenance, writtenBack: false }];
    }),
  );
  const bed = {
    log,
    fault: () => undefined,
    evictFault: () => undefined,
    asked: [],
    written: new Set(),
  } as unknown as Bed;
  const backend = {
    kind: 's3',
    place: 's3://images',
    claim: async () => undefined,
    putBlob: async ({ digest }: BlobContent) => {
      bed.asked.push(digest);
      const fault = bed.fault();
      if (fault !== undefined) throw fault;
      bed.written.add(digest);
      return 'written';
    },
  };
  const store = {
    stat: async (digest: Digest) => ({ sizeBytes: 10, attrs: attrs.get(digest)! }),
    open: async (digest: Digest) => {
      const bytes = byDigest.get(digest)!;
      const read = async (at: number, into: Uint8Array): Promise<Uint8Array> => {
        const part = bytes.subarray(at, at + into.length);
        into.set(part);
        return into.subarray(0, part.length);
      };
      return { digest, sizeBytes: bytes.length, read, close: async () => undefined };
    },
    setAttrs: async (digest: Digest, change: (now: BlobAttrs) => BlobAttrs) => {
      attrs.set(digest, change(attrs.get(digest)!));
      return attrs.get(digest);
    },
    evict: async () => {
      const fault = bed.evictFault();
      if (fault !== undefined) throw fault;
    },
  };
  const index = { list: async function* () {}, onAdded: (add: typeof added) => (added = add) };
  let added: (digest: Digest, sizeBytes: number) => void = () => undefined;
  const deps = {
    ...{ index, store, log: log.logger, fence: new Fence() },
    backends: new Map([['local', folder ?? backend]]),
    owner: 'us',
    keepsPushes: () => false,
    members: { leaderOf: () => 'o1', selfId: 'o1' },
    nowMs: () => performance.now(),
    dateMs: Date.now,
    lookAgain: async () => undefined,
    onSeen: async () => undefined,
    onWritten: () => undefined,
    onFailed: () => undefined,
  };
  const behind = new WriteBehind(deps as unknown as WriteBehindDeps);
  t.teardown(async () => await behind.stop());
  for (const digest of digests) added(digest, 10);
  const push = (text: string): Digest => {
    const bytes = Buffer.from(text);
    const digest = digestOf(bytes);
    byDigest.set(digest, bytes);
    const provenance = [{ upstream: 'local', repository: 'team/app' }];
    attrs.set(digest, { class: 'pushed', provenance, writtenBack: false });
    added(digest, 10);
    return digest;
  };
  return Object.assign(bed, { behind, push });
}

t.test(
  'a backend that fails is asked now and then, told of once, and gets all when it answers',
  async (t) => {
    const until = virtually(t);
    const bed = bedOf(t);
    const { behind, log, asked } = bed;
    bed.fault = () => new CodedError('BACKEND_DOWN', { message: 'store does not answer' });
    behind.start();
    await until(() => asked.length >= 5, 'it was asked in three rounds');
    t.ok(asked.length <= 6, 'by two at once, and by nobody in between');
    t.match(behind.states, [{ upstream: 'local', isFailing: true, problem: 'store does not answer' }]);
    const [waits = '', rests = ''] = behind.warnings;
    t.match(waits, /50 pushed blobs .* wait .*: store does not answer/);
    t.match(rests, /backend of local \(s3:\/\/images\) fails; it is asked again in \d+ s/);
    t.equal(log.matching(/takes nothing/).length, 1, 'one line for all');
    t.equal(log.matching(/was not written/).length, 0, 'none for a blob');
    bed.fault = () => undefined;
    await until(() => behind.backlog.blobs === 0, 'all is written');
    t.equal(bed.written.size, BLOBS);
    t.equal(log.matching(/answers again/).length, 1);
    t.match(behind.states, [{ isFailing: false, problem: undefined, blobs: 0 }]);
    t.same(behind.warnings, []);
  },
);

t.test('a failure of one blob holds up no other', async (t) => {
  const until = virtually(t);
  const bed = bedOf(t);
  let bad: Digest | undefined;
  bed.fault = () => {
    bad ??= bed.asked.at(-1);
    if (bed.asked.at(-1) !== bad) return undefined;
    return new CodedError('UPSTREAM_LIES', { message: 'store wrote other bytes' });
  };
  bed.behind.start();
  await until(() => bed.behind.backlog.blobs === 1, 'all others are written');
  t.equal(bed.written.size, BLOBS - 1);
  t.match(bed.behind.states, [{ isFailing: false }]);
  t.equal(bed.log.matching(/was not written/).length, 1);
});

t.test(
  'a folder whose mount hangs while it syncs rests, is told of, and gets all when it is back',
  async (t) => {
    const back = Promise.withResolvers<void>();
    t.teardown(() => back.resolve());
    let hanging = 0;
    const files: FilePort = {
      ...diskFiles,
      open: async (path, mode) => {
        const file = await diskFiles.open(path, mode);
        const sync = file.sync.bind(file);
        return Object.assign(file, {
          sync: async () => {
            hanging += 1;
            await back.promise;
            hanging -= 1;
            await sync();
          },
        });
      },
    };
    const options = { path: t.testdir({}), callMs: 200, threads: 3, mayBegin: true };
    const folder = new FsBackend({ files }, options);
    const { behind, log } = bedOf(t, folder);
    behind.start();
    await until(() => log.matching(/takes nothing/).length === 1, 'it is told of');
    await until(
      () => /calls of the system hang/.test(behind.states[0]?.problem ?? ''),
      'all its threads hang',
    );
    t.equal(hanging, 3, 'and no more than it may have');
    t.match(behind.states, [{ isFailing: true, blobs: BLOBS }]);
    t.match(behind.warnings.join('\n'), /50 pushed blobs .* wait .*\n.*fails; it is asked again in \d+ s/);
    // A disk that is only busy is none that hangs.
    options.callMs = 60_000;
    back.resolve();
    await until(() => behind.backlog.blobs === 0, 'all is written');
    t.match(behind.states, [{ isFailing: false, problem: undefined, blobs: 0 }]);
    let listed = 0;
    for await (const _ of folder.listBlobs(undefined, AbortSignal.timeout(60_000))) listed += 1;
    t.equal(listed, BLOBS);
  },
);

t.test('an eviction that fails ends no writing to backends', async (t) => {
  const until = virtually(t);
  const bed = bedOf(t);
  let evictions = 0;
  bed.evictFault = () => {
    evictions += 1;
    return new CodedError('DISK_CORRUPT', { message: 'the disk cannot be read' });
  };
  bed.behind.start();
  await until(() => evictions > 0, 'all is written, and room is to be made');
  const next = bed.push('one more');
  await until(() => bed.written.has(next), 'what is pushed after that is written, too');
  t.ok(bed.log.matching(/was not looked through; it is again/).length > 0);
});
