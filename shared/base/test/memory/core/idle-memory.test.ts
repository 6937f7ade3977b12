import t from 'tap';
import { IdleMemory } from '../../../src/memory/core/idle-memory.ts';

const MIB = 1024 * 1024;
const IDLE = 0.01;
const BUSY = 0.4;

/** Of a process whose start is over, with so much in use. */
function started(usedBytes: number): IdleMemory {
  const memory = new IdleMemory();
  memory.look({ usedBytes, cpuShare: IDLE });
  memory.collected(usedBytes);
  return memory;
}

t.test('what the start left is collected thoroughly, once, when it is over', async (t) => {
  const memory = new IdleMemory();
  t.equal(memory.look({ usedBytes: 60 * MIB, cpuShare: BUSY }), undefined);
  t.equal(memory.look({ usedBytes: 60 * MIB, cpuShare: 0.02 }), undefined, 'it has something to do');
  t.equal(memory.look({ usedBytes: 60 * MIB, cpuShare: IDLE }), 'thorough');
  memory.collected(40 * MIB);
  for (let look = 0; look < 100; look++)
    t.equal(memory.look({ usedBytes: 40 * MIB, cpuShare: IDLE }), undefined, 'the rest is in use');
  t.equal(memory.look({ usedBytes: 60 * MIB, cpuShare: IDLE }), 'usual');
});

t.test('a burst before the start is over is collected as any other', async (t) => {
  const memory = new IdleMemory();
  t.equal(memory.look({ usedBytes: 40 * MIB, cpuShare: BUSY }), undefined);
  t.equal(memory.look({ usedBytes: 160 * MIB, cpuShare: 0.05 }), 'usual');
});

t.test('what a burst left is collected once the process is idle, and once only', async (t) => {
  const memory = started(40 * MIB);
  t.notOk(memory.look({ usedBytes: 40 * MIB, cpuShare: IDLE }), 'nothing has grown');
  t.notOk(memory.look({ usedBytes: 160 * MIB, cpuShare: BUSY }), 'it is busy: V8 collects by itself');
  t.equal(memory.look({ usedBytes: 160 * MIB, cpuShare: IDLE }), 'usual');
  memory.collected(120 * MIB);
  for (let look = 0; look < 100; look++)
    t.notOk(memory.look({ usedBytes: 120 * MIB, cpuShare: IDLE }), 'the rest is in use');
});

t.test('after a burst a process at rest collects thoroughly, once, and not soon again', async (t) => {
  const memory = started(40 * MIB);
  const looks = (count: number, cpuShare: number, usedBytes = 40 * MIB): (string | undefined)[] =>
    Array.from({ length: count }, () => {
      const how = memory.look({ usedBytes, cpuShare });
      if (how !== undefined) memory.collected(usedBytes);
      return how;
    });
  looks(2, BUSY);
  const said = looks(20, IDLE);
  t.same(said.filter(Boolean), ['thorough'], 'although what it uses is the same');
  t.ok(said.indexOf('thorough') >= 4, 'the start was collected not long before');
  looks(1, BUSY);
  t.same(looks(1, IDLE), ['thorough']);
  looks(1, BUSY);
  t.same(looks(6, IDLE).filter(Boolean), [], 'too soon');
  t.same(looks(1, 0.05), [undefined], 'it has something to do');
  t.same(looks(1, IDLE), ['thorough']);
  looks(20, BUSY);
  t.same(looks(20, IDLE, 200 * MIB).filter(Boolean), ['usual'], 'the pause would be long');
  t.same(looks(1, IDLE), ['thorough'], 'it is small again');
});

t.test('a slow creep is collected when it is worth the time', async (t) => {
  const memory = started(40 * MIB);
  let collections = 0;
  for (let used = 40 * MIB, look = 0; look < 400; look++, used += 100 * 1024) {
    if (!memory.look({ usedBytes: used, cpuShare: IDLE })) continue;
    collections += 1;
    used = 40 * MIB;
    memory.collected(used);
  }
  t.ok(collections >= 3 && collections <= 5, `${collections} for 39 MiB of garbage`);
});

t.test('after a fall by itself, growth counts from there', async (t) => {
  const memory = started(40 * MIB);
  memory.look({ usedBytes: 200 * MIB, cpuShare: BUSY });
  memory.collected(200 * MIB);
  t.notOk(memory.look({ usedBytes: 50 * MIB, cpuShare: IDLE }));
  t.ok(memory.look({ usedBytes: 70 * MIB, cpuShare: IDLE }));
});
