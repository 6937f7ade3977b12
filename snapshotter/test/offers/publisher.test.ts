import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { bugsSeen } from '@sepia/base/failure';
import { silentLogger } from '@sepia/base/log';
import { signBinding } from '@sepia/cluster/api/layer-binding';
import type { LazyAnswer, LazyOffer } from '@sepia/cluster/api/lazy-offers';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import type { LazyLayer } from '../../src/layers/lazy-layer.ts';
import { Findable } from '../../src/offers/core/findable.ts';
import { ImageTable } from '../../src/offers/image-table.ts';
import { Publisher } from '../../src/offers/publisher.ts';

const id = (text: string): Digest => digestOf(Buffer.from(text));

/** Lets all go on that waits for no more than promises. */
const turn = async (): Promise<void> => await new Promise((settle) => setImmediate(settle));

function offerOf(...names: string[]): LazyOffer {
  const home = { upstream: 'local', repository: 'team/app' };
  const layers = names.map((name) => {
    const facts = { version: 1 as const, layer: id(name), diffId: id(`d ${name}`), home, by: 'a', atMs: 1 };
    const binding = signBinding(Buffer.alloc(32), { ...facts, index: id(`i ${name}`), indexBytes: 1 });
    return { digest: id(name), sizeBytes: 1, diffId: id(`d ${name}`), isUnanswered: false, binding };
  });
  return { id: 'offer', ...home, manifest: id('m'), waitMs: 1_000, isNydus: false, layers };
}

/** Layers of Nydus images as their indexes say: kind, then data blobs. */
const parts = new Map<Digest, readonly string[]>([
  [id('boot'), ['nydus-bootstrap', 'blob']],
  [id('greedy'), ['nydus-bootstrap', 'blob', 'private']],
  [id('blob'), ['nydus-blob']],
]);

/** A publisher with one offer, or several that it gets one after the other; what it shows and answers. */
function published(
  t: Test,
  offers: LazyOffer | readonly LazyOffer[],
  cannotOpen: readonly string[] = [],
  shownAlready: string[] = [],
  /** What each layer holds, to who reads it whole. */
  holds: Readonly<Record<string, string>> = {},
  /** What happens before a layer is read whole. */
  onProve: (layer: Digest) => void | Promise<void> = () => undefined,
  leavesNydus = false,
) {
  let nowMs = 0;
  let answered = Promise.resolve();
  let tell = (): void => undefined;
  const shown: string[] = [];
  const answers: LazyAnswer[] = [];
  const granted: string[] = [];
  const starts: string[] = [];
  const images = new ImageTable();
  const read = new Map<Digest, Digest>();
  const queue = [offers].flat();
  const findable = new Findable(shownAlready.map(id));
  const publisher = new Publisher({
    agent: {
      offers: async (signal) => {
        await answered;
        await turn();
        const next = queue.shift();
        answered = new Promise((settle) => {
          tell = settle;
        });
        if (next !== undefined) return [next];
        if (signal.aborted) return [];
        await new Promise<void>((settle) => signal.addEventListener('abort', () => settle(), { once: true }));
        return [];
      },
      answer: async (_id, answer) => {
        answers.push(answer);
        tell();
      },
    },
    ...{ findable, leavesNydus },
    images,
    proofs: {
      diffIdOf: (layer) => read.get(layer),
      prove: async (image, { digest }) => {
        t.match(image, { host: 'local', repository: /^team\/(?:app|thief)$/ });
        await onProve(digest);
        const [, found] = Object.entries(holds).find(([name]) => id(name) === digest) ?? [];
        if (found === undefined) throw new CodedError('TIMEOUT', { message: 'no bytes came' });
        read.set(digest, id(found));
      },
    },
    layersOf: () => [],
    kindOf: () => undefined,
    open: async (_offer, { digest }) => {
      if (cannotOpen.some((one) => id(one) === digest))
        throw new CodedError('TIMEOUT', { message: 'no index came' });
      if (digest === id('slow')) nowMs += 5_000;
      const [kind = 'layer', ...sources] = parts.get(digest) ?? [];
      const index = { layer: digest, kind, sources: sources.map((one) => ({ digest: id(one) })) };
      const found = { layer: 0, path: 'etc/.wh.x', reason: 'whiteout-in-lowest-layer' };
      const lowestConflict = async () => (digest === id('whiteouts') ? found : undefined);
      return { index, implied: [], lowestConflict } as unknown as LazyLayer;
    },
    show: async (layer) => void shown.push(layer.index.layer),
    grant: ({ manifest }) => void granted.push(manifest),
    expectStart: ({ manifest }, layers) => void starts.push(`${manifest} ${layers.length}`),
    log: silentLogger(),
    nowMs: () => nowMs,
    wallMs: () => 7,
  });
  t.teardown(() => publisher.stop());
  const untilAnswered = async (count = 1) => await until(() => answers.length >= count, `${count} answers`);
  return { shown, granted, starts, answers, images, answered: untilAnswered };
}

