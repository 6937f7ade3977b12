import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { ConversionJob, ConversionTask } from '@sepia/cluster/api/conversions';
import type { Cluster } from '@sepia/cluster/cluster';
import { CONVERSION_RULE } from '@sepia/cluster/conversion-rule';
import { type Document, documentOf, sourceMarks } from '@sepia/lazy/convert/documents';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { fileImage } from '@sepia/test-support/clients/file-image';
import { LogLines } from '@sepia/test-support/log-lines';
import t from 'tap';
import type { LayerRecords } from '../src/net/layer-records.ts';
import type { Proxies } from '../src/net/proxies.ts';
import { scanOnce } from '../src/scan.ts';

const SIGNAL = new AbortController().signal;

/** A repository `a` as the cluster shows it. */
class World {
  readonly tags = new Map<string, Document>();
  readonly byDigest = new Map<string, Document>();
  readonly repositories = ['a'];
  /** What is answered instead, by the path's beginning. */
  readonly failures = new Map<string, CodedError>();
  readonly log = new LogLines();
  /** What the queue has on record. */
  jobs: Pick<ConversionJob, 'payload' | 'state' | 'result' | 'endedAtMs'>[] = [];
  /** What the last scan put in. */
  tasks: ConversionTask[] = [];
  /** What the last scan came to. */
  result = { added: 0, full: 0 };
  isFull: (task: ConversionTask) => boolean = () => false;
  /** Has the queue a job of it, or is it settled, since the scan began? */
  isKnown: (task: ConversionTask) => boolean = () => false;
  nowMs = 0;

  put(tag: string | undefined, json: object, mediaType = OCI_MANIFEST): Document {
    const document = documentOf(json as Record<string, unknown>, mediaType);
    if (tag !== undefined) this.tags.set(tag, document);
    this.byDigest.set(document.digest, document);
    return document;
  }

  readonly proxies = {
    bytes: async ({ path }: { path: string }) => {
      const json = (value: unknown) => ({ bytes: Buffer.from(JSON.stringify(value)), headers: {} });
      for (const [beginning, error] of this.failures) if (path.startsWith(beginning)) throw error;
      if (path.startsWith('/v2/_catalog')) return json({ repositories: this.repositories });
      if (path.startsWith('/v2/a/tags/list')) return json({ tags: [...this.tags.keys()] });
      const reference = path.split('/').at(-1)!;
      if (path.startsWith('/v2/a/referrers/')) return json({ manifests: [] });
      const found = this.tags.get(reference) ?? this.byDigest.get(reference);
      if (found === undefined) throw new CodedError('MANIFEST_UNKNOWN');
      return { bytes: found.bytes, headers: { 'content-type': found.mediaType } };
    },
  } as unknown as Proxies;

  /** The tags that a scan by this rule puts into the queue. */
  async scanned(keys: object = {}): Promise<string[]> {
    const conversions = [CONVERSION_RULE.parse({ name: 'r', from: 'u', repositories: ['**'], ...keys })];
    const tasks: ConversionTask[] = [];
    this.tasks = tasks;
    const addFound = async (task: ConversionTask): Promise<{ isNew: boolean }> => {
      if (this.isFull(task)) throw new CodedError('OVERLOADED');
      tasks.push(task);
      return { isNew: !this.isKnown(task) };
    };
    const queue = { addFound, list: async () => this.jobs };
    this.result = await scanOnce(
      {
        cluster: { document: { conversions } } as unknown as Cluster,
        proxies: this.proxies,
        queue: queue as never,
        records: undefined as unknown as LayerRecords,
        log: this.log.logger,
        chance: () => 0,
        dateMs: () => this.nowMs,
      },
      SIGNAL,
    );
    return tasks.map(({ tag }) => tag);
  }
}

