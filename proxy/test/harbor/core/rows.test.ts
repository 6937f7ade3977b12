import type { NodeCommandState } from '@sepia/cluster/api/commands';
import t from 'tap';
import { hostOfUrl, nodeRows } from '../../../src/harbor/core/rows.ts';

t.test('a member is shown by the host of its URL', async (t) => {
  t.equal(hostOfUrl('https://origin-1.example:8443/x'), 'origin-1.example');
  t.equal(hostOfUrl('http://[2001:db8::1]:80'), '2001:db8::1');
  t.equal(hostOfUrl('origin-1'), '', 'no URL');
});

t.test('a node that went away before it reported has failed, one that reported has not', async (t) => {
  const nodes: NodeCommandState[] = [
    { nodeId: 'n1', leased: false, state: 'pending' },
    {
      nodeId: 'n2',
      leased: false,
      state: 'running',
      address: '[2001:db8::1]:6881',
      doneBytes: 3,
      totalBytes: 9,
    },
    { nodeId: 'n3', leased: false, state: 'done', address: '192.0.2.1:6881' },
    { nodeId: 'n4', leased: true, state: 'failed', error: 'disk' },
  ];
  const rows = nodeRows(nodes, () => true);
  t.same(
    rows.map(({ id, ip, state }) => [id, ip, state]),
    [
      ['n1', '', 'failed'],
      ['n2', '2001:db8::1', 'failed'],
      ['n3', '192.0.2.1', 'done'],
      ['n4', '', 'failed'],
    ],
  );
  t.match(rows[1], { description: /went away/, doneBytes: 3, totalBytes: 9 });
  t.equal(rows[3]?.description, 'disk', 'its own word');
  t.same(
    nodeRows(nodes, () => false).map(({ state }) => state),
    ['pending', 'running', 'done', 'failed'],
  );
});
