import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { RepositoryName, Tag } from '@sepia/base/names/repository';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { type ManifestPush, pushManifest } from '../../src/manifests/manifest-push.ts';
import { relink } from '../../src/manifests/relink.ts';
import { Links } from '../../src/records/links.ts';
import { Referrers } from '../../src/records/referrers.ts';
import { Deletes } from '../../src/removal/deletes.ts';
import { Removals } from '../../src/removal/removals.ts';
import { everyOrder, type Step } from '../support/orders.ts';

const NAME = { upstream: 'local', repository: 'team/app' as RepositoryName };
const SUBJECT = digestOf(Buffer.from('subject'));
const CONFIG = { mediaType: 'application/json', digest: digestOf(Buffer.from('{}')), size: 2 };
const CONTENT = {
  schemaVersion: 2,
  mediaType: OCI_MANIFEST,
  config: CONFIG,
  layers: [],
  subject: { mediaType: OCI_MANIFEST, digest: SUBJECT, size: 2 },
};
const BYTES = Buffer.from(JSON.stringify(CONTENT));
const DIGEST = digestOf(BYTES);
const { subject: _subject, ...PLAIN } = CONTENT;
const nothing = async (): Promise<void> => {};
const run = async <T>(_: unknown, work: () => Promise<T>): Promise<T> => await work();

type Written = { readonly key: readonly string[]; readonly value: object };

/** Records in memory, each write later than all before: each read and each write is one step of who makes it. */
class Records {
  readonly links = new Map<string, object>();
  readonly referrers = new Map<string, object>();
  readonly tags = new Map<string, Digest>();
  /** Changes of tags that were made. */
  readonly changes = new Set<string>();
  readonly clocks = new Map<object, number>();
  nowMs = 1;

  setOf(map: Map<string, object>, step: Step) {
    const recordOf = (key: readonly string[]) => {
      const value = map.get(key.join());
      return value && { key, atMs: this.clocks.get(value) ?? 0, value };
    };
    return {
      write: async (_: unknown, changes: readonly { key: readonly string[]; value?: object }[]) => {
        await step();
        this.nowMs += 1;
        for (const { key, value } of changes) {
          if (value === undefined) map.delete(key.join());
          else map.set(key.join(), value);
          if (value !== undefined) this.clocks.set(value, this.nowMs);
        }
      },
      ride: (_: unknown, changes: readonly Written[]) => ({ changes }),
      async writeAt(_: unknown, [change]: readonly { key: readonly string[] }[], atMs: number) {
        await step();
        if ((recordOf(change!.key)?.atMs ?? 0) > atMs) throw new CodedError('CONFLICT');
        map.delete(change!.key.join());
      },
      async read(_: unknown, key: readonly string[]) {
        await step();
        return recordOf(key);
      },
      async *readMany(_: unknown, keys: readonly (readonly string[])[]) {
        await step();
        yield keys.map(recordOf);
      },
      async page() {
        await step();
        return { entries: [...map].map(([key, value]) => ({ key: key.split(','), value })) };
      },
    } as never;
  }
}

