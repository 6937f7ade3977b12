import type { Digest } from '@sepia/base/digest';
import t from 'tap';
import type { GcLink, GcReferrer, RepositoryView } from '../../../src/gc/core/mark.ts';
import {
  type GcAsk,
  type GcRead,
  sweepBackend,
  sweepBytes,
  sweepRepository,
} from '../../../src/gc/core/sweep.ts';

const RULES = { nowMs: 10_000, graceMs: 1_000, dryRun: false };

function named(text: string): Digest {
  return `sha256:${text}` as Digest;
}

interface Facts {
  readonly roots?: readonly string[];
  readonly further?: readonly string[];
  /** Digest → clock; manifests begin with m. */
  readonly links: Readonly<Record<string, number>>;
  readonly referrers?: readonly (readonly [subject: string, digest: string, atMs: number])[];
}

function viewOf({ roots = [], further, links, referrers = [] }: Facts): RepositoryView {
  const entries = Object.entries(links).map(([name, atMs]): [Digest, GcLink] => {
    const digest = named(name);
    return [digest, { digest, atMs, sizeBytes: 10, isManifest: name.startsWith('m') }];
  });
  const entriesBySubject = referrers.map(
    ([subject, digest, atMs]): GcReferrer => ({ subject: named(subject), digest: named(digest), atMs }),
  );
  const view = { roots: roots.map(named), links: new Map(entries), referrers: entriesBySubject };
  return further === undefined ? view : { ...view, further: further.map(named) };
}

const NAMES: Readonly<Record<string, readonly string[]>> = {
  m1: ['b1', 'b2'],
  m2: ['b2', 'b3'],
  mi: ['m1', 'm2'],
  ms: ['b4'],
  i1: ['x1', 'b1'],
  x1: ['b2'],
};

/** What begins with i calls all by no type; what no manifest has a list of is none. */
function namesIn(name: string): GcRead {
  const list = NAMES[name]?.map(named);
  if (list === undefined) return 'no-manifest';
  return name.startsWith('i') ? { blobs: [], manifests: list } : { blobs: list, manifests: [] };
}

/** Runs the sweep of a repository whose first and second view are given; returns what it asked and did. */
function run(
  views: readonly Facts[],
  options: { busy?: string[]; rules?: Partial<typeof RULES & { atOnce: number }>; unreadable?: string } = {},
) {
  const machine = sweepRepository({ ...RULES, ...options.rules });
  const asked: GcAsk[] = [];
  let turn = 0;
  let next = machine.next();
  while (next.done !== true) {
    const question = next.value;
    asked.push(question);
    let answer: unknown;
    if (question.type === 'view') answer = viewOf(views[Math.min(turn++, views.length - 1)]!);
    if (question.type === 'condemn') answer = new Set((options.busy ?? []).map(named));
    if (question.type === 'read')
      answer = new Map(
        question.digests
          .map((digest) => digest.slice(7))
          .filter((name) => name !== options.unreadable)
          .map((name) => [named(name), namesIn(name)]),
      );
    next = machine.next(answer);
  }
  const bury = asked.find((one) => one.type === 'bury');
  return {
    result: next.value,
    types: asked.map(({ type }) => type),
    links: bury?.links.map(({ digest }) => digest.slice(7)).sort() ?? [],
    referrers: bury?.referrers.map(({ digest }) => digest.slice(7)) ?? [],
  };
}

const OLD = { m1: 1, b1: 1, b2: 1, m2: 1, b3: 1 };

t.test('what tags reach stays; the rest goes at its clock', async (t) => {
  const { result, links, types } = run([{ roots: ['m1'], links: OLD }]);
  t.same(links, ['b3', 'm2']);
  t.match(result, { links: 2, bytes: 20, kept: 3, more: false, left: undefined });
  t.same(types, ['view', 'read', 'condemn', 'view', 'read', 'bury', 'release']);
  t.same(run([{ roots: ['mi'], links: { ...OLD, mi: 1 } }]).links, [], 'an index keeps its children');
  t.same(run([{ roots: ['gone'], links: {} }]).types, ['view']);
});

t.test('what is young stays with all that it names', async (t) => {
  t.same(run([{ links: { ...OLD, m2: 9_500 } }]).links, ['b1', 'm1']);
  t.same(run([{ links: { ...OLD, b1: 9_001, m1: 9_000 } }]).links, ['b2', 'b3', 'm1', 'm2'], 'to the ms');
});

t.test('a subject keeps what names it, and takes it along', async (t) => {
  const links = { ...OLD, ms: 1, b4: 1 };
  const referrers = [['m1', 'ms', 1]] as const;
  t.same(run([{ roots: ['m1'], links, referrers }]).links, ['b3', 'm2']);
  const gone = run([{ roots: ['m2'], links, referrers }]);
  t.same(gone.links, ['b1', 'b4', 'm1', 'ms']);
  t.same(gone.referrers, ['ms']);
  const left = run([
    {
      roots: ['m2'],
      links: { m2: 1, b2: 1, b3: 1 },
      referrers: [
        ['m1', 'ms', 1],
        ['m1', 'mx', 9_999],
      ],
    },
  ]);
  t.same(left.referrers, ['ms'], 'an entry whose manifest is not linked goes by its own age');
});

t.test('behind the fence all is looked at again', async (t) => {
  const facts = { roots: ['m1'], links: OLD };
  t.same(run([facts], { busy: ['b3'] }).links, ['m2'], 'in use');
  const used = run([facts], { busy: ['m2'] });
  t.same(used.types.slice(-2), ['read', 'release']);
  t.match(used.result, { links: 0, left: /m2 is being used/ });
  t.same(run([facts, { roots: ['m1', 'm2'], links: OLD }]).links, [], 'tagged meanwhile');
  t.same(run([facts, { roots: ['m1'], links: { ...OLD, b3: 2 } }]).links, ['m2'], 'written meanwhile');
  const lost = run([facts, { links: OLD }]);
  t.match(lost.result, { links: 0, left: /m1 lost its last reference/ });
});

