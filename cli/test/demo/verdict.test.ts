import { stripVTControlCharacters } from 'node:util';
import t from 'tap';
import { parseAgentBytes, peerShare } from '../../src/demo/agent-bytes.ts';
import type { PullResult } from '../../src/demo/pull-race.ts';
import { resultTable, verdict } from '../../src/demo/result-table.ts';

const MIB = 1024 * 1024;

function result(peer: number, origin: number, failure?: string): PullResult {
  return {
    agent: 'agent-1',
    totalMs: 1,
    firstByteMs: 1,
    sizeBytes: 1,
    bytes: { peer, origin, upstream: 0, cache: 0 },
    failure,
  };
}

t.test('bytes by source are read from the metrics', async (t) => {
  const text = [
    '# TYPE sepia_agent_bytes_total counter',
    'sepia_agent_bytes_total{source="peer",service="agent",member="agent-1"} 1.5e+6',
    'sepia_agent_bytes_total{service="agent",source="origin"} 20',
    'sepia_agent_bytes_total{source="cache"} 7',
    'sepia_agent_other_total{source="peer"} 9',
  ].join('\n');
  t.same(parseAgentBytes(text), { peer: 1_500_000, origin: 20, upstream: 0, cache: 7 });
});

t.test('the demo is passed only with every digest right and half of the bytes from peers', async (t) => {
  t.equal(verdict([result(60, 40), result(50, 50)], MIB).passed, true);
  t.equal(verdict([result(40, 60), result(50, 50)], MIB).passed, false);
  t.equal(verdict([result(100, 0), result(100, 0, 'wrong')], MIB).passed, false);
  t.equal(verdict([result(0, 0)], MIB).passed, false, 'bytes from the cache prove nothing');
  t.equal(peerShare([{ peer: 3, origin: 1, upstream: 0, cache: 100 }]), 0.75);
});

t.test('the table fits 80 columns', async (t) => {
  const bytes = { peer: 149 * MIB, origin: 43 * MIB, upstream: 99.9 * MIB, cache: 0 };
  const slow = { ...result(0, 0), totalMs: 65_000, firstByteMs: 12_000, bytes };
  const lines = resultTable([slow], process.stdout).split('\n').map(stripVTControlCharacters);
  t.equal(lines.length, 5);
  for (const line of lines) t.ok(line.length <= 80, line);
});