/** What one request at an origin of its own works with. */
function origin(records: Records, step: Step, policy: string) {
  const upstreams = {
    get: () => ({ mode: 'none' }),
    takesDeletes: () => true,
    keepsPushes: () => false,
    client: () => undefined,
    mayKeepTags: () => policy === 'immutable',
    tagRules: () => ({ policy }),
  };
  const linkSet = records.setOf(records.links, step);
  const links = new Links({
    set: linkSet,
    upstreams: upstreams as never,
    nowMs: () => 0,
    dateMs: () => records.nowMs,
  });
  const log = silentLogger();
  const set = records.setOf(records.referrers, step);
  const referrers = new Referrers({ set, upstreams: upstreams as never, log });
  const tags = {
    async move({ tag }: { tag: string }, digest: Digest) {
      await step();
      records.nowMs += 1;
      records.tags.set(tag, digest);
    },
    async read({ tag }: { tag: string }) {
      await step();
      const digest = records.tags.get(tag);
      return digest && { digest };
    },
    async delete({ tag }: { tag: string }, digest: Digest = DIGEST, _: unknown, asked: Partial<Asked> = {}) {
      await step();
      asked.signal?.throwIfAborted();
      const { change } = asked;
      if (change !== undefined && records.changes.has(change)) return false;
      if (change !== undefined && records.tags.get(tag) === digest) records.changes.add(change);
      return records.tags.get(tag) === digest && records.tags.delete(tag);
    },
  };
  const tagIndex = {
    async *list() {
      await step();
      for (const [tag, digest] of [...records.tags]) yield { tag, digest };
    },
  };
  const manifests = {
    async get(_: unknown, { digest }: { digest: Digest }) {
      if (digest !== DIGEST) throw new CodedError('MANIFEST_UNKNOWN');
      return { digest, bytes: BYTES, mediaType: OCI_MANIFEST };
    },
    forget: () => {},
  };
  const all = {
    ...{ links, referrers, tags, tagIndex, manifests, upstreams, log },
    quotas: { check: nothing, hold: nothing, release: nothing },
    store: { putBytes: nothing, stat: nothing, deleteUnless: nothing, setAttrs: nothing },
    sizeOf: nothing,
    replicator: {
      hold: run,
      async place(_: unknown, { links: riding }: { links?: { changes: readonly Written[] } } = {}) {
        for (const { key, value } of riding?.changes ?? []) records.links.set(key.join(), value);
      },
    },
    replication: {
      intend: async () => nothing,
      intendDelete: async () => nothing,
      intendPurge: async () => nothing,
    },
    behind: { look: nothing },
    invalidation: { broadcast: nothing },
    guard: { using: run, writing: run },
    read: async (name: unknown, digest: Digest) => await manifests.get(name, { digest }),
  };
  const push = { name: NAME, reference: { kind: 'tag', tag: 'v1' as Tag }, contentType: OCI_MANIFEST };
  const deletes = new Deletes(all as never);
  const others = { members: { ids: [] }, commands: { send: async () => [] }, linkSet, deletes };
  const removals = new Removals({ ...all, ...others } as never);
  return {
    push: async (asked?: Asked, bytes = BYTES) =>
      await pushManifest(all as never, { ...push, ...asked, bytes } as ManifestPush),
    set: async (signal?: AbortSignal) => {
      const move = async (): Promise<void> => await tags.move({ tag: 'v1' }, DIGEST);
      await relink(all as never, NAME, DIGEST, move, signal);
    },
    pushConfig: async () => await links.write([{ ...NAME, digest: CONFIG.digest }]),
    deleteManifest: async (asked?: Asked) =>
      await deletes.manifest({ ...NAME, digest: DIGEST }, false, asked),
    deleteTag: async (asked?: Asked) => await deletes.tag({ ...NAME, tag: 'v1' as Tag }, asked),
    purge: async () => await removals.remove(NAME, {}),
    purgeTag: async (asked?: Asked) => {
      await removals.remove(NAME, { tag: 'v1' as Tag }, asked?.signal);
    },
    deleteConfig: async (asked?: Asked) =>
      await deletes.blob({ ...NAME, digest: CONFIG.digest }, false, asked),
  };
}

const UNKNOWN = new Set<string>(['MANIFEST_UNKNOWN', 'TAG_UNKNOWN', 'BLOB_UNKNOWN']);

type Asked = { readonly change: string; readonly signal: AbortSignal };

/** A repository with the config alone, or the whole image, or that with a tag. */
function recordsOf(state: string): Records {
  const records = new Records();
  records.links.set(CONFIG.digest, {});
  if (state !== 'config') records.links.set(DIGEST, { mediaType: OCI_MANIFEST });
  if (state !== 'config') records.referrers.set([SUBJECT, DIGEST].join(), {});
  if (state === 'tagged') records.tags.set('v1', DIGEST);
  return records;
}

for (const write of ['push', 'set'] as const)
  for (const state of ['image', 'tagged'])
    t.test(`a tag leads to its manifest: ${write} beside a delete of an ${state}`, async (t) => {
      const wrong = new Set<string>();
      const orders = await everyOrder(async (actor) => {
        const records = recordsOf(state);
        const [pushed, deleted] = await Promise.allSettled([
          actor('push', async (step) => await origin(records, step, 'mutable')[write]()),
          actor('delete', async (step) => await origin(records, step, 'mutable').deleteManifest()),
        ]);
        const isLinked = records.links.has(DIGEST);
        if (records.tags.has('v1') && !isLinked) wrong.add('unlinked');
        if (records.tags.has('v1') && records.referrers.size === 0) wrong.add('not under its subject');
        if (write === 'push' && pushed.status !== 'fulfilled') wrong.add(String(pushed.reason));
        // What was linked anew meanwhile stays.
        const isLeft = deleted.status === 'rejected' && isCoded(deleted.reason, 'CONFLICT') && isLinked;
        if (deleted.status === 'rejected' && !isLeft) wrong.add(String(deleted.reason));
      });
      t.same([...wrong], []);
      t.ok(orders > 20, `${orders} orders`);
    });

