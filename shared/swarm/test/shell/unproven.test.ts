import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { SwarmEngine } from '../../src/shell/engine.ts';

async function dialFrom(t: Test, from: string, port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, localAddress: from });
  socket.on('error', () => undefined);
  t.teardown(() => socket.destroy());
  await Promise.race([once(socket, 'connect'), once(socket, 'close')]);
  return socket.resume();
}

async function engineOf(t: Test): Promise<{ port: number; lines: Record<string, unknown>[] }> {
  const lines: Record<string, unknown>[] = [];
  const log = { warn: (detail: object) => void lines.push(detail as Record<string, unknown>) };
  const engine = new SwarmEngine({
    clusterKey: Buffer.alloc(32, 7),
    peerId: Buffer.alloc(20, 8),
    log: { ...log, error: log.warn } as unknown as ConstructorParameters<typeof SwarmEngine>[0]['log'],
  });
  t.teardown(() => engine.stop());
  return { port: (await engine.listen('127.0.0.1:0')).port, lines };
}

t.test('one host that dials and says nothing does not keep others out', async (t) => {
  const { port } = await engineOf(t);
  const greedy: Socket[] = [];
  for (let n = 0; n < 80; n++) greedy.push(await dialFrom(t, '127.0.0.2', port));
  await until(() => greedy.filter((socket) => socket.closed).length >= 16, 'those beyond its share are cut');
  const other = await dialFrom(t, '127.0.0.3', port);
  await new Promise((resolve) => setImmediate(resolve));
  t.notOk(other.closed, 'another host comes in');
});

t.test('what a bad peer sends is a line a minute, not a line each time', async (t) => {
  const { port, lines } = await engineOf(t);
  for (let n = 0; n < 30; n++) {
    const socket = await dialFrom(t, '127.0.0.2', port);
    socket.write(Buffer.alloc(68, n));
    await until(() => socket.closed, 'it is refused');
  }
  t.equal(lines.length, 1);
  t.equal(lines[0]!['address'], '127.0.0.2');
});
