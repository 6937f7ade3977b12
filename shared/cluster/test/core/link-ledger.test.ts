import { digestOf } from '@sepia/base/digest';
import { checkModel, type Step, same } from '@sepia/test-support/model';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import type { Revocation } from '../../src/api/revocation.ts';
import { LinkLedger, type LookUp } from '../../src/core/link-ledger.ts';

const DIGEST = digestOf(Buffer.from('a'));
const NAME: Revocation = { upstream: 'local', repository: 'app', digest: DIGEST };
const BELIEF_MS = 10;
const LIMIT = 6;

function ledgerOf(): LinkLedger<number> {
  return new LinkLedger({
    beliefMs: (upstream) => (upstream === 'hub' ? undefined : BELIEF_MS),
    limit: LIMIT,
    costOf: (value) => value,
  });
}

t.test('a link is believed for a while after it was looked up', async (t) => {
  const ledger = new LinkLedger<string>({ beliefMs: () => BELIEF_MS, limit: 10 });
  t.notOk(ledger.isBelieved(NAME, 0));
  t.notOk(ledger.isKnown(NAME));
  ledger.note(NAME, 'found', ledger.begin(100));
  t.equal(ledger.get(NAME, 109), 'found');
  t.ok(ledger.isBelieved(NAME, 109));
  t.equal(ledger.get(NAME, 110), undefined);
  t.notOk(ledger.isBelieved(NAME, 110));
  t.ok(ledger.isKnown(NAME), 'what is known when nobody can be asked');
  t.notOk(ledger.isBelieved({ ...NAME, repository: 'other' }, 100));
});

t.test('a forgetful one keeps nothing that is believed no more', async (t) => {
  const ledger = new LinkLedger<string>({ beliefMs: () => BELIEF_MS, limit: 10, isForgetful: true });
  const named = (repository: string): Revocation => ({ ...NAME, repository });
  for (const name of ['a', 'b', 'c']) ledger.note(named(name), 'found', ledger.begin(100));
  ledger.note(named('d'), 'found', ledger.begin(105));
  t.equal(ledger.used, 4);
  ledger.note(named('e'), 'found', ledger.begin(110));
  t.equal(ledger.used, 2);
  t.notOk(ledger.isKnown(named('a')));
  t.ok(ledger.isBelieved(named('d'), 110));
  const asked = ledger.begin(110);
  ledger.forgetAll();
  t.equal(ledger.used, 0);
  t.notOk(ledger.isBelieved(named('d'), 110));
  ledger.note(named('d'), 'found', asked);
  t.ok(ledger.isBelieved(named('d'), 110), 'what was being looked up is noted');
});

t.test('a link that is denied is known no longer; what is asked for beside it counts', async (t) => {
  const ledger = ledgerOf();
  const other = { ...NAME, repository: 'other' };
  const asked = ledger.begin(100);
  ledger.note(NAME, 2, ledger.begin(100));
  ledger.deny(NAME);
  ledger.deny(NAME);
  t.notOk(ledger.isKnown(NAME));
  t.equal(ledger.used, 0);
  ledger.note(other, 1, asked);
  t.equal(ledger.get(other, 101), 1);
});

t.test('a link that is asked for is looked up again before it must be, once', async (t) => {
  const ledger = new LinkLedger<string>({ beliefMs: () => 1_000, limit: 1_000 });
  t.notOk(ledger.isDue(NAME, 0), 'nothing is noted');
  ledger.note(NAME, 'found', ledger.begin(0));
  t.notOk(ledger.isDue(NAME, 649), 'most of its time is left');
  t.ok(ledger.isDue(NAME, 850));
  t.notOk(ledger.isDue(NAME, 850), 'somebody was told');
  ledger.note(NAME, 'found', ledger.begin(850));
  t.notOk(ledger.isDue(NAME, 851), 'looked up again');
  t.ok(ledger.isDue(NAME, 1_700));
  ledger.note(NAME, 'found', ledger.begin(2_000));
  t.notOk(ledger.isDue(NAME, 3_000), 'it is believed no more: whoever asks must wait');
});

t.test('links that were looked up at once come up again one after the other', async (t) => {
  const ledger = new LinkLedger<number>({ beliefMs: () => 1_000, limit: 1_000 });
  const names = Array.from({ length: 100 }, (_, at) => ({ ...NAME, repository: `app${at}` }));
  for (const name of names) ledger.note(name, 1, ledger.begin(0));
  const dueBy = (nowMs: number): number => names.filter((name) => ledger.isDue(name, nowMs)).length;
  const counts = [650, 690, 730, 770, 810, 850].map(dueBy);
  t.equal(counts[0], 0);
  for (const count of counts.slice(1)) t.ok(count >= 18 && count <= 22, `${count} of 100 within 40 ms`);
});