/** What cosign pushes: an image by its config, without a layer that is a tar. */
const signatureOf = (image: object): object => ({
  ...image,
  layers: [
    {
      mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json',
      digest: `sha256:${'1'.repeat(64)}`,
      size: 9,
    },
  ],
});

t.test('a queue without a place for one leaves the others their places', async (t) => {
  const world = new World();
  for (const tag of ['1', '2', '3']) world.put(tag, fileImage(tag).manifest);
  world.isFull = ({ tag }) => tag === '2';
  t.same(await world.scanned(), ['1', '3']);
  t.same(world.result, { added: 2, full: 1 });
});

t.test(
  'what the queue has already, or is settled since the scan began, does not count as found',
  async (t) => {
    const world = new World();
    for (const tag of ['1', '2']) world.put(tag, fileImage(tag).manifest);
    world.isKnown = ({ tag }) => tag === '2';
    await world.scanned();
    t.same(world.result, { added: 1, full: 0 });
  },
);

t.test('a scan puts in only what a job would do', async (t) => {
  const world = new World();
  const image = fileImage('x').manifest;
  const one = world.put('1', image);
  world.put('sha256-1.sig', signatureOf(image));
  for (const result of ['tag', 'image-index', 'referrer'])
    t.same(await world.scanned({ result }), ['1'], result);
  t.same(await world.scanned({ 'min-size': '1MiB' }), [], 'too small');
  t.same(await world.scanned({ 'max-size': '1B' }), [], 'too large');

  // An index whose child is a result by what the child says alone.
  const made = world.put(undefined, { ...image, annotations: sourceMarks(one.digest, 'estargz') });
  const child = { mediaType: OCI_MANIFEST, digest: made.digest, size: made.bytes.length };
  world.put('copy', { schemaVersion: 2, manifests: [child] }, OCI_INDEX);
  t.same(await world.scanned(), ['1']);

  world.put('1-estargz', { ...image, annotations: sourceMarks(one.digest, 'estargz') });
  t.same(await world.scanned(), [], 'converted');
  world.put('1', fileImage('newer').manifest);
  t.same(await world.scanned(), ['1'], 'moved');
});

t.test('a result that cannot be taken away is left alone for an hour', async (t) => {
  const world = new World();
  const rule = { 'delete-with-source': true };
  const image = fileImage('x').manifest;
  world.put('1-estargz', { ...image, annotations: sourceMarks(digestOf(Buffer.from('gone')), 'estargz') });
  t.same(await world.scanned(rule), ['1']);
  const payload = world.tasks[0]!;
  t.equal(payload.kind, 'remove');
  const skipped = { outcome: 'skipped', reason: 'why' } as const;
  world.jobs = [{ payload, state: 'done', result: skipped, endedAtMs: 0 }];
  t.same(await world.scanned(rule), ['1'], 'as when the source came back and went again');
  world.jobs = [{ payload, state: 'done', result: { ...skipped, stays: true }, endedAtMs: 0 }];
  t.same(await world.scanned(rule), []);
  world.nowMs = 3_600_000;
  t.same(await world.scanned(rule), ['1']);
});

t.test('a result that the rule would make otherwise now counts as none', async (t) => {
  const image = fileImage('x').manifest;
  const usual = { 'tag-suffix': '-fast' };
  const others = [
    [{ ...usual, to: 'nydus' }, 'nydus', undefined],
    [{ ...usual, level: 9 }, 'estargz', 'level=9'],
    [{ ...usual, platforms: ['linux/s390x', 'linux/amd64'] }, 'estargz', 'platforms=linux/amd64,linux/s390x'],
    [{ ...usual, result: 'image-index' }, 'estargz', 'form=image-index'],
  ] as const;
  for (const [rule, format, options] of others) {
    const world = new World();
    const one = world.put('1', image);
    world.put('1-fast', { ...image, annotations: sourceMarks(one.digest, 'estargz') });
    t.same(await world.scanned(usual), [], 'as the rule was');
    t.same(await world.scanned({ ...usual, level: 6 }), [], 'the usual level');
    t.same(await world.scanned(rule), ['1'], 'the rule has changed');
    world.put('1-fast', { ...image, annotations: sourceMarks(one.digest, format, options) });
    t.same(await world.scanned(rule), [], 'made again');
    t.same(await world.scanned(usual), ['1'], 'and changed back');
  }
});

