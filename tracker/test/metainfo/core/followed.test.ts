import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { LookUp } from '@sepia/cluster/core/link-ledger';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { checkModel, type Step, same } from '@sepia/test-support/model';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { type Entry, Followed, sizeOf } from '../../../src/metainfo/core/followed.ts';

const PIECES = 3;
const SIZE_BYTES = PIECES * 2 ** 20;
const BELIEF_MS = 10_000;
/** Room for two blobs. */
const BUDGET_BYTES = 2 * (512 + PIECES * 32);
const BLOBS = ['x', 'y', 'z'] as const;

const nameOf = (blob: string, repository = 'a'): BlobName => ({
  digest: digestOf(Buffer.from(blob)),
  upstream: 'local',
  repository: parseRepositoryName(repository),
});

/** The hash of a piece as the leaders of one attempt tell it. */
const hashOf = (attempt: string, index: number): Buffer =>
  Buffer.alloc(32, `${attempt === '0' ? 'right' : attempt}${index}`);

/** An open metainfo of attempt `0` (right) or `1` with so many hashes from the front, or with all of them the final one. */
function told(blob: string, attempt: '0' | '1', count: number): Metainfo {
  const { digest } = nameOf(blob);
  if (count > PIECES)
    return Metainfo.final(digest, SIZE_BYTES, Buffer.concat([0, 1, 2].map((at) => hashOf('0', at))));
  const id = attempt === '0' ? firstAttempt(digest) : '1'.repeat(32);
  const metainfo = Metainfo.open(digest, SIZE_BYTES, id);
  for (let index = 0; index < count; index++) metainfo.addHash(index, hashOf(attempt, index));
  return metainfo;
}

function make(): Followed {
  return new Followed({ budgetBytes: BUDGET_BYTES, beliefMs: () => BELIEF_MS });
}

const ASKED = { wantsAll: true, nowMs: 0 };

t.test('what is known is answered from memory only while its link is believed', async (t) => {
  const followed = make();
  const name = nameOf('x');
  t.equal(followed.believed(name, 0), undefined);
  const { entry, mustFollow, isContested } = followed.found(
    name,
    { metainfo: told('x', '0', 9), originIds: ['a'] },
    followed.lookUp(0),
    ASKED,
  );
  t.same([mustFollow, isContested], [false, false], 'a final one is not followed');
  t.equal(followed.believed(name, BELIEF_MS - 1), entry);
  t.equal(followed.believed(nameOf('x', 'b'), 0), undefined, 'a link of its own');
  t.same(
    [0, BELIEF_MS - 1, BELIEF_MS - 1].map((atMs) => followed.isDue(name, atMs)),
    [false, true, false],
  );
  t.equal(followed.believed(name, BELIEF_MS), undefined);
  t.equal(followed.withoutOrigins(name), entry, 'with no origin left it lets a running swarm finish');
  followed.revoke([name]);
  t.equal(followed.withoutOrigins(name), undefined);
  t.equal(followed.known(name), entry);
});

t.test(
  'who may vouch alone for a link holds the whole blob, of a link that was proven and not revoked',
  async (t) => {
    const followed = make();
    const [name, other] = [nameOf('x'), nameOf('x', 'b')];
    t.equal(followed.voucher(name, ['a', 'b']), undefined, 'nothing is known');
    const located = { metainfo: told('x', '0', 9), originIds: ['a', 'b'] };
    const { entry } = followed.found(name, located, followed.lookUp(0), ASKED);
    t.equal(followed.voucher(name, ['b', 'a']), 'a');
    t.equal(followed.voucher(name, ['c', 'b']), 'b', 'a is none of those that could hold it any more');
    t.equal(followed.voucher(name, ['c']), undefined);
    t.equal(followed.voucher(other, ['a']), undefined, 'that repository has proven nothing');
    followed.revoke([name]);
    t.equal(followed.voucher(name, ['a']), undefined, 'revoked');
    followed.found(name, located, followed.lookUp(0), ASKED);
    followed.denied(name);
    t.equal(followed.voucher(name, ['a']), undefined, 'denied');
    followed.found(name, located, followed.lookUp(0), ASKED);
    followed.giveUp(entry, new CodedError('NO_PEERS'));
    t.equal(followed.voucher(name, ['a']), undefined, 'given up');
    followed.found(nameOf('y'), { metainfo: told('y', '0', 1), originIds: ['a'] }, followed.lookUp(0), ASKED);
    t.equal(followed.voucher(nameOf('y'), ['a']), undefined, 'it is not whole');
  },
);

