import { totalmem } from 'node:os';
import t from 'tap';
import { processMemoryBytes, withinMemory } from '../../src/memory/process-memory.ts';

const MIB = 2 ** 20;

t.test('what is kept in memory leaves most of it to the rest', async (t) => {
  t.equal(withinMemory(64 * MIB, 2048 * MIB), 64 * MIB);
  t.equal(withinMemory(64 * MIB, 160 * MIB), 20 * MIB);
  t.ok(processMemoryBytes() > 0 && processMemoryBytes() <= totalmem());
  t.equal(withinMemory(Number.MAX_SAFE_INTEGER), Math.floor(processMemoryBytes() / 8));
});
