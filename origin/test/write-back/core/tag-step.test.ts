import type { Digest } from '@sepia/base/digest';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import {
  isTakenAway,
  moved,
  owing,
  paid,
  recordOf,
  restored,
  type TagState,
  takenAway,
  yielded,
} from '../../../src/records/core/tag-record.ts';
import { type OnConflict, tagStep } from '../../../src/write-back/core/tag-step.ts';

const digestOf = (letter: string): Digest => `sha256:${letter.repeat(64)}` as Digest;
const [A, B, C] = ['a', 'b', 'c'].map(digestOf) as [Digest, Digest, Digest];
const HERE = { how: 'push', by: 'o1' } as const;

t.test('what came from here, or was there before, is no conflict', async (t) => {
  const owed = { sinceMs: 1, base: A, ours: [B, C] };
  t.same(tagStep({ wanted: C, found: C, owed }, 'stop'), { type: 'there' });
  t.same(tagStep({ wanted: C, found: A, owed }, 'stop'), { type: 'put' }, 'as before');
  t.same(tagStep({ wanted: C, found: B, owed }, 'stop'), { type: 'put' }, 'an earlier push that got there');
  t.same(tagStep({ wanted: null, found: A, owed }, 'stop'), { type: 'delete' });
  t.same(tagStep({ wanted: null, found: null, owed }, 'stop'), { type: 'there' });
});

t.test(
  'what is changed there: ours, theirs, stop; not known is a conflict unless the push wins',
  async (t) => {
    const known = { sinceMs: 1, base: null, ours: [B] };
    t.same(tagStep({ wanted: B, found: A, owed: known }, 'ours'), { type: 'put', over: A });
    t.same(tagStep({ wanted: B, found: A, owed: known }, 'theirs'), { type: 'yield', to: A });
    t.same(tagStep({ wanted: B, found: A, owed: known }, 'stop'), { type: 'stop', found: A });
    const unknown = { sinceMs: 1, ours: [B] };
    t.same(tagStep({ wanted: B, found: A, owed: unknown }, 'ours'), { type: 'put' });
    t.same(tagStep({ wanted: B, found: A, owed: unknown }, 'stop'), { type: 'stop', found: A });
    t.same(tagStep({ wanted: B, found: null, owed: unknown }, 'stop'), { type: 'put' }, 'nothing is there');
    const gone = { sinceMs: 1, base: A, ours: [B] };
    t.same(tagStep({ wanted: B, found: null, owed: gone }, 'theirs'), { type: 'yield', to: null });
  },
);

t.test('a delete destroys nothing there that was never known here, unless an operator says so', async (t) => {
  const pushed = owing(undefined, moved(undefined, { ...HERE, atMs: 1, digest: B }), undefined);
  const { owed } = owing(pushed, takenAway(pushed, { ...HERE, atMs: 2, how: 'delete' })!, undefined);
  const step = { wanted: null, owed: owed! };
  t.same(tagStep({ ...step, found: A }, 'ours'), { type: 'yield', to: A });
  t.same(tagStep({ ...step, found: B }, 'ours'), { type: 'delete' }, 'what came from here goes');
  t.same(tagStep({ ...step, found: A }, 'stop'), { type: 'stop', found: A });
  t.same(tagStep({ ...step, found: A }, 'stop', 'ours'), { type: 'delete' });
  t.same(tagStep({ ...step, found: A }, 'ours', 'ours'), { type: 'delete' });
});

t.test('a push that an operator gives up becomes what is there, conflict or not', async (t) => {
  const owed = { sinceMs: 1, base: A, ours: [B] };
  for (const found of [A, C, null])
    t.same(tagStep({ wanted: B, found, owed }, 'ours', 'drop'), { type: 'yield', to: found });
  t.same(tagStep({ wanted: B, found: B, owed }, 'ours', 'drop'), { type: 'there' }, 'it got there');
});

t.test('a push after a delete is no conflict, whether the delete got there or not', async (t) => {
  const first: TagState = { digest: A, checkedAtMs: 1 };
  const gone = owing(first, takenAway(first, { ...HERE, atMs: 2, how: 'delete' })!, undefined);
  const { owed } = owing(gone, moved(gone, { ...HERE, atMs: 3, digest: B }), undefined);
  for (const found of [A, B, null])
    t.match(tagStep({ wanted: B, found, owed: owed! }, 'theirs'), { type: found === B ? 'there' : 'put' });
  t.same(tagStep({ wanted: B, found: C, owed: owed! }, 'theirs'), { type: 'yield', to: C });
});

t.test('what a backup says is owed goes over nothing before an operator says so', async (t) => {
  const pushed = owing(undefined, moved(undefined, { ...HERE, atMs: 1, digest: B }), A);
  const back = restored(undefined, pushed);
  t.equal(restored(pushed, pushed), pushed, 'what is there is not from a backup');
  const step = { wanted: B, owed: back.owed! };
  for (const policy of ['ours', 'theirs', 'stop'] as const) {
    t.same(tagStep({ ...step, found: B }, policy), { type: 'there' });
    t.same(tagStep({ ...step, found: null }, policy), { type: 'put' }, 'it never got there');
    t.same(
      tagStep({ ...step, found: A }, policy),
      { type: 'stop', found: A },
      'as before, or put back there',
    );
    t.same(tagStep({ ...step, found: A }, policy, 'ours'), { type: 'put' });
  }
  t.same(tagStep({ ...step, found: C }, 'ours'), { type: 'stop', found: C });
  t.same(tagStep({ ...step, found: C }, 'theirs'), { type: 'yield', to: C });
  t.same(tagStep({ ...step, found: C }, 'ours', 'theirs'), { type: 'yield', to: C });
  const gone = { wanted: null, owed: back.owed! };
  t.same(tagStep({ ...gone, found: B }, 'ours'), { type: 'stop', found: B });
  t.same(tagStep({ ...gone, found: null }, 'ours'), { type: 'there' });
});