t.test('what is denied is not told with no origin left', async (t) => {
  const followed = make();
  const name = nameOf('x');
  followed.found(name, { metainfo: told('x', '0', 9), originIds: ['a'] }, followed.lookUp(0), ASKED);
  followed.denied(name);
  t.equal(followed.withoutOrigins(name), undefined);
  t.equal(followed.believed(name, 0), undefined);
});

t.test('origins that vouch for different bytes are told apart from news', async (t) => {
  const followed = make();
  const name = nameOf('x');
  const { entry } = followed.found(
    name,
    { metainfo: told('x', '0', 9), originIds: ['a'] },
    followed.lookUp(0),
    ASKED,
  );
  const other = Metainfo.final(name.digest, SIZE_BYTES, Buffer.alloc(96, 'other'));
  const found = followed.found(name, { metainfo: other, originIds: ['b'] }, followed.lookUp(0), ASKED);
  t.equal(found.entry, entry);
  t.ok(found.isContested);
  t.ok(entry.metainfo.matches(0, hashOf('0', 0)), 'nothing is taken over');
  t.equal(followed.learned(entry, { metainfo: other, originIds: ['b'] }), 'contested');
});

t.test('a leader hears once that the whole blob is wanted', async (t) => {
  const followed = make();
  const located = { metainfo: told('x', '0', 1), originIds: ['a'] };
  const { entry } = followed.found(nameOf('x'), located, followed.lookUp(0), { wantsAll: false, nowMs: 0 });
  t.equal(followed.asked(entry, false, 0), undefined);
  t.equal(followed.asked(entry, true, 0), 'a');
  t.equal(followed.asked(entry, true, 0), undefined);
});

t.test('blobs count by their pieces: what was used longest ago goes, and no more than must', async (t) => {
  const followed = new Followed({ budgetBytes: 20_000, beliefMs: () => BELIEF_MS });
  const find = (blob: string, pieces: number): void => {
    const { digest } = nameOf(blob);
    const metainfo = Metainfo.final(digest, pieces * 2 ** 20, Buffer.alloc(pieces * 32, blob));
    followed.found(nameOf(blob), { metainfo, originIds: ['a'] }, followed.lookUp(0), ASKED);
  };
  const known = (): string => 'abcdef'.replaceAll(/./g, (blob) => (followed.known(nameOf(blob)) ? blob : ''));
  find('a', 1);
  find('b', 500);
  for (const blob of ['c', 'd', 'b', 'a']) find(blob, blob === 'b' ? 500 : 1);
  t.equal(known(), 'abcd', 'found once more they count once');
  find('e', 100);
  t.equal(known(), 'ae', 'the three used longest ago had to go');
  find('f', 400);
  t.equal(known(), 'aef', 'room is made once, not for ever');
});

/** What the tracker must know of a blob, as plainly as can be. */
interface Known {
  /** 4: final. */
  count: number;
  attempt: '0' | '1';
  origin: string;
  wantsAll: boolean;
  isFollowed: boolean;
  isFailed: boolean;
  askedMs: number;
  waiting: number;
  orphanSinceMs: number | undefined;
}

interface Model {
  nowMs: number;
  /** The one used last at the end. */
  readonly known: Map<string, Known>;
  readonly believed: Map<string, number>;
  lookUps: { readonly at: number; readonly atMs: number; isStale: boolean }[];
}

interface Real {
  readonly followed: Followed;
  readonly entries: Map<string, Entry>;
  readonly lookUps: LookUp[];
  readonly waits: Map<string, (() => void)[]>;
}

const BLOB = fc.constantFrom(...BLOBS);
const REPOSITORY = fc.constantFrom('a', 'b');
const linkOf = (blob: string, repository: string): string => `${blob} ${repository}`;

const later = fc.constantFrom(1, 4_000, 11_000, 31_000).map(
  (ms): Step<Model, Real> => ({
    name: `after ${ms} ms`,
    run: (model) => {
      model.nowMs += ms;
    },
  }),
);

const lookUp = fc.constant<Step<Model, Real>>({
  name: 'look up',
  run: (model, real) => {
    model.lookUps.push({ at: real.lookUps.length, atMs: model.nowMs, isStale: false });
    real.lookUps.push(real.followed.lookUp(model.nowMs));
  },
});

