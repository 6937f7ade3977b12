import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, ServerCredentials, type ServerWritableStream, type sendUnaryData } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { ContainerdSnapshots } from '../../src/doors/containerd-snapshots.ts';
import { serviceIn } from '../../src/snapshots/service-in.ts';

const SRC = join(import.meta.dirname, '../../src');
const NAMESPACES = serviceIn(
  join(SRC, 'doors/namespaces.proto'),
  'containerd.services.namespaces.v1.Namespaces',
);
const SNAPSHOTS = serviceIn(
  join(SRC, 'snapshots/snapshots.proto'),
  'containerd.services.snapshots.v1.Snapshots',
);
const LABEL = 'io.containerd.erofs.v1/blob.ref';
const hex = (digit: string): string => digit.repeat(64);

type Labels = Readonly<Record<string, string>>;
type ListCall = ServerWritableStream<{ snapshotter: string }, { info: { name: string; labels: Labels }[] }>;

/** Where a containerd will be. */
function socketOf(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 's-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'c.sock');
}

/** A containerd with these labels of snapshots, by namespace. */
async function containerd(
  t: Test,
  snapshots: Readonly<Record<string, readonly Labels[]>>,
  socket = socketOf(t),
): Promise<string> {
  const server = new Server();
  server.addService(NAMESPACES, {
    List: (_call: unknown, reply: sendUnaryData<object>) =>
      reply(null, { namespaces: Object.keys(snapshots).map((name) => ({ name })) }),
  });
  server.addService(SNAPSHOTS, {
    List: (call: ListCall) => {
      const [namespace] = call.metadata.get('containerd-namespace');
      const own = call.request.snapshotter === 'erofs' ? (snapshots[String(namespace)] ?? []) : [];
      // One message each: there may be many.
      for (const labels of own) call.write({ info: [{ name: 'x', labels }] });
      call.end();
    },
  });
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    ),
  );
  t.teardown(() => server.forceShutdown());
  return socket;
}
const ref = (digit: string, folder: string): Labels => ({
  [LABEL]: `${folder}/sha256/${digit}${digit}/${hex(digit)}.erofs`,
});

t.test('layers that snapshots name are told, over all namespaces and by whatever folder', async (t) => {
  const asked = new ContainerdSnapshots(
    await containerd(t, {
      'k8s.io': [ref('a', '/var/lib/sepia/layer-content'), { other: 'label' }, ref('b', '/elsewhere')],
      moby: [ref('a', '/var/lib/sepia/layer-content'), ref('c', '/c'), { [LABEL]: '/no/layer.erofs' }, {}],
      empty: [],
    }),
  );
  t.teardown(() => asked.close());
  const found = await asked.layers();
  t.same([...found].sort(), [`sha256:${hex('a')}`, `sha256:${hex('b')}`, `sha256:${hex('c')}`]);
});

t.test('a containerd that does not answer is an error that names its socket', async (t) => {
  const asked = new ContainerdSnapshots('/nowhere/c.sock');
  t.teardown(() => asked.close());
  await t.rejects(asked.layers(), { code: 'PEER_HTTP', message: /containerd at \/nowhere\/c\.sock/ });
});

t.test('a containerd that starts later is heard at the next question', async (t) => {
  const socket = socketOf(t);
  const asked = new ContainerdSnapshots(socket);
  for (let round = 0; round < 5; round += 1)
    await t.rejects(asked.layers(), { code: 'PEER_HTTP', message: /ENOENT/ });
  await containerd(t, { moby: [ref('a', '/x')] }, socket);
  t.same([...(await asked.layers())], [`sha256:${hex('a')}`]);
});

t.test('one that took the connection and never spoke holds up no later question', async (t) => {
  const socket = socketOf(t);
  const asked = new ContainerdSnapshots(socket, 500);
  const taken: Socket[] = [];
  const mute = createServer((connection) => taken.push(connection.on('error', () => undefined)));
  await new Promise<void>((resolve) => mute.listen(socket, resolve));
  await t.rejects(asked.layers(), { code: 'PEER_HTTP', message: /took the connection and said nothing/ });
  t.equal(taken.length, 1);
  const gone = new Promise((resolve) => mute.close(resolve));
  for (const connection of taken) connection.destroy();
  await gone;
  await containerd(t, { moby: [ref('a', '/x')] }, socket);
  t.same([...(await new ContainerdSnapshots(socket).layers())], [`sha256:${hex('a')}`]);
  t.same([...(await asked.layers())], [`sha256:${hex('a')}`]);
});

t.test('a question that waits ends when nobody wants its answer any more', async (t) => {
  const socket = socketOf(t);
  const asked = new ContainerdSnapshots(socket, 60_000);
  const mute = createServer((connection) => connection.on('error', () => undefined).resume());
  await new Promise<void>((resolve) => mute.listen(socket, resolve));
  const connected = new Promise((resolve) => mute.once('connection', resolve));
  const told = t.rejects(asked.layers(), {
    code: 'PEER_HTTP',
    message: /took the connection and said nothing/,
  });
  await connected;
  asked.close();
  await told;
  mute.close();
});