t.test('a push after a restore is as any other, and knows only what was seen there since', async (t) => {
  const pushed = owing(undefined, moved(undefined, { ...HERE, atMs: 1, digest: B }), A);
  const back = restored(undefined, pushed);
  const move = { ...HERE, atMs: 2, digest: C };
  const seen = owing(back, moved(back, move), B);
  t.same(seen.owed, { sinceMs: 1, base: B, ours: [B, C] });
  t.same(owing(back, moved(back, move), undefined).owed, { sinceMs: 1, ours: [B, C] });
  t.notOk(paid(back, C, 3)?.owed?.restored, 'what is there was seen');
});

type Event =
  | { readonly type: 'push'; readonly digest: Digest; readonly isSeen: boolean }
  | { readonly type: 'delete'; readonly isSeen: boolean }
  | { readonly type: 'direct'; readonly digest: Digest | null }
  | { readonly type: 'run'; readonly diesBefore: 'nothing' | 'act' | 'paid' };

const DIGEST = fc.constantFrom(A, B, C);
const EVENT: fc.Arbitrary<Event> = fc.oneof(
  fc.record({ type: fc.constant('push' as const), digest: DIGEST, isSeen: fc.boolean() }),
  fc.record({ type: fc.constant('delete' as const), isSeen: fc.boolean() }),
  fc.record({ type: fc.constant('direct' as const), digest: fc.option(DIGEST) }),
  fc.record({
    type: fc.constant('run' as const),
    diesBefore: fc.constantFrom('nothing' as const, 'act' as const, 'paid' as const),
  }),
);

/** One tag here and at the registry behind; runs may die between any two steps. */
class World {
  state: TagState | undefined;
  there: Digest | null = null;
  #clock = 0;
  readonly #policy: OnConflict;
  /** True while nobody but this cluster changed the tag there. */
  isAlone = true;

  constructor(policy: OnConflict) {
    this.#policy = policy;
  }

  get here(): Digest | null {
    return recordOf(this.state)?.digest ?? null;
  }

  apply(event: Event): void {
    this.#clock += 1;
    if (event.type === 'direct') {
      this.there = event.digest;
      this.isAlone = false;
    } else if (event.type === 'run') this.run(event.diesBefore);
    else {
      const behind = event.isSeen ? this.there : undefined;
      const move = { ...HERE, atMs: this.#clock };
      const next =
        event.type === 'push'
          ? moved(this.state, { ...move, digest: event.digest })
          : takenAway(this.state, { ...move, how: 'delete' });
      if (next !== undefined && (event.type === 'push' || this.state?.digest !== undefined))
        this.state = owing(this.state, next, behind);
    }
  }

  /** The type of the step that was taken; undefined if nothing was owed. */
  run(diesBefore: 'nothing' | 'act' | 'paid'): string | undefined {
    const owed = this.state?.owed;
    if (owed === undefined) return undefined;
    const wanted = this.here;
    const step = tagStep({ wanted, found: this.there, owed }, this.#policy);
    if (diesBefore === 'act' || step.type === 'stop') return step.type;
    if (step.type === 'yield') {
      this.state = yielded(this.state, wanted ?? undefined, step.to, { by: 'o1', atMs: ++this.#clock });
      return step.type;
    }
    if (step.type !== 'there') this.there = wanted;
    if (diesBefore !== 'paid') this.state = paid(this.state, wanted ?? undefined, ++this.#clock);
    return step.type;
  }
}

t.test(
  'property: whatever happens and dies, the last run makes both sides the same, and then does nothing',
  async (t) => {
    const worlds = fc.tuple(
      fc.constantFrom<OnConflict>('ours', 'theirs', 'stop'),
      fc.array(EVENT, { maxLength: 30 }),
    );
    fc.assert(
      fc.property(worlds, ([policy, events]) => {
        const world = new World(policy);
        for (const event of events) world.apply(event);
        const [before, wasOwed] = [world.here, world.state?.owed !== undefined];
        const step = world.run('nothing');
        if (!wasOwed) return step === undefined;
        if (step === 'stop') return policy === 'stop' && !world.isAlone && world.here === before;
        if (step !== 'yield' && world.here !== before) return false;
        return (
          world.here === world.there && world.state?.owed === undefined && world.run('nothing') === undefined
        );
      }),
    );
    t.pass('held');
  },
);

t.test(
  'property: where nobody else changes the registry there is no conflict, and what waits counts here',
  async (t) => {
    const own = fc.array(
      EVENT.filter((event) => event.type !== 'direct'),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(fc.constantFrom<OnConflict>('ours', 'theirs', 'stop'), own, (policy, events) => {
        const world = new World(policy);
        let last: Digest | null = null;
        for (const event of events) {
          world.apply(event);
          if (event.type === 'push') last = event.digest;
          if (event.type === 'delete') last = null;
          if (world.here !== last) return false;
          if (isTakenAway(world.state) && world.here !== null) return false;
        }
        world.run('nothing');
        return world.here === last && world.there === last;
      }),
    );
    t.pass('held');
  },
);