for (const [remove, push, state] of [
  ['deleteManifest', 'push', 'tagged'],
  ['deleteTag', 'push', 'tagged'],
  ['deleteTag', 'push', 'image'],
  ['purgeTag', 'push', 'tagged'],
  ['purgeTag', 'push', 'image'],
  ['deleteConfig', 'pushConfig', 'config'],
] as const)
  t.test(
    `an origin that stopped in its ${remove} (${state}) takes nothing that came after another one's`,
    async (t) => {
      const wrong = new Set<string>();
      const orders = await everyOrder(async (actor) => {
        const records = recordsOf(state);
        const gone = new AbortController();
        const asked = { change: 'one', signal: gone.signal };
        const stopping = actor(
          'stops',
          async (step) => await origin(records, step, 'mutable')[remove](asked),
        );
        const client = actor('client', async (step) => {
          await step();
          gone.abort(new CodedError('TIMEOUT'));
          const again = { change: 'one', signal: new AbortController().signal };
          await origin(records, step, 'mutable')
            [remove](again)
            .catch((error: unknown) => {
              if (!isCoded(error) || !UNKNOWN.has(error.code)) throw error;
            });
          await origin(records, step, 'mutable')[push]();
        });
        const [stopped, done] = await Promise.allSettled([stopping, client]);
        if (done.status === 'rejected') {
          if (!isCoded(done.reason, 'CONFLICT')) wrong.add(String(done.reason));
          return;
        }
        const isWhole = records.links.has(DIGEST) && records.tags.has('v1') && records.referrers.size > 0;
        if (push === 'push' && !isWhole) wrong.add('the push is lost');
        if (push === 'pushConfig' && !records.links.has(CONFIG.digest)) wrong.add('the blob is lost');
        if (stopped.status === 'rejected' && !isCoded(stopped.reason)) wrong.add(String(stopped.reason));
      });
      t.same([...wrong], []);
      t.ok(orders > 5, `${orders} orders`);
    },
  );

t.test('an origin that wakes in a push that another one made brings nothing back', async (t) => {
  for (const bytes of [BYTES, Buffer.from(JSON.stringify(PLAIN))]) {
    const records = recordsOf('config');
    const signal = AbortSignal.abort(new CodedError('TIMEOUT'));
    const pushed = origin(records, nothing, 'mutable').push({ change: 'one', signal }, bytes);
    await t.rejects(pushed, { code: 'TIMEOUT' });
    t.same([...records.links.keys()], [CONFIG.digest]);
    t.equal(records.tags.size + records.referrers.size, 0);
  }
  const records = recordsOf('image');
  const before = new Map(records.clocks);
  const signal = AbortSignal.abort(new CodedError('TIMEOUT'));
  await t.rejects(origin(records, nothing, 'mutable').set(signal), { code: 'TIMEOUT' });
  t.same(records.clocks, before, 'a tag that is set links nothing anew');
});

for (const state of ['image', 'tagged'])
  t.test(`a tag leads to a whole image: push beside a purge of the repository of an ${state}`, async (t) => {
    const wrong = new Set<string>();
    const orders = await everyOrder(async (actor) => {
      const records = recordsOf(state);
      const [pushed, purged] = await Promise.allSettled([
        actor('push', async (step) => await origin(records, step, 'mutable').push()),
        actor('purge', async (step) => await origin(records, step, 'mutable').purge()),
      ]);
      const isWhole = records.links.has(DIGEST) && records.links.has(CONFIG.digest);
      if (records.tags.has('v1') && !isWhole) wrong.add('not whole');
      if (pushed.status !== 'fulfilled' && !isCoded(pushed.reason, 'MANIFEST_BLOB_MISSING'))
        wrong.add(String(pushed.reason));
      if (purged.status !== 'fulfilled') wrong.add(String(purged.reason));
    });
    t.same([...wrong], []);
    t.ok(orders > 20, `${orders} orders`);
  });

t.test('a delete that was cut anywhere is completed by the next', async (t) => {
  const wrong = new Set<string>();
  // Of its steps the fourth leaves the tombstone.
  for (const cutAfter of [3, 4, 5])
    await everyOrder(async (actor) => {
      const records = recordsOf('image');
      let steps = 0;
      const ended = Promise.withResolvers<void>();
      const deleting = actor('delete', async (step) => {
        const cut = async (): Promise<void> => {
          if (steps++ < cutAfter) return await step();
          ended.resolve();
          await new Promise(() => {});
        };
        await origin(records, cut, 'mutable').deleteManifest();
      });
      void deleting.then(ended.resolve, (error: unknown) => {
        if (isCoded(error, 'CONFLICT')) ended.resolve();
        else ended.reject(error);
      });
      await actor('push', async (step) => await origin(records, step, 'mutable').push());
      await ended.promise;
      await actor('again', async (step) => await origin(records, step, 'mutable').deleteManifest()).catch(
        (error: unknown) => {
          if (!isCoded(error, 'MANIFEST_UNKNOWN')) throw error;
        },
      );
      if (records.tags.has('v1') && !records.links.has(DIGEST)) wrong.add(`cut after ${cutAfter}`);
    });
  t.same([...wrong], []);
});

for (const remove of ['deleteManifest', 'deleteConfig'] as const)
  t.test(`the image of an immutable tag stays whole: push beside ${remove}`, async (t) => {
    const wrong = new Set<string>();
    await everyOrder(async (actor) => {
      const records = recordsOf(remove === 'deleteConfig' ? 'config' : 'image');
      const [pushed] = await Promise.allSettled([
        actor('push', async (step) => await origin(records, step, 'immutable').push()),
        actor('delete', async (step) => await origin(records, step, 'immutable')[remove]()),
      ]);
      const isWhole = records.tags.has('v1') && records.links.has(DIGEST) && records.links.has(CONFIG.digest);
      if (pushed.status === 'fulfilled' && !isWhole) wrong.add('not whole');
    });
    t.same([...wrong], []);
  });