/** The tags that the log names as left out, and how many were. */
function leftOut({ log }: World): { tags: unknown[]; count: unknown } {
  return {
    tags: log.matching(/could not look at this/).map(({ tag }) => tag),
    count: log.matching(/some repositories or tags/)[0]?.['refused'],
  };
}

t.test('what is refused of one tag leaves out that tag alone', async (t) => {
  const world = new World();
  world.put('bad', { schemaVersion: 2, layers: 'none' });
  world.put('denied', fileImage('y').manifest);
  world.put('1', fileImage('x').manifest);
  world.failures.set('/v2/a/manifests/denied', new CodedError('AUTH_DENIED'));
  t.same(await world.scanned(), ['1']);
  t.same(leftOut(world), { tags: ['bad', 'denied'], count: 2 });
});

t.test('a manifest that is not valid in the place of a result leaves out that tag alone', async (t) => {
  const world = new World();
  const image = fileImage('x').manifest;
  world.put('0-estargz', { schemaVersion: 2, layers: 'none' });
  const gone = documentOf(fileImage('gone').manifest as Record<string, unknown>, OCI_MANIFEST);
  world.put('1-estargz', { ...image, annotations: sourceMarks(gone.digest, 'estargz') });
  t.same(await world.scanned({ 'delete-with-source': true }), ['1']);
  t.same(leftOut(world), { tags: ['0-estargz'], count: 1 });
});

t.test('a repository that may not be read leaves out that one alone', async (t) => {
  const world = new World();
  world.repositories.unshift('private');
  world.put('1', fileImage('x').manifest);
  world.failures.set('/v2/private/', new CodedError('AUTH_DENIED'));
  t.same(await world.scanned(), ['1']);
  t.match(world.log.matching(/could not look at this/), [{ repository: 'private' }]);
});

t.test('the log of a scan that is refused everywhere has an end', async (t) => {
  const world = new World();
  for (let n = 0; n < 100; n += 1) world.put(`t${n}`, { schemaVersion: 2, layers: 'none' });
  t.same(await world.scanned(), []);
  const { tags, count } = leftOut(world);
  t.equal(count, 100);
  t.equal(tags.length, 20);
});

t.test('silence ends a scan', async (t) => {
  const world = new World();
  world.put('1', fileImage('x').manifest);
  world.failures.set('/v2/a/tags/list', new CodedError('NO_PEERS'));
  await t.rejects(world.scanned(), { code: 'NO_PEERS' });
});

t.test('what was cancelled, or died lately, is not put in again', async (t) => {
  const world = new World();
  world.put('1', fileImage('x').manifest);
  world.put('2', fileImage('y').manifest);
  t.same(await world.scanned(), ['1', '2']);
  const [payload] = world.tasks;
  t.equal(payload?.digest, world.tags.get('1')?.digest);
  world.jobs = [{ payload: payload!, state: 'dead', endedAtMs: 1_000 }];
  world.nowMs = 60_000;
  t.same(await world.scanned(), ['2'], 'dead for a minute');
  t.same(await world.scanned({ name: 'other' }), ['1', '2'], 'by another rule');
  world.nowMs = 3_700_000;
  t.same(await world.scanned(), ['1', '2'], 'dead for an hour');
  world.jobs = [{ payload: payload!, state: 'cancelled', endedAtMs: 1_000 }];
  t.same(await world.scanned(), ['2'], 'cancelled');
  world.put('1', fileImage('newer').manifest);
  t.same(await world.scanned(), ['1', '2'], 'moved since');
});
