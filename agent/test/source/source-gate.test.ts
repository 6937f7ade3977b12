import t from 'tap';
import { SourceGate } from '../../src/source/source-gate.ts';

const NEVER = new AbortController().signal;

t.test('a client that leaves while it waits takes no place from those behind it', async (t) => {
  const gate = new SourceGate(1);
  const leave = await gate.enter('blob', NEVER);
  const client = new AbortController();
  const left = gate.enter('blob', client.signal);
  const behind = gate.enter('blob', NEVER);
  client.abort(new Error('gone'));
  await t.rejects(left, { message: 'gone' });
  leave();
  const entered = await Promise.race([
    behind.then(() => 'entered'),
    new Promise((resolve) => setImmediate(() => setImmediate(resolve, 'waits'))),
  ]);
  t.equal(entered, 'entered');
});

t.test('more than may wait are refused', async (t) => {
  const gate = new SourceGate(1);
  const leave = await gate.enter('blob', NEVER);
  const waiting = Array.from({ length: 256 }, async () => await gate.enter('blob', NEVER));
  await t.rejects(gate.enter('blob', NEVER), { code: 'NO_PEERS' });
  leave();
  for (const one of waiting) (await one)();
});

t.test('since when the cluster is silent', async (t) => {
  const gate = new SourceGate(1);
  t.equal(gate.silentForMs(5), 0);
  gate.note(false, 10);
  gate.note(false, 20);
  t.equal(gate.silentForMs(25), 15);
  gate.note(true, 30);
  t.equal(gate.silentForMs(35), 0);
});
