import { type Digest, digestOf } from '@sepia/base/digest';
import { type LayerBinding, signBinding } from '@sepia/cluster/api/layer-binding';
import type { LazyOffer } from '@sepia/cluster/api/lazy-offers';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { judge, type Known } from '../../../src/offers/core/judge.ts';

const id = (text: string): Digest => digestOf(Buffer.from(text));
const home = { upstream: 'local', repository: 'team/app' };

function bound(layer: string, diffId: string, more: Partial<LayerBinding> = {}): LayerBinding {
  const facts = { version: 1 as const, layer: id(layer), diffId: id(diffId), home, by: 'a', atMs: 1 };
  return {
    ...signBinding(Buffer.alloc(32), { ...facts, index: id(`index ${layer}`), indexBytes: 9 }),
    ...more,
  };
}

function offer(layers: Partial<LazyOffer['layers'][number]>[], more: Partial<LazyOffer> = {}): LazyOffer {
  const whole = layers.map((one) => ({
    digest: id('l'),
    sizeBytes: 1,
    diffId: id('d'),
    isUnanswered: false,
    ...one,
  }));
  return { id: '1', ...home, manifest: id('m'), waitMs: 1_000, isNydus: false, layers: whole, ...more };
}

const nothing: Known = {
  isShown: () => false,
  layersOf: () => [],
  kindOf: () => undefined,
  readDiffId: () => undefined,
};
const showing = (diffId: string, ...layers: string[]): Known => ({
  isShown: (one) => one === id(diffId),
  layersOf: (one) => (one === id(diffId) ? layers.map(id) : []),
  kindOf: (one) => (one === id(diffId) ? 'layer' : undefined),
  readDiffId: () => undefined,
});

t.test('an image is lazy where the record of each of its layers says the diffID of its config', async (t) => {
  const layer = { digest: id('l'), diffId: id('d'), binding: bound('l', 'd') };
  t.match(judge(offer([layer]), nothing), { isLazy: true, unproven: [] });
  t.match(judge(offer([layer, { digest: id('other') }]), nothing), {
    isLazy: false,
    layers: [{ reason: undefined }, { reason: /no index of it yet/ }],
  });
  t.match(judge(offer([layer], { reason: 'fetch-with: client' }), nothing), {
    isLazy: false,
    layers: [{ reason: 'fetch-with: client' }],
  });
  t.equal(judge(offer([]), nothing).isLazy, false, 'an image without layers');
});

t.test('an image that claims another image’s diffID for its own layer is not lazy', async (t) => {
  const evil = { digest: id('evil'), diffId: id('victim'), binding: bound('evil', 'its own') };
  t.match(judge(offer([evil]), nothing), {
    isLazy: false,
    layers: [{ reason: /its diffID is .* the image says/ }],
  });
  t.match(
    judge(offer([evil]), showing('victim', 'theirs')).unproven,
    [{ diffId: id('victim') }],
    'nor may it find it',
  );
  const unknown = { digest: id('evil'), diffId: id('victim') };
  t.match(judge(offer([unknown]), showing('victim', 'theirs')), {
    unproven: [{ diffId: id('victim') }],
    forged: [],
  });
});

t.test('a bad index, or an upstream that is never lazy, is no reason to refuse what is proven', async (t) => {
  const bad = { index: id('index l'), reason: 'span 1', by: 'b', atMs: 2 };
  const layer = { binding: bound('l', 'd', { bad }) };
  t.match(judge(offer([layer]), showing('d', 'l')), { isLazy: false, unproven: [] });
  t.match(judge(offer([{ binding: bound('l', 'd') }], { reason: 'never' }), showing('d', 'l')), {
    isLazy: false,
    unproven: [],
  });
});

t.test(
  'where nobody answers, what this node has checked before counts, for the same layer alone',
  async (t) => {
    const silent = { isUnanswered: true };
    t.match(judge(offer([silent]), showing('d', 'l')), { isLazy: true, unproven: [] });
    t.match(judge(offer([{ ...silent, digest: id('evil') }]), showing('d', 'l')), {
      isLazy: false,
      unproven: [{ diffId: id('d') }],
      layers: [{ reason: /nobody in the cluster says/ }],
    });
  },
);

