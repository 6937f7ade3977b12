import type { TLSSocket } from 'node:tls';
import { silentLogger } from '@sepia/base/log';
import { HttpListener } from '@sepia/http/listener';
import type { FurtherAddresses } from '@sepia/http/names/in-turn';
import { createDispatcher } from '@sepia/http/sockets';
import { type MemberEncryption, memberEncryption } from '@sepia/http/tls/cluster-encryption';
import { listenerTls } from '@sepia/http/tls/listener-tls';
import t from 'tap';
import { openTargetClient } from '../src/client-setup.ts';
import { soon } from './client-fixture.ts';

const KEY = Buffer.alloc(32, 7);
const OWN = { log: silentLogger(), nowMs: () => performance.now(), dateMs: () => Date.now(), env: {} };

/** Writes to a proxy of the cluster. */
const clientOf = (
  url: string,
  encryption: MemberEncryption | undefined,
  furtherAddresses?: FurtherAddresses,
) =>
  openTargetClient(OWN, {
    name: 'local',
    to: { url, insecure: false, 'redirect-hosts': [], 'realm-hosts': [] },
    caKey: 'upstreams.local.ca',
    account: { name: 'local', config: undefined },
    connections: 2,
    ns: 'local',
    member: { encryption, furtherAddresses },
  });

t.test('a proxy of the cluster is written to as the policy of the cluster says', async (t) => {
  for (const policy of ['off', 'accept', 'on', 'require'] as const) {
    const encryption = memberEncryption(policy, KEY);
    const came: boolean[] = [];
    const tls = listenerTls(OWN, { key: 'listen', encryption });
    const listener = await HttpListener.start(
      (req, res) => {
        came.push((req.socket as TLSSocket).encrypted === true);
        res.writeHead(404).end();
      },
      '127.0.0.1:0',
      'listen',
      { tls },
    );
    t.teardown(() => listener.stop(0));
    const client = clientOf(listener.url, encryption);
    t.equal(await client.headManifest('team/app', '1', soon()), undefined);
    await client.close();
    t.ok(came.length > 0);
    t.ok(
      came.every((one) => one === (policy === 'on' || policy === 'require')),
      policy,
    );
  }
});

t.test('who answers for tokens elsewhere is no member', async (t) => {
  const encryption = memberEncryption('require', KEY);
  const asked: string[] = [];
  const tokens = await HttpListener.start(
    (req, res) => {
      asked.push((req.socket as TLSSocket).encrypted === true ? 'encrypted' : 'plain');
      res.setHeader('content-type', 'application/json').end('{"token":"t"}');
    },
    '127.0.0.1:0',
    'listen',
    { tls: listenerTls(OWN, { key: 'listen', encryption: memberEncryption('accept', KEY) }) },
  );
  t.teardown(() => tokens.stop(0));
  const proxy = await HttpListener.start(
    (req, res) => {
      if (req.headers.authorization === 'Bearer t') return void res.writeHead(404).end();
      const realm = `Bearer realm="${tokens.url}/token",service="sepia"`;
      res.writeHead(401, { 'www-authenticate': realm }).end();
    },
    '127.0.0.1:0',
    'listen',
    { tls: listenerTls(OWN, { key: 'listen', encryption }) },
  );
  t.teardown(() => proxy.stop(0));
  const client = clientOf(proxy.url, encryption);
  t.equal(await client.headManifest('team/app', '1', soon()), undefined);
  await client.close();
  t.same(asked, ['plain']);
});

t.test('sockets to members never lead through an HTTP proxy', async (t) => {
  const encryption = memberEncryption('on', KEY);
  t.throws(() => createDispatcher({ encryption, proxy: { url: 'http://127.0.0.1:1' } }), TypeError);
});

t.test(
  'a proxy of the cluster is written to at its second address where the first leads to nobody',
  async (t) => {
    let came = 0;
    const listener = await HttpListener.start(
      (_, res) => {
        came += 1;
        res.writeHead(404).end();
      },
      '127.0.0.1:0',
      'listen',
    );
    t.teardown(() => listener.stop(0));
    const client = clientOf(`http://127.0.0.2:${new URL(listener.url).port}`, undefined, () => [
      listener.url,
    ]);
    t.equal(await client.headManifest('team/app', '1', soon()), undefined);
    await client.close();
    t.ok(came > 0);
  },
);