const found = fc
  .record({
    blob: BLOB,
    repository: REPOSITORY,
    attempt: fc.constantFrom('0', '1'),
    count: fc.integer({ min: 0, max: PIECES + 1 }),
    origin: fc.constantFrom('a', 'b'),
    all: fc.boolean(),
    back: fc.nat(2),
  })
  .map(
    ({ blob, repository, attempt, count, origin, all, back }): Step<Model, Real> => ({
      name: `found ${blob} by ${repository}: ${count} hashes of attempt ${attempt} at ${origin}`,
      run: (model, real) => {
        const lookUp = model.lookUps.at(-1 - back);
        if (lookUp === undefined) return;
        const { nowMs } = model;
        const answer = real.followed.found(
          nameOf(blob, repository),
          { metainfo: told(blob, attempt, count), originIds: [origin] },
          real.lookUps[lookUp.at]!,
          { wantsAll: all, nowMs },
        );
        real.entries.set(blob, answer.entry);
        let known = model.known.get(blob);
        if (known === undefined || known.isFailed) {
          const none = { isFollowed: false, isFailed: false, waiting: 0, orphanSinceMs: undefined };
          known = { count, attempt, origin, wantsAll: all, askedMs: nowMs, ...none };
        } else learn(known, attempt, count, origin);
        const mustFollow = known.count <= PIECES && !known.isFollowed;
        same(answer.mustFollow, mustFollow, 'mustFollow');
        if (mustFollow) known.isFollowed = true;
        model.known.delete(blob);
        model.known.set(blob, known);
        if (!lookUp.isStale) model.believed.set(linkOf(blob, repository), lookUp.atMs + BELIEF_MS);
        trim(model);
      },
    }),
  );

/** What is known only grows within an attempt; another attempt replaces it, a final one ends it. */
function learn(known: Known, attempt: '0' | '1', count: number, origin: string): void {
  known.origin = origin;
  if (known.count > PIECES) return;
  const isReplaced = count <= PIECES && attempt !== known.attempt;
  known.count = isReplaced ? count : Math.max(known.count, count);
  if (isReplaced || count > PIECES) known.attempt = attempt;
}

function trim({ known }: Model): void {
  for (const [blob, one] of known) {
    if (known.size <= 2) return;
    if (!one.isFollowed && one.waiting === 0) known.delete(blob);
  }
}

const learned = fc.tuple(BLOB, fc.constantFrom('0', '1'), fc.integer({ min: 0, max: 4 })).map(
  ([blob, attempt, count]): Step<Model, Real> => ({
    name: `leader of ${blob} tells ${count} hashes of attempt ${attempt}`,
    run: (model, real) => {
      const known = model.known.get(blob);
      if (known?.isFollowed !== true) return;
      const entry = real.entries.get(blob)!;
      real.followed.answered(entry);
      real.followed.learned(entry, { metainfo: told(blob, attempt, count), originIds: ['a'] });
      known.orphanSinceMs = undefined;
      learn(known, attempt, count, 'a');
    },
  }),
);

const asked = fc.tuple(BLOB, fc.boolean()).map(
  ([blob, all]): Step<Model, Real> => ({
    name: `${all ? 'all' : 'a range'} of ${blob} is asked for`,
    run: (model, real) => {
      const known = model.known.get(blob);
      if (known === undefined || known.isFailed) return;
      const leader = known.count <= PIECES && all && !known.wantsAll ? known.origin : undefined;
      same(real.followed.asked(real.entries.get(blob)!, all, model.nowMs), leader, 'leader to tell');
      known.askedMs = model.nowMs;
      known.wantsAll ||= all;
    },
  }),
);

const waits = fc.tuple(BLOB, fc.boolean()).map(
  ([blob, comes]): Step<Model, Real> => ({
    name: `${comes ? 'one more waits' : 'one waits no more'} for ${blob}`,
    run: (model, real) => {
      const known = model.known.get(blob);
      const waiting = real.waits.get(blob) ?? [];
      real.waits.set(blob, waiting);
      if (comes && known !== undefined && !known.isFailed) {
        waiting.push(real.followed.wait(real.entries.get(blob)!));
        known.waiting += 1;
      } else if (!comes && known !== undefined && known.waiting > 0) {
        waiting.pop()!();
        known.waiting -= 1;
      }
    },
  }),
);

