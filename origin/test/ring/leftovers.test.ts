import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { Leftovers } from '../../src/ring/leftovers.ts';

const MOVED = digestOf(Buffer.from('moved'));
const OWN = digestOf(Buffer.from('own'));

/** An origin o1 that keeps two pushed blobs, of which `MOVED` belongs to o2 and o3 by now. */
function world(given: { classes: readonly string[]; owes?: boolean; epoch?: number; later?: number }) {
  const [classes, made] = [
    new Map([
      [MOVED, 'pushed'],
      [OWN, 'pushed'],
    ]),
    { removed: [] as string[], epoch: given.epoch ?? 2 },
  ];
  const provenance = [{ upstream: 'local', repository: 'team/app' }];
  const leftovers = new Leftovers({
    members: {
      selfId: 'o1',
      get epoch() {
        return made.epoch;
      },
      placement: (key: string) => ({ owners: key === OWN ? ['o1', 'o2'] : ['o2', 'o3'] }),
      json: async (id: string) => {
        made.epoch = given.later ?? made.epoch;
        return { state: 'final', class: given.classes[id === 'o2' ? 0 : 1] };
      },
    } as never,
    standing: { isSettled: true },
    index: {
      async *list() {
        yield* [MOVED, OWN];
      },
      removed: async (digest: string) => {
        made.removed.push(digest);
      },
    } as never,
    store: {
      stat: async () => ({ attrs: { provenance } }),
      setAttrs: async (digest: never, change: { class: string }) => classes.set(digest, change.class),
    } as never,
    hints: { owes: async () => given.owes === true },
    log: silentLogger(),
  });
  return { leftovers, classes, made };
}

t.test('what moved away is cached once all of its owners have it as a pushed one', async (t) => {
  const { leftovers, classes, made } = world({ classes: ['pushed', 'pushed'] });
  await leftovers.tidy(new AbortController().signal);
  t.same([...classes.values()], ['cached', 'pushed']);
  t.same(made.removed, [MOVED]);
  t.equal(leftovers.count, 0);
});

t.test('it stays as it is, and is counted, as long as that is not sure', async (t) => {
  for (const given of [
    { classes: ['pushed', 'cached'] },
    { classes: ['pushed', 'pushed'], owes: true },
    { classes: ['pushed', 'pushed'], later: 3 },
  ]) {
    const { leftovers, classes, made } = world(given);
    await leftovers.tidy(new AbortController().signal);
    t.same([...classes.values()], ['pushed', 'pushed'], JSON.stringify(given));
    t.same(made.removed, []);
  }
  const { leftovers } = world({ classes: ['pushed', 'cached'] });
  await leftovers.tidy(new AbortController().signal);
  t.equal(leftovers.count, 1);
});

t.test('nothing is looked at while the ring changes, nor before it changed for the first time', async (t) => {
  for (const epoch of [3, 0]) {
    const { leftovers, made } = world({ classes: ['pushed', 'pushed'], epoch });
    await leftovers.tidy(new AbortController().signal);
    t.same(made.removed, [], `epoch ${epoch}`);
  }
});
