import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { GATHER_AWAITED_MS, GATHER_RENEWED_MS } from '../../../src/deadlines.ts';
import { Gathering } from '../../../src/metainfo/core/gathering.ts';

t.test('with nothing under way, who is waited for begins at once', (t) => {
  const gathering = new Gathering<string>();
  gathering.add('a', true, 0);
  t.same(gathering.begin(0), ['a']);
  t.same(gathering.begin(1_000), []);
  t.equal(gathering.dueMs, Number.POSITIVE_INFINITY);
  t.end();
});

t.test('who comes meanwhile waits for the end of that, or a moment', (t) => {
  const gathering = new Gathering<string>();
  gathering.add('a', true, 0);
  gathering.begin(0);
  gathering.add('b', true, 1);
  gathering.add('c', true, 2);
  t.same(gathering.begin(3), []);
  gathering.ended();
  t.same(gathering.begin(3), ['b', 'c']);
  gathering.add('d', true, 5);
  t.equal(gathering.dueMs, 5 + GATHER_AWAITED_MS);
  t.same(gathering.begin(4 + GATHER_AWAITED_MS), []);
  t.same(gathering.begin(5 + GATHER_AWAITED_MS), ['d'], 'b and c hang');
  t.end();
});

t.test('what nobody waits for begins later, or with the next that somebody does', (t) => {
  const gathering = new Gathering<string>();
  gathering.add('a', false, 0);
  t.same(gathering.begin(GATHER_RENEWED_MS - 1), []);
  gathering.add('b', false, GATHER_RENEWED_MS - 1);
  t.same(gathering.begin(GATHER_RENEWED_MS), ['a', 'b']);
  gathering.ended();
  gathering.ended();
  gathering.add('c', false, 1_000);
  gathering.add('d', true, 1_001);
  t.same(gathering.begin(1_001), ['c', 'd']);
  t.end();
});

t.test('what somebody waits for after all begins like any other of these', (t) => {
  const gathering = new Gathering<string>();
  gathering.awaited(0);
  t.equal(gathering.dueMs, Number.POSITIVE_INFINITY, 'nothing waits');
  gathering.add('a', false, 0);
  gathering.awaited(5);
  t.same(gathering.begin(5), ['a']);
  gathering.add('b', false, 6);
  gathering.awaited(20);
  t.same(gathering.begin(20), [], 'a is under way');
  t.equal(gathering.dueMs, 20 + GATHER_AWAITED_MS);
  gathering.awaited(25);
  t.equal(gathering.dueMs, 20 + GATHER_AWAITED_MS, 'a second one puts nothing off');
  t.same(gathering.begin(20 + GATHER_AWAITED_MS), ['b']);
  t.end();
});

type Step = { readonly passMs: number } & (
  | { readonly type: 'add'; readonly isAwaited: boolean }
  | { readonly type: 'end' }
  | { readonly type: 'awaited' }
);

const STEP: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ type: fc.constant('add' as const), isAwaited: fc.boolean(), passMs: fc.nat(15) }),
  fc.record({ type: fc.constant('end' as const), passMs: fc.nat(15) }),
  fc.record({ type: fc.constant('awaited' as const), passMs: fc.nat(15) }),
);

t.test('each begins once, in time, and who is waited for never idly', (t) => {
  fc.assert(
    fc.property(fc.array(STEP, { maxLength: 60 }), (steps) => {
      const gathering = new Gathering<number>();
      const added: { readonly isAwaited: boolean; readonly atMs: number; readonly byMs: number }[] = [];
      const begun: number[] = [];
      let [nowMs, running] = [0, 0];
      const look = (): void => {
        const now = gathering.begin(nowMs);
        for (const one of now) {
          const { atMs, byMs } = added[one]!;
          if (nowMs > byMs) throw new Error(`${one} waited for ${nowMs - atMs} ms`);
          begun.push(one);
        }
        running += now.length;
        const waiting = added.slice(begun.length);
        if (running === 0 && waiting.some((one) => one.isAwaited)) throw new Error('idle');
        if (waiting.length > 0 !== Number.isFinite(gathering.dueMs)) throw new Error('nothing is due');
      };
      for (const step of steps) {
        const untilMs = nowMs + step.passMs;
        for (; gathering.dueMs <= untilMs; look()) nowMs = gathering.dueMs;
        nowMs = untilMs;
        if (step.type === 'add') {
          gathering.add(added.length, step.isAwaited, nowMs);
          const byMs = nowMs + (step.isAwaited ? GATHER_AWAITED_MS : GATHER_RENEWED_MS);
          added.push({ isAwaited: step.isAwaited, atMs: nowMs, byMs });
        } else if (step.type === 'awaited') {
          gathering.awaited(nowMs);
          const last = added.at(-1);
          if (last !== undefined && begun.length < added.length)
            added.splice(-1, 1, {
              ...last,
              isAwaited: true,
              byMs: Math.min(last.byMs, nowMs + GATHER_AWAITED_MS),
            });
        } else if (running > 0) {
          gathering.ended();
          running -= 1;
        }
        look();
      }
      nowMs = Math.max(nowMs, Number.isFinite(gathering.dueMs) ? gathering.dueMs : 0);
      look();
      if (begun.some((one, at) => one !== at) || begun.length !== added.length)
        throw new Error('not each, once');
    }),
  );
  t.end();
});
