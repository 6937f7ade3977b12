import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { Leftovers } from '../../src/ring/leftovers.ts';

const MOVED = digestOf(Buffer.from('moved'));
const OWN = digestOf(Buffer.from('own'));

/** An origin o1 that keeps two pushed blobs, of which `MOVED` belongs to o2 and o3 by now. */
function world(given: {
  classes: readonly string[];
  owes?: boolean;
  epoch?: number;
  later?: number;
  isNameLost?: boolean;
  /** What brought the blob here, and what each owner says brought it there. */
  brought?: readonly string[];
  known?: readonly (readonly string[])[];
  /** What brings it while its owners are asked. */
  since?: readonly string[];
}) {
  const [classes, made] = [
    new Map([
      [MOVED, 'pushed'],
      [OWN, 'pushed'],
    ]),
    {
      removed: [] as string[],
      epoch: given.epoch ?? 2,
      suspect: undefined as string | undefined,
      asked: [] as string[],
      told: [] as string[],
      passes: 0,
      nowMs: 0,
    },
  ];
  const brought = given.isNameLost === true ? [] : (given.brought ?? ['local']);
  const provenance = brought.map((upstream) => ({ upstream, repository: 'team/app' }));
  const leftovers = new Leftovers({
    members: {
      selfId: 'o1',
      get epoch() {
        return made.epoch;
      },
      placement: (key: string) => ({ owners: key === OWN ? ['o1', 'o2'] : ['o2', 'o3'] }),
      isSuspect: (id: string) => id === made.suspect,
      json: async (id: string, call: { path: string }) => {
        made.asked.push(call.path);
        made.epoch = given.later ?? made.epoch;
        const at = id === 'o2' ? 0 : 1;
        const known = given.known === undefined ? {} : { upstreams: given.known[at] };
        return { state: 'final', class: given.classes[at], ...known };
      },
    } as never,
    standing: { isSettled: true },
    index: {
      async *list() {
        made.passes += 1;
        yield* [MOVED, OWN];
      },
      unlist: async (_store: object, digest: string) => {
        made.removed.push(digest);
      },
    } as never,
    store: {
      stat: async () => ({ attrs: { provenance } }),
      setAttrs: async (digest: never, change: (now: object) => { class: string }) => {
        const now = [
          ...provenance,
          ...(given.since ?? []).map((upstream) => ({ upstream, repository: 'x' })),
        ];
        const attrs = change({ class: classes.get(digest), provenance: now });
        classes.set(digest, attrs.class);
        return attrs;
      },
    } as never,
    hints: { owes: async () => given.owes === true },
    copies: {
      add: async (id: string) => {
        made.told.push(id);
        return { owed: 1, lacking: [] };
      },
    },
    upstreams: { keepsPushes: (name) => name !== 'local' },
    cluster: {
      upstreams: [
        { name: 'local', mode: 'none' },
        { name: 'hub', mode: 'write-back' },
        { name: 'other', mode: 'write-back' },
      ],
    } as never,
    log: silentLogger(),
    nowMs: () => made.nowMs,
  });
  return { leftovers, classes, made };
}

t.test('what moved away is cached once all of its owners have it as a pushed one', async (t) => {
  const { leftovers, classes, made } = world({ classes: ['pushed', 'pushed'] });
  t.equal(leftovers.count, undefined, 'nobody looked yet');
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

t.test('an owner that does not know of all pushes that wait for registries is told, by a copy', async (t) => {
  const brought = ['local', 'hub', 'other'];
  const classes = ['pushed', 'pushed'];
  const { leftovers, made } = world({ classes, brought, known: [brought, ['local', 'hub']] });
  await leftovers.tidy(new AbortController().signal);
  t.match(made.asked[0], /upstream=hub/, 'asked by what waits');
  t.same(made.told, ['o3']);
  t.same(made.removed, []);
  const told = world({ classes, brought, known: [brought, ['other', 'hub']] });
  await told.leftovers.tidy(new AbortController().signal);
  t.same(told.made.told, []);
  t.same(told.made.removed, [MOVED], 'what waits for no registry need not be known');
});

t.test('nothing is looked at while the ring changes, nor before it changed for the first time', async (t) => {
  for (const epoch of [3, 0]) {
    const { leftovers, made } = world({ classes: ['pushed', 'pushed'], epoch });
    await leftovers.tidy(new AbortController().signal);
    t.same(made.removed, [], `epoch ${epoch}`);
  }
});

t.test('nobody is asked about a blob while one of its owners is suspect', async (t) => {
  const { leftovers, made } = world({ classes: ['pushed', 'pushed'] });
  made.suspect = 'o3';
  await leftovers.tidy(new AbortController().signal);
  t.same(made.asked, []);
  t.equal(leftovers.count, 1);
  made.suspect = undefined;
  made.nowMs += 5_000;
  await leftovers.tidy(new AbortController().signal);
  t.same(made.removed, [MOVED]);
});

t.test('a blob whose name is lost is asked about as well', async (t) => {
  const { leftovers, made } = world({ classes: ['pushed', 'pushed'], isNameLost: true });
  await leftovers.tidy(new AbortController().signal);
  t.same(made.removed, [MOVED]);
  t.match(made.asked[0], /sepia%2Funknown|sepia\/unknown/);
});

t.test('passes that confirm nothing are made ever less often, and at once under another epoch', async (t) => {
  const { leftovers, made } = world({ classes: ['pushed', 'cached'] });
  const hourMs = 3_600_000;
  for (; made.nowMs < hourMs; made.nowMs += 1_000) await leftovers.tidy(new AbortController().signal);
  t.ok(made.passes <= 6 + hourMs / 160_000, String(made.passes));
  t.ok(made.passes >= hourMs / 170_000, String(made.passes));
  const { passes } = made;
  made.epoch += 2;
  await leftovers.tidy(new AbortController().signal);
  t.equal(made.passes, passes + 1);
});

t.test('what is pushed by something else while its owners are asked stays a pushed one', async (t) => {
  const { leftovers, classes, made } = world({ classes: ['pushed', 'pushed'], since: ['hub'] });
  await leftovers.tidy(new AbortController().signal);
  t.same([...classes.values()], ['pushed', 'pushed']);
  t.same(made.removed, []);
  t.equal(leftovers.count, 1, 'it is looked at again');
});
