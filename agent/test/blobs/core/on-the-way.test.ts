import { digestOf } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { checkModel, type Step, same } from '@sepia/test-support/model';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { OnTheWay } from '../../../src/blobs/core/on-the-way.ts';

const BLOBS = ['x', 'y'] as const;
const UPSTREAMS = ['hub', 'hub2'] as const;
const REPOSITORIES = ['a', 'b'] as const;
const FULL_MS = 5_000;

const nameOf = (blob: string, upstream = 'hub', repository = 'a'): BlobName => ({
  digest: digestOf(Buffer.from(blob)),
  upstream,
  repository: parseRepositoryName(repository),
});

/** A download as the table sees it. */
interface Run {
  isRunning: boolean;
}

t.test('one start at a time; what runs is read, and what failed is begun anew', async (t) => {
  const blobs = new OnTheWay<string, Run>();
  const name = nameOf('x');
  t.same(blobs.next(name), { type: 'begin' });
  blobs.begin(name, 'first');
  t.same(blobs.next(name), { type: 'join', start: 'first', isProven: true });
  const run = { isRunning: true };
  blobs.run(name.digest, run);
  t.same(blobs.next(nameOf('x', 'hub', 'b')), { type: 'read', run, isProven: false });
  blobs.started(name.digest);
  run.isRunning = false;
  t.same(blobs.next(name), { type: 'begin' });
  blobs.begin(name, 'second');
  blobs.ended(name.digest, run);
  t.same(
    blobs.next(name),
    { type: 'join', start: 'second', isProven: true },
    'the end of the first touches neither the second nor its names',
  );
});

/** What a node must know of its blobs, as plainly as can be. */
interface Model {
  nowMs: number;
  fullMs: number | undefined;
  readonly starts: Map<string, number>;
  readonly runs: Map<string, Run>;
  /** `blob upstream repository`. */
  readonly names: Set<string>;
  next: number;
}

interface Real {
  readonly blobs: OnTheWay<number, Run>;
  /** Runs that ended here and were not yet told of. */
  readonly ending: [string, Run][];
}

const BLOB = fc.constantFrom(...BLOBS);
const NAME = fc.record({
  blob: BLOB,
  upstream: fc.constantFrom(...UPSTREAMS),
  repository: fc.constantFrom(...REPOSITORIES),
});
const keyOf = ({ blob, upstream, repository }: { blob: string; upstream: string; repository: string }) =>
  `${blob} ${upstream} ${repository}`;

const isThere = (model: Model, blob: string): boolean => model.starts.has(blob) || model.runs.has(blob);

/** A blob that is neither starting nor running has no names. */
function sweep(model: Model): void {
  for (const key of [...model.names]) if (!isThere(model, key.split(' ')[0]!)) model.names.delete(key);
}

const request = NAME.map(
  (name): Step<Model, Real> => ({
    name: `request for ${keyOf(name)}`,
    run: (model, { blobs }) => {
      const turn = blobs.next(nameOf(name.blob, name.upstream, name.repository));
      const run = model.runs.get(name.blob);
      const start = model.starts.get(name.blob);
      const wanted = run?.isRunning === true ? 'read' : start === undefined ? 'begin' : 'join';
      same(turn.type, wanted, 'turn');
      if (turn.type === 'read') same(turn.run, run, 'run');
      if (turn.type === 'join') same(turn.start, start, 'start');
      if (turn.type !== 'begin') return same(turn.isProven, model.names.has(keyOf(name)), 'isProven');
      model.next += 1;
      blobs.begin(nameOf(name.blob, name.upstream, name.repository), model.next);
      model.starts.set(name.blob, model.next);
      model.names.add(keyOf(name));
    },
  }),
);

const prove = NAME.map(
  (name): Step<Model, Real> => ({
    name: `${keyOf(name)} is vouched for`,
    run: (model, { blobs }) => {
      blobs.prove(nameOf(name.blob, name.upstream, name.repository));
      if (isThere(model, name.blob)) model.names.add(keyOf(name));
    },
  }),
);

const begun = BLOB.map(
  (blob): Step<Model, Real> => ({
    name: `${blob} runs`,
    run: (model, { blobs }) => {
      if (!model.starts.has(blob) || model.runs.get(blob)?.isRunning === true) return;
      const run = { isRunning: true };
      blobs.run(nameOf(blob).digest, run);
      model.runs.set(blob, run);
    },
  }),
);

const started = BLOB.map(
  (blob): Step<Model, Real> => ({
    name: `the start of ${blob} is over`,
    run: (model, { blobs }) => {
      blobs.started(nameOf(blob).digest);
      model.starts.delete(blob);
      sweep(model);
    },
  }),
);

const ends = BLOB.map(
  (blob): Step<Model, Real> => ({
    name: `${blob} ends`,
    run: (model, { ending }) => {
      const run = model.runs.get(blob);
      if (run?.isRunning !== true) return;
      run.isRunning = false;
      ending.push([blob, run]);
    },
  }),
);

const ended = fc.constant<Step<Model, Real>>({
  name: 'the table hears of an end',
  run: (model, { blobs, ending }) => {
    const [blob, run] = ending.shift() ?? [];
    if (blob === undefined || run === undefined) return;
    blobs.ended(nameOf(blob).digest, run);
    if (model.runs.get(blob) === run) model.runs.delete(blob);
    sweep(model);
  },
});

const full = fc.constant<Step<Model, Real>>({
  name: 'the disk is full',
  run: (model, { blobs }) => {
    blobs.noteFull(model.nowMs);
    model.fullMs = model.nowMs;
  },
});

const later = fc.constantFrom(1, FULL_MS - 1, FULL_MS).map(
  (ms): Step<Model, Real> => ({
    name: `after ${ms} ms`,
    run: (model) => {
      model.nowMs += ms;
    },
  }),
);

t.test('what is on its way, and under which names, is what the model says', async (t) => {
  checkModel<Model, Real>(t, {
    steps: [request, request, prove, begun, started, ends, ended, full, later],
    start: () => ({
      model: {
        nowMs: 0,
        fullMs: undefined,
        starts: new Map(),
        runs: new Map(),
        names: new Set(),
        next: 0,
      },
      real: { blobs: new OnTheWay(), ending: [] },
    }),
    invariant: (model, { blobs }) => {
      same(blobs.size, BLOBS.filter((blob) => isThere(model, blob)).length, 'size');
      same([...blobs.runs()].length, model.runs.size, 'runs');
      const isFull = model.fullMs !== undefined && model.nowMs < model.fullMs + FULL_MS;
      same(blobs.isFull(model.nowMs), isFull, 'isFull');
      for (const blob of BLOBS) {
        same(blobs.runOf(nameOf(blob).digest), model.runs.get(blob), `run of ${blob}`);
        for (const upstream of UPSTREAMS) {
          const known = REPOSITORIES.filter((one) => model.names.has(`${blob} ${upstream} ${one}`));
          same(blobs.isProvenFor(nameOf(blob, upstream)), known.length > 0, `${blob} at ${upstream}`);
          for (const one of REPOSITORIES)
            same(blobs.isProven(nameOf(blob, upstream, one)), known.includes(one), `${blob} ${one}`);
        }
      }
    },
    runs: 400,
  });
});