t.test('nothing goes where a referenced manifest cannot be read', async (t) => {
  const facts = { roots: ['m1'], links: OLD };
  const first = run([facts], { unreadable: 'm1' });
  t.match(first.result, { links: 0, left: /m1 is referenced and cannot be read/ });
  t.same(first.types, ['view', 'read']);
  const second = run([facts, { roots: ['m1', 'm2'], links: OLD }], { unreadable: 'm2' });
  t.match(second.result, { links: 0, left: /m2/ });
  t.same(second.types.at(-1), 'release');
});

t.test('what a tag, an index or a subject leads to is read, whatever its link says', async (t) => {
  const links = { ...OLD, i1: 1, x1: 1 };
  t.same(run([{ roots: ['i1'], links }]).links, ['b3', 'm1', 'm2'], 'a child may be a blob, too');
  t.same(run([{ roots: ['x1'], links }]).links, ['b1', 'b3', 'i1', 'm1', 'm2'], 'a root');
  const referrers = [['m1', 'x1', 1]] as const;
  t.same(run([{ roots: ['m1'], links, referrers }]).links, ['b3', 'i1', 'm2'], 'a referrer');
  t.same(
    run([{ further: ['b1'], links: OLD }]).links,
    ['b2', 'b3', 'm1', 'm2'],
    'a blob of its own right is not',
  );
  t.match(run([{ roots: ['b1'], links }]).result, { links: 0, left: /b1 is referenced and cannot be read/ });
  t.match(run([{ roots: ['i1'], links }], { unreadable: 'x1' }).result, { links: 0, left: /x1/ });
});

t.test('many go in several batches, manifests first, referrers after other manifests', async (t) => {
  const facts = { links: { ...OLD, ms: 1, b4: 1 }, referrers: [['m1', 'ms', 1]] as const };
  const { result, links } = run([facts], { rules: { atOnce: 2 } });
  t.same(links, ['m1', 'm2']);
  t.equal(result.more, true);
  t.same(run([facts], { rules: { atOnce: 3 } }).links, ['m1', 'm2', 'ms']);
  t.equal(run([facts], { rules: { atOnce: 1 }, busy: ['b9'] }).result.more, true);
});

t.test('a dry run asks and takes nothing', async (t) => {
  const { result, types } = run([{ roots: ['m1'], links: OLD }], { rules: { dryRun: true } });
  t.match(result, { links: 2, bytes: 20, kept: 3 });
  t.same(types, ['view', 'read']);
});

t.test('bytes: linked, in use and linked meanwhile stay', async (t) => {
  const all = ['a', 'b', 'c', 'd'].map(named);
  const machine = sweepBytes(all, { dryRun: false });
  t.same(machine.next().value, { type: 'linked', digests: all });
  t.same(machine.next(new Set([all[0]])).value, { type: 'condemn', of: 'bytes', digests: all.slice(1) });
  t.same(machine.next(new Set([all[1]])).value, { type: 'linked', digests: all.slice(2) });
  t.same(machine.next(new Set([all[2]])).value, { type: 'remove', digests: [all[3]], withCached: false });
  const removed = { blobs: 3, bytes: 30, kept: [] };
  t.same(machine.next(removed).value, { type: 'release' });
  t.same(machine.next().value, { digests: [all[3]], removed });

  const dry = sweepBytes(all, { dryRun: true });
  dry.next();
  t.same(dry.next(new Set()).value, { digests: all, removed: { blobs: 0, bytes: 0, kept: [] } });
  const none = sweepBytes(all, { dryRun: false });
  none.next();
  t.same(none.next(new Set(all)).value, { digests: [], removed: { blobs: 0, bytes: 0, kept: [] } });
  const busy = sweepBytes(all, { dryRun: false });
  busy.next();
  busy.next(new Set());
  busy.next(new Set(all));
  t.equal((busy.next(new Set()).value as { type: string }).type, 'release', 'nothing is left to remove');
});

t.test('a backend: what every member let go is taken out, what is unclear stays behind fences', async (t) => {
  const all = ['a', 'b', 'c', 'd'].map(named);
  for (const isUnclear of [false, true]) {
    const machine = sweepBackend(all, { dryRun: false });
    t.same(machine.next().value, { type: 'linked', digests: all });
    t.same(machine.next(new Set([all[0]])).value, { type: 'condemn', of: 'bytes', digests: all.slice(1) });
    t.same(machine.next(new Set([all[1]])).value, { type: 'linked', digests: all.slice(2) });
    const digests = all.slice(2);
    t.same(machine.next(new Set()).value, { type: 'remove', digests, withCached: true });
    const removed = { blobs: 3, bytes: 30, kept: [all[2]] };
    t.same(machine.next(removed).value, { type: 'withdraw', digests: [all[3]] }, 'c was rescued somewhere');
    const withdrawn = { digests: [all[3]], isUnclear };
    const next = machine.next(withdrawn);
    if (!isUnclear) t.same(next.value, { type: 'release' });
    t.match(isUnclear ? next.value : machine.next().value, { digests, removed, withdrawn });
  }
  const dry = sweepBackend(all, { dryRun: true });
  dry.next();
  t.match(dry.next(new Set()).value, { digests: all, withdrawn: { digests: [] } });
  const busy = sweepBackend(all, { dryRun: false });
  busy.next();
  busy.next(new Set());
  busy.next(new Set(all));
  t.same(busy.next(new Set()).value, { type: 'release' }, 'nothing is left to take out');
});