t.test('links that stay are believed unasked, and not noted', async (t) => {
  const ledger = ledgerOf();
  const name = { ...NAME, upstream: 'hub' };
  t.ok(ledger.isBelieved(name, 0));
  ledger.note(name, 1, ledger.begin(0));
  t.equal(ledger.get(name, 0), undefined);
  t.equal(ledger.used, 0);
});

t.test('a revoked link is not believed, nor what was asked before', async (t) => {
  const ledger = ledgerOf();
  const before = ledger.begin(0);
  ledger.note(NAME, 1, before);
  ledger.revoke([NAME]);
  t.notOk(ledger.isBelieved(NAME, 0));
  ledger.note(NAME, 1, before);
  t.notOk(ledger.isBelieved(NAME, 0), 'an answer that was under way');
  ledger.note(NAME, 1, ledger.begin(0));
  t.ok(ledger.isBelieved(NAME, 0), 'pushed again');
});

/** What a ledger must do, kept as plainly as can be: a list of notes, the one used last at its end. */
interface Model {
  nowMs: number;
  notes: { key: string; value: number; untilMs: number }[];
  lookUps: { index: number; atMs: number; isStale: boolean }[];
}

interface Real {
  readonly ledger: LinkLedger<number>;
  readonly lookUps: LookUp[];
}

const nameOf = (key: string): Revocation => ({ ...NAME, repository: key });
const KEYS = fc.constantFrom('a', 'b', 'c', 'd');

function step(name: string, run: Step<Model, Real>['run']): Step<Model, Real> {
  return { name, run };
}

const STEPS = [
  fc.integer({ min: 0, max: 6 }).map((ms) =>
    step(`after ${ms} ms`, (model) => {
      model.nowMs += ms;
    }),
  ),
  fc.constant(
    step('begin', (model, { ledger, lookUps }) => {
      model.lookUps.push({ index: lookUps.length, atMs: model.nowMs, isStale: false });
      lookUps.push(ledger.begin(model.nowMs));
    }),
  ),
  fc.tuple(KEYS, fc.integer({ min: 1, max: LIMIT + 1 }), fc.nat(3)).map(([key, value, back]) =>
    step(`note ${key} ${value} by ${back}`, (model, { ledger, lookUps }) => {
      const lookUp = model.lookUps.at(-1 - back);
      if (lookUp === undefined) return;
      ledger.note(nameOf(key), value, lookUps[lookUp.index]!);
      if (lookUp.isStale || value > LIMIT) return;
      model.notes = model.notes.filter((one) => one.key !== key);
      model.notes.push({ key, value, untilMs: lookUp.atMs + BELIEF_MS });
      while (model.notes.reduce((sum, one) => sum + one.value, 0) > LIMIT) model.notes.shift();
    }),
  ),
  fc.array(KEYS, { maxLength: 2 }).map((keys) =>
    step(`revoke ${keys.join()}`, (model, { ledger }) => {
      ledger.revoke(keys.map(nameOf));
      for (const one of model.lookUps) one.isStale = true;
      model.notes = model.notes.filter((one) => !keys.some((key) => key === one.key));
    }),
  ),
  KEYS.map((key) =>
    step(`get ${key}`, (model, { ledger }) => {
      const found = model.notes.find((one) => one.key === key && one.untilMs > model.nowMs);
      same(ledger.get(nameOf(key), model.nowMs), found?.value, `get ${key}`);
      if (found !== undefined) model.notes = [...model.notes.filter((one) => one !== found), found];
    }),
  ),
];

t.test('a ledger does what its model does', async (t) => {
  checkModel<Model, Real>(t, {
    steps: STEPS,
    start: () => ({
      model: { nowMs: 0, notes: [], lookUps: [] },
      real: { ledger: ledgerOf(), lookUps: [] },
    }),
    invariant: ({ notes }, { ledger }) => {
      same(
        ledger.used,
        notes.reduce((sum, one) => sum + one.value, 0),
        'used',
      );
      for (const key of ['a', 'b', 'c', 'd'])
        same(
          ledger.isKnown(nameOf(key)),
          notes.some((one) => one.key === key),
          `isKnown ${key}`,
        );
    },
    runs: 300,
  });
});