const BLOB = { digest: id('b'), diffId: id('b'), binding: bound('b', 'b', { kind: 'nydus-blob' }) };
const BOOTSTRAP = { binding: bound('l', 'd', { kind: 'nydus-bootstrap' }) };

t.test(
  'a Nydus image is lazy where its bootstrap and all of its data blobs are proven as such',
  async (t) => {
    const nydus = { isNydus: true };
    t.match(judge(offer([BLOB, BOOTSTRAP], nydus), nothing), { isLazy: true, claims: [], misfits: [] });
    const { binding: _none, ...unknown } = BLOB;
    t.match(judge(offer([unknown, BOOTSTRAP], nydus), nothing), { isLazy: false, misfits: [] });
    const tar = { ...BLOB, binding: bound('b', 'b') };
    t.match(judge(offer([tar, BOOTSTRAP], nydus), nothing), {
      isLazy: false,
      misfits: [id('b')],
      layers: [{ reason: /has it as its data blob, and it is an ordinary layer/ }, { reason: undefined }],
    });
    t.match(judge(offer([BOOTSTRAP, BLOB], nydus), nothing), { isLazy: false, misfits: [id('l'), id('b')] });
  },
);

t.test(
  'an ordinary image never finds a part of a Nydus image, whatever its record or its bytes say',
  async (t) => {
    const shown: Known = { ...showing('d', 'l'), kindOf: () => 'nydus-bootstrap', readDiffId: () => id('d') };
    const read = { digest: id('l'), diffId: id('d') };
    for (const layer of [BOOTSTRAP, read, { ...read, isUnanswered: true }]) {
      const verdict = judge(offer([layer]), shown);
      t.match(verdict, { isLazy: false, layers: [{ reason: /a part of a Nydus image/ }] });
      t.same([verdict.unproven.length, verdict.forged.length], [1, 1]);
    }
    t.match(judge(offer([BOOTSTRAP]), nothing), {
      isLazy: false,
      unproven: [],
      claims: [{ digest: id('l') }],
    });
    t.match(
      judge(offer([BLOB, BOOTSTRAP], { isNydus: true }), shown),
      { isLazy: false },
      'its blob is not one',
    );
  },
);

t.test('a layer that was read whole proves itself, or is forged', async (t) => {
  const layer = { digest: id('other builder'), diffId: id('base') };
  const read = (found: string): Known => ({
    ...showing('base', 'theirs'),
    readDiffId: (one) => (one === layer.digest ? id(found) : undefined),
  });
  t.match(
    judge(offer([layer]), read('base')),
    { isLazy: false, unproven: [], forged: [] },
    'pulled, not refused',
  );
  t.match(judge(offer([layer]), read('something else')), { unproven: [layer], forged: [layer] });
});

t.test('whatever is offered: nothing is lazy, or found, without a proof for that very layer', async () => {
  const names = fc.constantFrom('a', 'b', 'c');
  const layers = fc.array(
    fc.record({
      layer: names,
      claimed: names,
      record: fc.option(fc.record({ diffId: names }), { nil: undefined }),
      isUnanswered: fc.boolean(),
      read: fc.option(names, { nil: undefined }),
    }),
    { minLength: 1, maxLength: 4 },
  );
  fc.assert(
    fc.property(layers, names, names, (rows, shown, from) => {
      const readOf = new Map(rows.map(({ layer, read }) => [id(layer), read]));
      const known: Known = {
        ...showing(shown, from),
        readDiffId: (layer) => {
          const read = readOf.get(layer);
          return read === undefined ? undefined : id(read);
        },
      };
      const offered = offer(
        rows.map(({ layer, claimed, record, isUnanswered }) => ({
          ...{ digest: id(layer), diffId: id(claimed), isUnanswered },
          ...(record === undefined || isUnanswered ? {} : { binding: bound(layer, record.diffId) }),
        })),
      );
      const verdict = judge(offered, known);
      for (const [index, { layer, claimed, record, isUnanswered }] of rows.entries()) {
        const isProven = isUnanswered
          ? claimed === shown && layer === from
          : record !== undefined && record.diffId === claimed;
        if (!isProven && verdict.isLazy) return false;
        const isFound = claimed === shown;
        const isSame = readOf.get(id(layer)) === claimed;
        const isKept = verdict.unproven.includes(offered.layers[index]!);
        if (isFound && isKept !== (!isProven && !isSame)) return false;
      }
      return true;
    }),
  );
});
