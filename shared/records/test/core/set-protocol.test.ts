import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { type Entry, isShown, joinFields, joinWhole } from '../../src/core/join.ts';
import {
  clockOf,
  inTheWay,
  isAlone,
  isCovered,
  isWitness,
  standingOf,
  standsLater,
  taken,
  tryStep,
  writeStep,
} from '../../src/core/set-protocol.ts';
import type { Sender } from '../../src/core/standing.ts';

const OWNERS = ['A', 'B', 'C'];
const ENTRY = fc.record(
  { atMs: fc.integer({ min: 1, max: 5 }), value: fc.constantFrom({ size: 1 }, { size: 2 }, { type: 'x' }) },
  { requiredKeys: ['atMs'] },
);

t.test('a write stands with its owner, or is told a clock under which it does', async () => {
  fc.assert(
    fc.property(fc.array(ENTRY, { maxLength: 4 }), ENTRY, fc.boolean(), (before, wanted, byField) => {
      const join = byField ? joinFields : joinWhole;
      let own: Entry | undefined;
      for (const entry of before) own = taken(own, entry, join) ?? own;
      own = taken(own, wanted, join) ?? own;
      const behindMs = inTheWay(wanted, own, byField);
      if (behindMs === undefined) return isShown(wanted, own, byField);
      const again = { ...wanted, atMs: clockOf(wanted.atMs, { behindMs }) };
      return isShown(again, taken(own, again, join) ?? own, byField);
    }),
  );
});

t.test('what stands does not depend on who told it first', async () => {
  fc.assert(
    fc.property(fc.array(fc.option(ENTRY, { nil: undefined }), { maxLength: 4 }), (told) => {
      const one = standingOf<Entry>(told, joinWhole);
      const other = standingOf<Entry>([...told].reverse(), joinWhole);
      return JSON.stringify(one) === JSON.stringify(other);
    }),
  );
});

t.test('a write has the clock of its writer, unless it was told a later one', async (t) => {
  t.equal(clockOf(10), 10);
  t.equal(clockOf(10, {}), 10);
  t.equal(clockOf(10, { behindMs: 7 }), 10);
  t.equal(clockOf(10, { behindMs: 10 }), 11, 'later than what stands in its way');
  t.equal(clockOf(10, { behindMs: 12.5 }), 13, 'and whole');
  t.equal(clockOf(10, { aheadMs: 7 }), 7, 'where the same stands already, its clock is taken over');
  t.equal(clockOf(10, { aheadMs: 12.5 }), 13);
  t.equal(clockOf(10, { behindMs: 12, aheadMs: 20 }), 20);
});

t.test('a write is done by a majority that counts together', async (t) => {
  const ack = (id: string, generation = 1, known: Sender['known'] = {}) => ({
    sender: { id, generation, known },
  });
  t.equal(writeStep([ack('A')], ['B', 'C'], [OWNERS]), 'open');
  t.equal(writeStep([ack('A')], [], [OWNERS]), 'lost');
  t.equal(writeStep([ack('A'), ack('C')], ['B'], [OWNERS]), 'done');
  t.equal(writeStep([ack('A'), ack('B', 1, { A: 2 })], [], [OWNERS]), 'lost', 'A lost its disk since');
  t.equal(
    writeStep([ack('A'), ack('B')], ['C', 'D'], [OWNERS, ['B', 'C', 'D']]),
    'open',
    'old and new owners',
  );
  t.equal(writeStep([], [], []), 'done');
});

t.test('a try that is over is done, made again or failed', async (t) => {
  const ended = { isAcknowledged: true, behindMs: undefined, isMoved: false, left: 1 };
  t.equal(tryStep(ended), 'done');
  t.equal(tryStep({ ...ended, behindMs: 7 }), 'again', 'a majority took it, but one says that it is late');
  t.equal(tryStep({ ...ended, behindMs: 7, left: 0 }), 'conflict');
  t.equal(tryStep({ ...ended, aheadMs: 7 }), 'again', 'one has the same under a later clock');
  t.equal(tryStep({ ...ended, aheadMs: 7, left: 0 }), 'conflict');
  t.equal(tryStep({ ...ended, isAcknowledged: false, aheadMs: 7 }), 'failed');
  t.equal(tryStep({ ...ended, isAcknowledged: false }), 'failed');
  t.equal(tryStep({ ...ended, isAcknowledged: false, isMoved: true }), 'again');
  t.equal(tryStep({ ...ended, isAcknowledged: false, isMoved: true, left: 0 }), 'conflict');
});

t.test('an entry is alone once all others lack it', async (t) => {
  t.equal(
    isAlone(OWNERS, 'A', (id) => id === 'B'),
    false,
  );
  t.equal(
    isAlone(OWNERS, 'A', (id) => id !== 'A'),
    true,
  );
});

t.test('an owner covers what it has, and what something later hides', async (t) => {
  const own: Entry = { atMs: 3, value: { size: 1 } };
  t.ok(isCovered(own, own, joinWhole));
  t.ok(isCovered(own, { atMs: 2, value: { size: 2 } }, joinWhole));
  t.notOk(isCovered(own, { atMs: 4 }, joinWhole));
  t.notOk(isCovered(undefined, { atMs: 1 }, joinWhole), 'who has nothing covers nothing');
});

t.test(
  'what stands under a later clock already is told, field by field where fields have clocks',
  async (t) => {
    const wanted: Entry = { atMs: 3, value: { size: 1 } };
    t.equal(standsLater(wanted, undefined, false), undefined);
    t.equal(standsLater(wanted, { atMs: 3, value: { size: 1 } }, false), undefined, 'it is no later');
    t.equal(standsLater(wanted, { atMs: 5, value: { size: 1 } }, false), 5);
    t.equal(standsLater(wanted, { atMs: 5 }, true), 5, 'a tombstone has no fields');
    t.equal(
      standsLater(wanted, { atMs: 5, value: { size: 1 } }, true),
      5,
      'a field without a clock has that of the whole',
    );
    const other = { atMs: 5, value: { size: 1, type: 'x' }, fieldMs: { size: 2, type: 5 } };
    t.equal(standsLater(wanted, other, true), undefined, 'only another field is later');
    t.equal(standsLater(wanted, { ...other, fieldMs: { size: 4, type: 5 } }, true), 4);
    const unsaid = { atMs: 3, value: { size: 1, type: undefined } };
    t.equal(standsLater(unsaid, other, true), undefined, 'what is undefined is no field');
  },
);

t.test('only who counts shows by what it lacks that it is gone', async (t) => {
  t.ok(isWitness({ settled: true }));
  t.notOk(isWitness({ settled: false }));
});
