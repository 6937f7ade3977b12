import t from 'tap';
import { IdleMemory } from '../../../src/memory/core/idle-memory.ts';

const MIB = 1024 * 1024;
const IDLE = 0.01;
const BUSY = 0.4;

t.test('what a burst left is collected once the process is idle, and once only', async (t) => {
  const memory = new IdleMemory();
  t.notOk(memory.look({ usedBytes: 40 * MIB, cpuShare: IDLE }), 'nothing has grown');
  t.notOk(memory.look({ usedBytes: 160 * MIB, cpuShare: BUSY }), 'it is busy: V8 collects by itself');
  t.ok(memory.look({ usedBytes: 160 * MIB, cpuShare: IDLE }));
  memory.collected(120 * MIB);
  for (let look = 0; look < 100; look++)
    t.notOk(memory.look({ usedBytes: 120 * MIB, cpuShare: IDLE }), 'the rest is in use');
});

t.test('a slow creep is collected when it is worth the time', async (t) => {
  const memory = new IdleMemory();
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
  const memory = new IdleMemory();
  memory.look({ usedBytes: 200 * MIB, cpuShare: BUSY });
  t.notOk(memory.look({ usedBytes: 50 * MIB, cpuShare: IDLE }));
  t.ok(memory.look({ usedBytes: 70 * MIB, cpuShare: IDLE }));
});