t.test('all layers are shown, the lowest last', async (t) => {
  const run = published(t, offerOf('low', 'high'));
  await run.answered();
  t.same(run.answers, [{ isShown: true }]);
  t.same(run.shown, [id('high'), id('low')]);
  t.same(run.granted, [id('m')]);
  t.same(run.starts, [`${id('m')} 2`]);
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

t.test('a lowest layer that would show what unpacking takes away hides them all', async (t) => {
  const run = published(t, offerOf('whiteouts', 'high'));
  await run.answered();
  t.same([run.answers, run.shown], [[{ isShown: false }], []]);
  t.match(run.images.list(), [{ isLazy: false, reason: /\(whiteout-in-lowest-layer: etc\/\.wh\.x\)/ }]);
  const other = published(t, offerOf('low', 'whiteouts'));
  await other.answered();
  t.same(other.answers, [{ isShown: true }], 'above another layer it may be');
});

t.test('what comes after the agent’s wait is not shown', async (t) => {
  const run = published(t, offerOf('slow'));
  await run.answered();
  t.same([run.shown, run.granted], [[], []]);
  t.match(run.images.list(), [{ isLazy: false, reason: /too late/ }]);
});

function nydusOf(blob: string, boot: string): LazyOffer {
  const offer = offerOf(blob, boot);
  const layers = offer.layers.map((layer, index) => {
    const kind = index === 0 ? ('nydus-blob' as const) : ('nydus-bootstrap' as const);
    return { ...layer, binding: { ...layer.binding!, kind } };
  });
  return { ...offer, isNydus: true, layers };
}

t.test('a Nydus image is shown, or refused with the reason: nothing could unpack it', async (t) => {
  const run = published(t, [nydusOf('blob', 'boot'), nydusOf('other', 'boot')]);
  await run.answered(2);
  t.same(run.answers[0], { isShown: true });
  t.same(run.shown, [id('boot'), id('blob')]);
  t.match(run.answers[1], {
    isShown: false,
    unusable: /Nydus image.*not mounted: its layer .*an ordinary layer/,
  });
  const unknown = nydusOf('blob', 'boot');
  const { binding: _none, ...layer } = unknown.layers[0]!;
  const other = published(t, { ...unknown, layers: [layer, unknown.layers[1]!] });
  await other.answered();
  t.match(other.answers, [
    { isShown: false, isPending: false, unusable: /not mounted: its layer .*no index/ },
  ]);
  t.same(other.shown, []);
});

t.test('where nydus-snapshotter has them, Nydus images are let through, but find nothing', async (t) => {
  const leave = (...offers: LazyOffer[]) => published(t, offers, [], ['private'], {}, undefined, true);
  const run = leave(nydusOf('blob', 'boot'));
  await run.answered();
  t.same(run.answers, [{ isShown: false }]);
  t.same([run.shown, run.granted], [[], []]);
  t.match(run.images.list(), [{ isLazy: false, reason: /leaves to nydus-snapshotter/ }]);
  const [blob, boot] = nydusOf('blob', 'boot').layers;
  const thief = leave({ ...nydusOf('blob', 'boot'), layers: [{ ...blob!, diffId: id('private') }, boot!] });
  await thief.answered();
  t.match(thief.answers, [{ isShown: false, refusal: /names .* as its layer/ }]);
});

t.test('a bootstrap opens no data blob that its image does not have', async (t) => {
  const run = published(t, nydusOf('blob', 'greedy'));
  await run.answered();
  const unusable = new RegExp(`needs the data blob ${id('private')}, which is no layer of the image`);
  t.match(run.answers, [{ isShown: false, unusable }]);
  t.same([run.shown, run.granted], [[], []]);
});

t.test('what an ordinary image has of a Nydus image stands in its way: it would find its tree', async (t) => {
  const unknown = offerOf('boot');
  const first = { ...unknown, layers: unknown.layers.map(({ binding: _none, ...layer }) => layer) };
  const run = published(t, [first, nydusOf('blob', 'boot')]);
  await run.answered(2);
  t.same(run.answers[0], { isShown: false });
  t.match(run.answers[1], { isShown: false, unusable: /says that its layer/ });
  t.same(run.shown, []);
});

t.test(
  'a Nydus image that is not shown may go out: what it claims of others stands in their way, not in its own',
  async (t) => {
    const known = nydusOf('blob', 'boot');
    const unbound = (offer: LazyOffer): LazyOffer => ({
      ...offer,
      layers: offer.layers.map(({ binding: _none, ...layer }) => layer),
    });
    const own = published(t, [unbound(known), known]);
    await own.answered(2);
    t.match(own.answers[0], { isShown: false, unusable: /no index/ });
    t.same(own.answers[1], { isShown: true }, 'it was pulled before its index was there');
    // Somebody's image names the layer, and has no right to its data blobs.
    const thief = { ...unbound(known), repository: 'team/thief', manifest: id('theirs') };
    const run = published(t, [thief, known]);
    await run.answered(2);
    t.match(run.answers[1], {
      isShown: false,
      unusable: new RegExp(`team/thief that is pulled here says that its layer ${id('boot')}`),
    });
    t.same(run.shown, []);
    const forged = unbound(nydusOf('blob', 'mine'));
    const named = {
      ...forged,
      layers: [forged.layers[0]!, { ...forged.layers[1]!, diffId: id('d private') }],
    };
    const victim = published(t, [named, offerOf('private')]);
    await victim.answered(2);
    t.same(victim.answers[1], { isShown: false }, 'an ordinary layer is not shown under what it claims');
    t.same(victim.shown, []);
  },
);

t.test('a data blob of several Nydus images is an empty tree to each', async (t) => {
  const first = nydusOf('blob', 'boot-1');
  const unknown = first.layers.map(({ binding: _none, ...layer }) => layer);
  const run = published(t, [{ ...first, manifest: id('m1'), layers: unknown }, nydusOf('blob', 'boot')]);
  await run.answered(2);
  t.same(run.answers[1], { isShown: true });
});

const claiming = (diffId: string, layer = 'mine'): LazyOffer => {
  const offer = offerOf(layer);
  return { ...offer, layers: [{ ...offer.layers[0]!, diffId: id(diffId) }] };
};

t.test('an image that would find another image’s layer is refused by name', async (t) => {
  const run = published(t, claiming('private'), [], ['private'], { mine: 'something else' });
  await run.answered();
  const refusal = new RegExp(`names ${id('private')} as its layer ${id('mine')}.*no runtime unpacks it`);
  t.match(run.answers, [{ isShown: false, refusal, isPending: false }]);
  t.same([run.shown, run.granted], [[], []]);
});

t.test('one that the agent refused by itself is known with the reason', async (t) => {
  const told = { ...offerOf(), reason: 'its pull is refused: its manifest is odd' };
  const run = published(t, told);
  await run.answered();
  t.same(run.answers, [{ isShown: false }]);
  t.match(run.images.list(), [{ isLazy: false, reason: told.reason, layers: [] }]);
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

t.test('one whose repository has no such layer is refused at once, and for itself alone', async (t) => {
  const lacks = (repository: string) => (digest: Digest) => {
    throw new CodedError('BLOB_UNKNOWN', { detail: { host: 'local', repository, digest } });
  };
  const own = published(t, claiming('private'), [], ['private'], {}, lacks('team/app'));
  await own.answered();
  t.match(own.answers, [{ isShown: false, refusal: /is not in its repository$/, isPending: false }]);
  const other = published(t, claiming('private'), [], ['private'], {}, lacks('team/thief'));
  await other.answered();
  t.match(other.answers, [{ isShown: false, refusal: /is being read whole/, isPending: true }]);
});

t.test('what an image claimed without a proof is not shown while that image may look for it', async (t) => {
  const victim = offerOf('low', 'high');
  const run = published(t, [claiming('d high', 'evil'), victim], [], [], { evil: 'something else' });
  await run.answered(2);
  t.same(run.answers, [{ isShown: false }, { isShown: false }], 'both are pulled the ordinary way');
  t.same([run.shown, run.granted], [[], []]);
  const why = new RegExp(`says that its layer ${id('evil')} is ${id('d high')}`);
  t.match(run.images.list(), [{ isLazy: false, reason: why }]);
});

t.test('once that is found false, the reason says so', async (t) => {
  const victim = offerOf('high');
  const offers = [claiming('d high', 'evil'), victim, victim, victim];
  const run = published(t, offers, [], [], { evil: 'something else' });
  await run.answered(4);
  t.same(run.shown, []);
  const reason = new RegExp(`is ${id('d high')}, but that holds ${id('something else')}: until a day after`);
  t.match(run.images.list(), [{ isLazy: false, reason }]);
});

t.test('of many claims a few are read at a time, and each has its turn', async (t) => {
  const names = Array.from({ length: 30 }, (_none, at) => `evil ${at}`);
  const many = offerOf(...names);
  const evil = { ...many, layers: many.layers.map((one) => ({ ...one, diffId: id('d high') })) };
  const begun: Digest[] = [];
  let running = 0;
  let most = 0;
  const pulls = 40;
  const read = async (layer: Digest): Promise<void> => {
    begun.push(layer);
    running += 1;
    most = Math.max(most, running);
    // It lasts for two more pulls.
    const end = Math.min(run.answers.length + 2, pulls);
    while (run.answers.length < end) await turn();
    running -= 1;
  };
  const run = published(t, [evil, ...Array.from({ length: pulls }, () => offerOf('high'))], [], [], {}, read);
  await run.answered(1 + pulls);
  t.same(run.shown, []);
  t.ok(most <= 4, `${most} at a time`);
  t.same(new Set(begun), new Set(names.map(id)), 'none is left out, though all fail');
});

t.test('a bug in reading a claim ends nothing, and is counted once', async (t) => {
  const before = bugsSeen();
  const bug = (): never => {
    throw new TypeError('ours');
  };
  const run = published(t, [claiming('d high', 'evil'), offerOf('high')], [], [], {}, bug);
  await run.answered(2);
  await until(() => bugsSeen() > before, 'it is counted');
  t.equal(bugsSeen(), before + 1);
});

t.test('a claim that turns out to be true stands in nobody’s way', async (t) => {
  const offers = [claiming('d base', 'other builder'), offerOf('base'), offerOf('base')];
  const run = published(t, offers, [], [], { 'other builder': 'd base' });
  await run.answered(3);
  t.same(run.answers, [{ isShown: false }, { isShown: false }, { isShown: true }]);
});

t.test('an image that was pulled before its layers had records is lazy at the next pull', async (t) => {
  const unknown = offerOf('low');
  const first = { ...unknown, layers: unknown.layers.map(({ binding: _none, ...layer }) => layer) };
  const run = published(t, [first, unknown]);
  await run.answered(2);
  t.same(run.answers, [{ isShown: false }, { isShown: true }]);
});
