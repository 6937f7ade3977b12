import t from 'tap';
import { mergeNodeStates } from '../src/node-commands.ts';

t.test('the furthest state of a node counts, a lease anywhere is a lease', async (t) => {
  const merged = mergeNodeStates([
    [
      { nodeId: 'b', state: 'running', leased: false, doneBytes: 5 },
      { nodeId: 'a', state: 'pending', leased: true, address: '10.0.0.1:1' },
    ],
    [
      { nodeId: 'a', state: 'done', leased: false, doneBytes: 9 },
      { nodeId: 'b', state: 'running', leased: true, doneBytes: 7 },
    ],
  ]);
  t.same(merged, [
    { nodeId: 'a', state: 'done', leased: true, doneBytes: 9, address: '10.0.0.1:1' },
    { nodeId: 'b', state: 'running', leased: true, doneBytes: 7 },
  ]);
  t.same(mergeNodeStates([]), []);
});
