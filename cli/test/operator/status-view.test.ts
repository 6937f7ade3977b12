import t from 'tap';
import { type MemberStatus, statusText } from '../../src/operator/status-view.ts';

const BYTES = { peer: 1023 * 2 ** 20, origin: 1, upstream: 0, cache: 1023 * 2 ** 30 };

function member(name: string, role: string, more: Partial<MemberStatus> = {}): MemberStatus {
  const url = 'http://127.0.0.1:17000';
  return { name, role, url, pid: 4_194_304, state: 'ready', warnings: [], bytes: undefined, ...more };
}

t.test('the state of all members fits 80 columns, with what is wrong below', async (t) => {
  const why = 'not ready: waiting for records from origin-2 and origin-3, which were asked several times';
  const all = [
    member('origin-1', 'origin', { state: why }),
    member('origin-2', 'origin', { state: 'does not answer' }),
    member('snapshotter-1', 'snapshotter'),
    member('agent-1', 'agent', { bytes: BYTES, warnings: ['cache: what is kept could not be counted'] }),
  ];
  const lines = statusText(all).split('\n');
  t.same(
    lines.filter((line) => line.length > 80),
    [`origin-1: ${why}`],
  );
  t.match(lines[3], /│ origin-1 .* 4194304 .* http:\S+ │ not ready +│/);
  t.match(lines[4], /│ does not answer │/);
  t.ok(lines.includes('│ agent-1 │   1023 MiB │          1 B │           0 B │   1023 GiB │'));
  t.same(lines.slice(-3), [
    `origin-1: ${why}`,
    'agent-1: cache: what is kept could not be counted',
    '2 of 4 members are not ready.',
  ]);
});

t.test('where no agent runs there is no table of their bytes', async (t) => {
  const text = statusText([member('origin-1', 'origin')]);
  t.notMatch(text, /from peers/);
  t.match(text, /\nAll 1 members are ready\.$/);
});
