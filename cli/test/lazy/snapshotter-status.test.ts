import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import {
  cacheText,
  doorText,
  imagesOf,
  imagesText,
  snapshotterDoor,
  snapshotterLayers,
  statusText,
} from '../../src/lazy/snapshotter-status.ts';
import { sepia } from '../support/sepia.ts';

const BASE = { indexFile: '/i', image: 'registry.example/app', spans: 8, spansHere: 3 };

t.test('each layer has a line, and a reason where it is not shown', async (t) => {
  const text = statusText([
    { ...BASE, state: 'lazy', layer: 'sha256:aa' },
    { ...BASE, state: 'refused', spans: 0, spansHere: 0, reason: 'layer index is not valid' },
  ]);
  t.equal(
    text,
    'lazy      37 %  registry.example/app  sha256:aa\nrefused         registry.example/app  /i: layer index is not valid\n',
  );
  t.match(statusText([]), /ordinary way/);
});

t.test('each image says whether it is lazy, and why not, layer by layer', async (t) => {
  const manifest = `sha256:${'a'.repeat(64)}`;
  const layers = [
    { digest: 'sha256:aa', diffId: 'sha256:1' },
    { digest: 'sha256:cc', diffId: 'sha256:2', reason: 'sparse' },
  ];
  const one = { image: 'local/team/app', manifest, isLazy: false, layers, atMs: 1 };
  const text = imagesText([one], [{ ...BASE, state: 'lazy', layer: 'sha256:aa' }]);
  t.equal(
    text,
    `local/team/app@${manifest}  ordinary\n  sha256:aa  lazy, 37 % here\n  sha256:cc  not lazy: sparse\n`,
  );
  for (const name of ['team/app:1', 'registry.example:5000/team/app', `team/app@${manifest}`])
    t.equal(imagesOf([one], name).length, 1, name);
  for (const name of ['team/apple', 'app', `team/app@sha256:${'b'.repeat(64)}`])
    t.equal(imagesOf([one], name).length, 0, name);
});

t.test('the disk for layers has a line, and says why there is too much on it', async (t) => {
  const cache = { usedBytes: 3_000_000, budgetBytes: 2_000_000, layers: 4, layersInUse: 3 };
  t.match(cacheText(cache), /^cache: 2\.9 MiB of 1\.9 MiB, 3 of 4 layers in use\n$/);
  t.match(cacheText({ ...cache, lack: 'all are in use' }), /in use; all are in use\n$/);
  t.equal(cacheText(undefined), '');
});

t.test('the door has a line, with what stands in the way of another', async (t) => {
  const first = { door: 1, at: '/content' } as const;
  const second = { door: 2, at: '/s.sock' } as const;
  const all = { door: 1, reasons: [] } as const;
  const old = { door: 2, reasons: ['containerd is 1.6; 2.4 is needed'] } as const;
  const none = { door: 'none', reasons: ['the kernel has no EROFS', 'root is needed'] } as const;
  t.equal(doorText(first, all, true), 'door 1: /content, a folder for containerd’s erofs snapshotter\n');
  t.equal(
    doorText(second, old, undefined),
    'door 2: /s.sock, a snapshotter for containerd 1.6 to 2.3; not door 1: containerd is 1.6; 2.4 is needed\n',
  );
  t.match(doorText(second, all, true), /; door 1 would work here, too\n$/);
  t.match(doorText(first, old, true), /; it does not work here: containerd is 1\.6; 2\.4 is needed\n$/);
  for (const door of [first, second])
    t.match(
      doorText(door, none, true),
      /; it does not work here: the kernel has no EROFS; root is needed\n$/,
    );
  t.match(doorText(first, all, false), /; containerd does not use it: sepia configure containerd --lazy\n$/);
  t.equal(doorText(undefined, all, true), '', 'a snapshotter of an older version');
});

t.test('what answers is read and checked; silence and other answers are told', async (t) => {
  let answer: object | undefined = [{ ...BASE, state: 'complete', layer: 'sha256:aa', diffId: 'sha256:bb' }];
  const server = createServer((_request, response) => {
    response.writeHead(answer === undefined ? 404 : 200).end(JSON.stringify(answer ?? {}));
  });
  await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
  const admin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  t.equal((await snapshotterLayers(admin))[0]!.state, 'complete');
  answer = undefined;
  await t.rejects(snapshotterLayers(admin), { code: 'PEER_HTTP', message: /answers 404/ });
  t.equal(await snapshotterDoor(admin), undefined, 'an older version does not say its door');
  answer = { door: 2, at: '/s.sock' };
  t.same(await snapshotterDoor(admin), answer);
  server.closeAllConnections();
  await new Promise((settle) => server.close(settle));
  const silent = { code: 'PEER_HTTP', message: /no snapshotter answers at/ };
  await t.rejects(snapshotterLayers(admin), silent);
  await t.rejects(snapshotterDoor(admin), silent);
});

t.test('a token is sent to the port that it names alone, from a file that nobody else reads', async (t) => {
  const dir = t.testdir();
  const file = join(dir, 'debug-token');
  let named = file;
  let page: string | undefined;
  const given: (string | undefined)[] = [];
  const server = createServer(({ headers }, response) => {
    given.push(headers.authorization);
    if (headers.authorization !== undefined) response.end('[]');
    else response.writeHead(401).end(page ?? JSON.stringify({ errors: [{ detail: { file: named } }] }));
  });
  await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const admin = `http://127.0.0.1:${port}`;
  const tokenOf = (of: number): string => `sepia-debug-${of}-${'a'.repeat(64)}`;
  const put = (text: string, mode = 0o600): void => {
    rmSync(file, { force: true });
    writeFileSync(file, text, { mode });
  };
  put(tokenOf(port));
  t.same(await snapshotterLayers(admin), []);
  t.same(given.splice(0), [undefined, `Bearer ${tokenOf(port)}`]);
  const refused = async (message: RegExp): Promise<void> => {
    await t.rejects(snapshotterLayers(admin), { code: 'PEER_HTTP', message });
    t.same(given.splice(0), [undefined], 'nothing was sent');
  };
  put(tokenOf(port + 1));
  await refused(/no token/);
  put('b'.repeat(64));
  await refused(/no token/);
  put(tokenOf(port), 0o644);
  await refused(/no token/);
  rmSync(file);
  await refused(/root of this node alone .*ENOENT/);
  put(tokenOf(port));
  renameSync(file, join(dir, 'real'));
  symlinkSync(join(dir, 'real'), file);
  await refused(/ELOOP/);
  named = join(dir, 'real');
  await refused(/answers 401/);
  page = '<html>log in</html>';
  await refused(/answers 401/);
});

t.test('an image that the node does not know is refused, as text and as JSON', async (t) => {
  const server = createServer((_request, response) => void response.end('[]'));
  await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
  t.teardown(() => server.closeAllConnections());
  t.teardown(() => server.close());
  const admin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  for (const form of [[], ['--json']]) {
    const { code, out, err } = await sepia('lazy', 'status', 'team/none:1', '--admin', admin, ...form);
    t.equal(code, 2);
    t.equal(out, '');
    t.match(err, /team\/none:1 is none of the last 1,000 images/);
  }
});