const next = BLOB.map(
  (blob): Step<Model, Real> => ({
    name: `who follows ${blob} looks`,
    run: (model, real) => {
      const known = model.known.get(blob);
      if (known?.isFollowed !== true) return;
      const isWhole = known.count > PIECES;
      const isLeft = !known.wantsAll && known.waiting === 0 && model.nowMs - known.askedMs > 30_000;
      const step = real.followed.next(nameOf(blob), real.entries.get(blob)!, model.nowMs);
      same(step, isWhole || isLeft ? 'leave' : 'poll', 'next');
      if (step === 'leave') known.isFollowed = false;
      if (step === 'leave' && !isWhole) model.known.delete(blob);
    },
  }),
);

const silence = fc.tuple(BLOB, fc.boolean()).map(
  ([blob, isCertain]): Step<Model, Real> => ({
    name: `leader of ${blob} ${isCertain ? 'refuses' : 'is silent'}`,
    run: (model, real) => {
      const known = model.known.get(blob);
      if (known?.isFollowed !== true) return;
      const entry = real.entries.get(blob)!;
      const sinceMs = known.orphanSinceMs ?? model.nowMs;
      const isOver = isCertain && known.orphanSinceMs !== undefined;
      const wanted = isOver || model.nowMs - sinceMs > 30_000 ? 'give-up' : 'next-leader';
      same(real.followed.unanswered(entry, isCertain, model.nowMs), wanted, 'unanswered');
      known.orphanSinceMs = sinceMs;
      if (wanted !== 'give-up') return;
      real.followed.giveUp(entry, new CodedError('NO_PEERS'));
      // Who waited is told, and waits no more.
      for (const done of real.waits.get(blob)?.splice(0) ?? []) done();
      Object.assign(known, { isFailed: true, isFollowed: false, waiting: 0 });
    },
  }),
);

const revoked = fc.tuple(BLOB, REPOSITORY).map(
  ([blob, repository]): Step<Model, Real> => ({
    name: `${blob} is deleted from ${repository}`,
    run: (model, real) => {
      real.followed.revoke([nameOf(blob, repository)]);
      model.believed.delete(linkOf(blob, repository));
      for (const one of model.lookUps) one.isStale = true;
    },
  }),
);

t.test('what is followed, believed and let go of is what the model says', async (t) => {
  checkModel<Model, Real>(t, {
    steps: [later, lookUp, found, found, learned, asked, waits, next, silence, revoked],
    start: () => ({
      model: { nowMs: 0, known: new Map(), believed: new Map(), lookUps: [] },
      real: { followed: make(), entries: new Map(), lookUps: [], waits: new Map() },
    }),
    invariant: checkAll,
    runs: 400,
  });
});

function checkAll({ known, believed, nowMs }: Model, { followed, entries }: Real): void {
  const all = [...followed.values()];
  same(all.length, known.size, 'how many are known');
  const held = all.filter((one) => one.isFollowed).length;
  const bytes = all.reduce((sum, one) => sum + sizeOf(one), 0);
  if (held === 0 && [...known.values()].every(({ waiting }) => waiting === 0))
    same(bytes <= BUDGET_BYTES, true, 'nobody holds more than the budget');
  for (const blob of BLOBS) {
    const model = known.get(blob);
    const sound = model?.isFailed === false ? model : undefined;
    const entry = followed.known(nameOf(blob));
    same(entry, sound === undefined ? undefined : entries.get(blob), `known ${blob}`);
    if (sound !== undefined && entry !== undefined) {
      same(entry.metainfo.state, sound.count > PIECES ? 'final' : 'open', `state of ${blob}`);
      same(entry.metainfo.knownCount, Math.min(PIECES, sound.count), `hashes of ${blob}`);
      same(entry.originIds[0], sound.origin, `origin of ${blob}`);
      same(entry.wantsAll, sound.wantsAll, `wish for ${blob}`);
      same(entry.isFollowed, sound.isFollowed, `who follows ${blob}`);
      const right = sound.count > PIECES ? '0' : sound.attempt;
      for (let index = 0; index < Math.min(PIECES, sound.count); index++)
        same(entry.metainfo.matches(index, hashOf(right, index)), true, `piece ${index} of ${blob}`);
    }
    for (const repository of ['a', 'b']) {
      const isBelieved = (believed.get(linkOf(blob, repository)) ?? 0) > nowMs;
      const isKnown = believed.has(linkOf(blob, repository));
      const name = nameOf(blob, repository);
      same(followed.withoutOrigins(name), isKnown ? entry : undefined, `without origins ${blob}`);
      // A look that finds something counts as use: the model is told by the same order.
      if (!isBelieved) same(followed.believed(name, nowMs), undefined, `believed ${blob}`);
    }
  }
}
