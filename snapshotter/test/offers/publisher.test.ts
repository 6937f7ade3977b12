import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { signBinding } from '@sepia/cluster/api/layer-binding';
import type { LazyAnswer, LazyOffer } from '@sepia/cluster/api/lazy-offers';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import type { LazyLayer } from '../../src/layers/lazy-layer.ts';
import { ImageTable } from '../../src/offers/image-table.ts';
import { Publisher } from '../../src/offers/publisher.ts';

const id = (text: string): Digest => digestOf(Buffer.from(text));

function offerOf(...names: string[]): LazyOffer {
  const home = { upstream: 'local', repository: 'team/app' };
  const layers = names.map((name) => {
    const facts = { version: 1 as const, layer: id(name), diffId: id(`d ${name}`), home, by: 'a', atMs: 1 };
    const binding = signBinding(Buffer.alloc(32), { ...facts, index: id(`i ${name}`), indexBytes: 1 });
    return { digest: id(name), sizeBytes: 1, diffId: id(`d ${name}`), isUnanswered: false, binding };
  });
  return { id: 'offer', ...home, manifest: id('m'), waitMs: 1_000, layers };
}

/** A publisher with one offer; what it shows and answers. */
function published(
  t: Test,
  offer: LazyOffer,
  cannotOpen: readonly string[] = [],
  shownAlready: string[] = [],
  /** What each layer holds, to who reads it whole. */
  holds: Readonly<Record<string, string>> = {},
) {
  let nowMs = 0;
  const shown: string[] = [];
  const answers: LazyAnswer[] = [];
  const granted: string[] = [];
  const images = new ImageTable();
  const read = new Map<Digest, Digest>();
  const queue = [[offer]];
  const publisher = new Publisher({
    agent: {
      offers: async (signal) => {
        const next = queue.shift();
        if (next !== undefined) return next;
        await new Promise<void>((settle) => signal.addEventListener('abort', () => settle(), { once: true }));
        return [];
      },
      answer: async (_id, answer) => void answers.push(answer),
    },
    door: { has: async (diffId) => shownAlready.some((one) => id(one) === diffId) },
    images,
    proofs: {
      diffIdOf: (layer) => read.get(layer),
      prove: async (image, { digest }) => {
        t.same(image, { host: 'local', repository: 'team/app' });
        const [, found] = Object.entries(holds).find(([name]) => id(name) === digest) ?? [];
        if (found === undefined) throw new CodedError('TIMEOUT', { message: 'no bytes came' });
        read.set(digest, id(found));
      },
    },
    layersOf: () => [],
    open: async (_offer, { digest }) => {
      if (cannotOpen.some((one) => id(one) === digest))
        throw new CodedError('TIMEOUT', { message: 'no index came' });
      if (digest === id('slow')) nowMs += 5_000;
      return { index: { layer: digest, entries: [] } } as unknown as LazyLayer;
    },
    show: async (layer) => void shown.push(layer.index.layer),
    grant: ({ manifest }) => void granted.push(manifest),
    log: silentLogger(),
    nowMs: () => nowMs,
    wallMs: () => 7,
  });
  t.teardown(() => publisher.stop());
  return { shown, granted, answers, images, answered: () => until(() => answers.length > 0, 'an answer') };
}

t.test('all layers are shown, the lowest last', async (t) => {
  const run = published(t, offerOf('low', 'high'));
  await run.answered();
  t.same(run.answers, [{ isShown: true }]);
  t.same(run.shown, [id('high'), id('low')]);
  t.same(run.granted, [id('m')]);
  t.match(run.images.list(), [{ image: 'local/team/app', isLazy: true, atMs: 7 }]);
});

t.test('one layer that cannot be opened hides them all, and says why', async (t) => {
  const run = published(t, offerOf('low', 'high'), ['high']);
  await run.answered();
  t.same(run.answers, [{ isShown: false }]);
  t.same([run.shown, run.granted], [[], []]);
  t.match(run.images.list(), [
    { isLazy: false, layers: [{ reason: undefined }, { reason: 'no index came' }] },
  ]);
});

t.test('what comes after the agent’s wait is not shown', async (t) => {
  const run = published(t, offerOf('slow'));
  await run.answered();
  t.same([run.shown, run.granted], [[], []]);
  t.match(run.images.list(), [{ isLazy: false, reason: /too late/ }]);
});

const claiming = (diffId: string): LazyOffer => {
  const offer = offerOf('mine');
  return { ...offer, layers: [{ ...offer.layers[0]!, diffId: id(diffId) }] };
};

t.test('an image that would find another image’s layer is refused by name', async (t) => {
  const run = published(t, claiming('private'), [], ['private'], { mine: 'something else' });
  await run.answered();
  const refusal = new RegExp(`names ${id('private')} as its layer ${id('mine')}.*no runtime unpacks it`);
  t.match(run.answers, [{ isShown: false, refusal, isPending: false }]);
  t.same([run.shown, run.granted], [[], []]);
});

t.test('one whose layer holds the same bytes is pulled the ordinary way', async (t) => {
  const run = published(t, claiming('base'), [], ['base'], { mine: 'base' });
  await run.answered();
  t.same(run.answers, [{ isShown: false }]);
  t.match(run.images.list(), [{ isLazy: false, reason: undefined }]);
});

t.test('while that is not known it is not let through, and may be asked again', async (t) => {
  const run = published(t, claiming('private'), [], ['private']);
  await run.answered();
  t.match(run.answers, [{ isShown: false, refusal: /is being read whole/, isPending: true }]);
});
